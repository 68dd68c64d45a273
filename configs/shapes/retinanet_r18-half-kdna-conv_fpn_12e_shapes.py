# Nothing but conv_cfg over stock classes.
_base_ = [
    '../_base_/mmkdna.py', '../_base_/models/retinanet_r18-half_fpn_shapes.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/shapes_12e.py', 'mmdet::_base_/default_runtime.py'
]
gn = dict(type='GN', num_groups=4)
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    # Like the head's own norm, that of its gates sees levels that differ.
    bbox_head=dict(conv_cfg=dict(type='KernelDNA', norm_cfg=gn)))
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=12))
log_processor = dict(window_size=10)
randomness = dict(seed=0)
