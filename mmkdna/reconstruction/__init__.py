"""Networks that share, made to compute what plain ones did."""
from .fitting import Recipe
from .reconstruction_hook import ReconstructionHook
from .report import PartReport, ReconstructionReport
from .whole_model import reconstruct

__all__ = [
    'PartReport', 'Recipe', 'ReconstructionHook', 'ReconstructionReport',
    'reconstruct'
]
