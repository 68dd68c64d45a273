"""What repeats in a network: outputs that are alike, and kernels."""
from .kernels import KernelPair, compare_kernels
from .measure import Similarity, measure_similarity

__all__ = ['KernelPair', 'Similarity', 'compare_kernels', 'measure_similarity']
