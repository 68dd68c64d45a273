_base_ = [
    '../_base_/mmkdna.py',
    'mmseg::swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'  # noqa: E501
]
# A gate's batch norm would see the two images of a GPU.
conv_cfg = dict(type='KernelDNA', norm_cfg=dict(type='GN', num_groups=4))
model = dict(decode_head=dict(conv_cfg=conv_cfg))
