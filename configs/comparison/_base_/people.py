# People in photos, detected by ATSS on a pretrained MobileNetV2.
_base_ = './bccd-pretrained.py'
data_root = '{{$MMKDNA_DATA:data}}/coco_person/'
classes = ('person', )
model = dict(bbox_head=dict(num_classes=1))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor'))
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/train_mini.json',
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/val_mini.json',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val_mini.json')
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=20),
    dict(
        type='CosineAnnealingLR',
        T_max=6,
        end=6,
        by_epoch=True,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=6, val_interval=6)

# What is different on a GPU: six times the schedule.
cuda = {
    'train_cfg.max_epochs': 36,
    'train_cfg.val_interval': 36,
    'param_scheduler.1.T_max': 36,
    'param_scheduler.1.end': 36,
}
