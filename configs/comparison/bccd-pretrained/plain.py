_base_ = '../_base_/bccd-pretrained.py'
