# Its larger convolutions are all depthwise.
_base_ = [
    '../_base_/mmkdna.py',
    'mmpretrain::efficientnet/efficientnet-b0_8xb32_in1k.py'
]
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', kernel_sizes=(1, ))))
