_base_ = [
    './faster-rcnn_r50-kdna_fpn_1x_coco.py',
    '../_base_/models/mobilenet-v2-kdna_fpn.py'
]
model = _base_.mobilenet_v2
