_base_ = '../comparison/bccd-random/plain.py'
