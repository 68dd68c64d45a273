_base_ = '../comparison/cifar10/kdna.py'
