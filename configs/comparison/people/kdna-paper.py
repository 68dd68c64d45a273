# KernelDNA where the paper has it; the topology is the stock one.
_base_ = '../_base_/people.py'
model = dict(backbone=dict(type='KernelDNAMobileNetV2'))
