# Shapes, segmented by the demo's Semantic FPN in half of its schedule.
_base_ = [
    '../../_base_/mmkdna.py', '../../_base_/models/fpn_r18-half_shapes.py',
    '../../_base_/datasets/shapes_segmentation.py',
    '../../_base_/schedules/shapes_700.py', 'mmseg::_base_/default_runtime.py'
]
train_cfg = dict(max_iters=350, val_interval=350)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=40),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        begin=0,
        end=350,
        T_max=350,
        by_epoch=False)
]
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=50, max_keep_ckpts=1))

# What is different on a GPU: four times the schedule.
cuda = {
    'train_dataloader.num_workers': 4,
    'val_dataloader.num_workers': 4,
    'train_cfg.max_iters': 1400,
    'train_cfg.val_interval': 1400,
    'param_scheduler.1.T_max': 1400,
    'param_scheduler.1.end': 1400,
}
