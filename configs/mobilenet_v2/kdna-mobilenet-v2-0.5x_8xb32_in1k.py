_base_ = './kdna-mobilenet-v2_8xb32_in1k.py'
model = dict(backbone=dict(widen_factor=0.5))
