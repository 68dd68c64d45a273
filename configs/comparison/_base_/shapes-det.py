# Shapes, detected by the demo's RetinaNet in half of its schedule.
_base_ = [
    '../../_base_/mmkdna.py',
    '../../_base_/models/retinanet_r18-half_fpn_shapes.py',
    '../../_base_/datasets/shapes_detection.py',
    '../../_base_/schedules/shapes_12e.py', 'mmdet::_base_/default_runtime.py'
]
train_cfg = dict(max_epochs=6, val_interval=6)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=40),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-5,
        T_max=6,
        end=6,
        by_epoch=True,
        convert_to_iter_based=True)
]
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=1))

# What is different on a GPU: four times the schedule.
cuda = {
    'train_dataloader.num_workers': 4,
    'val_dataloader.num_workers': 4,
    'train_cfg.max_epochs': 24,
    'train_cfg.val_interval': 24,
    'param_scheduler.1.T_max': 24,
    'param_scheduler.1.end': 24,
}
