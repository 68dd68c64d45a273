_base_ = ['../_base_/mmkdna.py', 'mmdet::atss/atss_r50_fpn_1x_coco.py']
model = dict(backbone=dict(type='KernelDNAResNet'))
