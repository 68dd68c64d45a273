_base_ = '../comparison/shapes-seg/kdna.py'
