_base_ = './kdna-resnet18_8xb32_in1k.py'
# The paper has no ResNet-34: the recipe of its ResNet-18.
model = dict(backbone=dict(depth=34))
