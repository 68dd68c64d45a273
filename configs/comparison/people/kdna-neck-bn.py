# KernelDNA in the neck alone, with the gates' default norm.
_base_ = '../_base_/people.py'
model = dict(neck=dict(conv_cfg=dict(type='KernelDNA')))
