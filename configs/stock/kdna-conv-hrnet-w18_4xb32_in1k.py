_base_ = ['../_base_/mmkdna.py', 'mmpretrain::hrnet/hrnet-w18_4xb32_in1k.py']
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
