_base_ = './kdna-resnet34_8xb32_in1k.py'
# The plain network of the same topology.
model = dict(backbone=dict(sharing_stages=()))
