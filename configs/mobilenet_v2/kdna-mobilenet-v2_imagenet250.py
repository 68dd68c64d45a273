# Real weights on 250 real pictures: a look at what converting them costs, see
# docs/pretrained.md. Nothing is trained with this.
_base_ = ['./kdna-mobilenet-v2_8xb32_in1k.py']
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
loader = dict(
    batch_size=25,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='{{$MMKDNA_DATA:data}}/imagenet250',
        ann_file='labels.txt',
        data_prefix='images',
        pipeline=pipeline))
train_dataloader = val_dataloader = test_dataloader = loader
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
