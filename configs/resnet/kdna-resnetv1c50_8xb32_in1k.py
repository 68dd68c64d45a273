_base_ = './kdna-resnet50_8xb32_in1k.py'
# What segmentors start from.
model = dict(backbone=dict(deep_stem=True))
