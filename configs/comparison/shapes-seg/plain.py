_base_ = '../_base_/shapes-seg.py'
