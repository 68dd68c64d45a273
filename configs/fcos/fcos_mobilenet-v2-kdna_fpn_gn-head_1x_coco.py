# torchvision's weights, where the base has those of caffe.
_base_ = [
    './fcos_r50-caffe-kdna_fpn_gn-head_1x_coco.py',
    '../_base_/models/mobilenet-v2-kdna_fpn.py'
]
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    **_base_.mobilenet_v2)
