_base_ = ['../_base_/mmkdna.py', 'mmpretrain::resnet/resnet18_8xb32_in1k.py']
# The paper's recipe: 90 epochs, cosine to 0.
model = dict(backbone=dict(type='KernelDNAResNet'))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', T_max=90, by_epoch=True)
train_cfg = dict(max_epochs=90)
