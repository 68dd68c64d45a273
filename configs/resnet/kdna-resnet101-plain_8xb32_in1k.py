_base_ = './kdna-resnet101_8xb32_in1k.py'
# The plain network, which is also the host library's own.
model = dict(backbone=dict(sharing_stages=()))
