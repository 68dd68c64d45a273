"""Between the checkpoints of KernelDNA's authors and ours, both ways.

One table per network lists each tensor under both its names, and both
directions read the same table. Ours are the names in the classifiers of
``configs/resnet`` and ``configs/mobilenet_v2``.
"""
from .networks import networks
from .table import PREFIX
from .translation import (MODULE, mmkdna_to_official, official_to_mmkdna,
                          recognize, strip_module)

__all__ = [
    'MODULE', 'PREFIX', 'mmkdna_to_official', 'networks', 'official_to_mmkdna',
    'recognize', 'strip_module'
]
