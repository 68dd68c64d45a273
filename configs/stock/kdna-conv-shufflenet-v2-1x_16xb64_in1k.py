# Its larger convolutions are all depthwise.
_base_ = [
    '../_base_/mmkdna.py',
    'mmpretrain::shufflenet_v2/shufflenet-v2-1x_16xb64_in1k.py'
]
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', kernel_sizes=(1, ))))
