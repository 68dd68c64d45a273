# KernelDNA in the paper's topology.
_base_ = '../_base_/shapes-seg.py'
model = dict(backbone=dict(type='KernelDNAResNet'))
