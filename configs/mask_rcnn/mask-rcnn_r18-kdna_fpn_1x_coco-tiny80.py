_base_ = './mask-rcnn_r18-kdna_fpn_1x_coco.py'
# A subset of COCO in COCO's layout, for runs of minutes.
data_root = '{{$MMKDNA_DATA:data}}/coco_tiny80/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
