# The registered backbone.
_base_ = [
    '../_base_/mmkdna.py', '../_base_/models/fpn_r18-half_shapes.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/shapes_700.py', 'mmseg::_base_/default_runtime.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
randomness = dict(seed=0)
