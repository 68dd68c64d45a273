# Children are fitted on every other picture, and tested on the rest.
_base_ = ['./kdna-mobilenet-v2_imagenet250.py']
train_dataloader = dict(dataset=dict(indices=list(range(0, 250, 2))))
test_dataloader = dict(dataset=dict(indices=list(range(1, 250, 2))))
val_dataloader = test_dataloader
