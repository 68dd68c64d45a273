# Nothing but conv_cfg over the stock model.
_base_ = ['../_base_/mmkdna.py', 'mmpretrain::resnet/resnet50_8xb32_in1k.py']
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
