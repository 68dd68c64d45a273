_base_ = '../comparison/bccd-random/kdna.py'
