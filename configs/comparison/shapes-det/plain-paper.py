# Plain, in the paper's topology.
_base_ = '../_base_/shapes-det.py'
model = dict(backbone=dict(type='KernelDNAResNet', sharing_stages=()))
