# Its 3x3 convolutions are all grouped.
_base_ = [
    '../_base_/mmkdna.py', 'mmpretrain::regnet/regnetx-3.2gf_8xb64_in1k.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA', grouped=True)))
