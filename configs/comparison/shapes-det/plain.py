_base_ = '../_base_/shapes-det.py'
