# Blood cells, detected by ATSS on a MobileNetV2 from random weights.
_base_ = ['../../_base_/mmkdna.py', 'mmdet::atss/atss_r50_fpn_1x_coco.py']
data_root = '{{$MMKDNA_DATA:data}}/bccd/'
classes = ('RBC', 'WBC', 'Platelets')
model = dict(
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(_delete_=True, type='MobileNetV2', out_indices=(2, 4, 6)),
    neck=dict(
        in_channels=[32, 96, 320], out_channels=64, start_level=0, num_outs=4),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(strides=[8, 16, 32, 64])))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.001, weight_decay=0.05),
    clip_grad=dict(max_norm=10))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(
        type='CosineAnnealingLR',
        T_max=8,
        end=8,
        by_epoch=True,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(
    logger=dict(interval=13), checkpoint=dict(interval=1, max_keep_ckpts=1))

# What is different on a GPU: six times the schedule.
cuda = {
    'train_dataloader.num_workers': 4,
    'val_dataloader.num_workers': 4,
    'train_cfg.max_epochs': 48,
    'train_cfg.val_interval': 48,
    'param_scheduler.1.T_max': 48,
    'param_scheduler.1.end': 48,
}
