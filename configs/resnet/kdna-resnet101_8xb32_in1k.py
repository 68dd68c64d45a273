_base_ = './kdna-resnet50_8xb32_in1k.py'
# The paper has no ResNet-101: the recipe of its ResNet-50.
model = dict(backbone=dict(depth=101))
