_base_ = ['../_base_/mmkdna.py', 'mmpretrain::wrn/wide-resnet50_8xb32_in1k.py']
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
