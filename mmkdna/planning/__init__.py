"""Which convolutions of a network share, for a wished saving."""
from .candidates import Candidate, count_parameters, find_candidates
from .choosing import Step, find_curve, find_plan, most_saved
from .damage import (Damage, LinkDamage, Measurement, PlanDamage, Split,
                     find_blocks, split_by_unit)
from .picture import draw_curve
from .units import PlannedUnit, find_units, plan_text, unlinked_config

__all__ = [
    'Candidate', 'Damage', 'LinkDamage', 'Measurement', 'PlanDamage',
    'PlannedUnit', 'Split', 'Step', 'count_parameters', 'draw_curve',
    'find_blocks', 'find_candidates', 'find_curve', 'find_plan', 'find_units',
    'most_saved', 'plan_text', 'split_by_unit', 'unlinked_config'
]
