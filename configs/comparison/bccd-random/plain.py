_base_ = '../_base_/bccd-random.py'
