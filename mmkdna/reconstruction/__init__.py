"""Networks that share, made to compute what plain ones did."""
from .fitting import Recipe
from .reconstruction_hook import ReconstructionHook
from .report import ChildReport, PartReport, ReconstructionReport
from .whole_model import reconstruct

__all__ = [
    'ChildReport', 'PartReport', 'Recipe', 'ReconstructionHook',
    'ReconstructionReport', 'reconstruct'
]
