# Blood cells, detected by ATSS on a pretrained MobileNetV2.
_base_ = './bccd-random.py'
pretrained = '{{$MMKDNA_DATA:data}}/weights/mobilenet_v2_imagenet_mmdet.pth'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))
