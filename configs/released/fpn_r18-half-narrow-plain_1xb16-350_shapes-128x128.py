_base_ = '../comparison/shapes-seg/plain-narrow.py'
