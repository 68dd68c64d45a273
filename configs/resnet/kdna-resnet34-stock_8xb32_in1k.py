_base_ = './kdna-resnet34_8xb32_in1k.py'
# The host library's own network, with the same recipe.
model = dict(backbone=dict(type='ResNet'))
