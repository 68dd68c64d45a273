_base_ = [
    '../_base_/mmkdna.py',
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py'
]
# The paper's recipe: 150 epochs, cosine to 0.
model = dict(backbone=dict(type='KernelDNAMobileNetV2'))
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=4e-5))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', T_max=150, by_epoch=True)
train_cfg = dict(max_epochs=150)
