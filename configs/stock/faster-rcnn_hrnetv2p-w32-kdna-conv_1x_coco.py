_base_ = [
    '../_base_/mmkdna.py', 'mmdet::hrnet/faster-rcnn_hrnetv2p-w32-1x_coco.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
