_base_ = ['../_base_/mmkdna.py', 'mmpretrain::resnet/resnet50_8xb32_in1k.py']
# The paper's recipe: 300 epochs, 20 of them warm-up, cosine to 0.
model = dict(backbone=dict(type='KernelDNAResNet'))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, end=20,
        convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=280, begin=20, end=300)
]
train_cfg = dict(max_epochs=300)
