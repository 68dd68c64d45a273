_base_ = '../comparison/cifar10/plain.py'
