# Its larger convolutions are all depthwise, and each block is a stage of its
# own by its name.
_base_ = [
    '../_base_/mmkdna.py',
    'mmpretrain::mobilenet_v3/mobilenet-v3-large_8xb128_in1k.py'
]
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelDNA', kernel_sizes=(1, ), stage_level=0)))
