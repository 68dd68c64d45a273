_base_ = [
    '../_base_/import_mmkdna.py',
    'mmseg::convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py'
]
custom_imports = dict(imports=['mmkdna'])
model = dict(backbone=dict(type='mmpretrain.KernelDNAConvNeXt'))
