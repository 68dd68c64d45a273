_base_ = [
    '../_base_/import_mmkdna.py',
    'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
]
custom_imports = dict(imports=['mmkdna'])
model = dict(backbone=dict(type='mmpretrain.KernelDNAConvNeXt'))
