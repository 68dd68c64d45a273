_base_ = './upernet_r18-kdna_4xb4-80k_ade20k-512x512.py'
# COCO pictures with labels mapped to ADE20K's, in its layout; not ADE20K.
data_root = '{{$MMKDNA_DATA:data}}/ade_from_coco'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
