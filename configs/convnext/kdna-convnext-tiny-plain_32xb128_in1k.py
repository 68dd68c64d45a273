# The control, which is the stock network.
_base_ = './kdna-convnext-tiny_32xb128_in1k.py'
model = dict(backbone=dict(sharing_stages=()))
