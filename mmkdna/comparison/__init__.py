"""Experiments that differ in their convolutions, compared over seeds."""
from .picture import draw_comparison
from .runs import (TASKS, Run, config_hash, find_experiments, find_missing,
                   find_tasks, make_record, read_records, train)
from .summary import Summary, pareto_front, summarize, summary_table

__all__ = [
    'TASKS', 'Run', 'Summary', 'config_hash', 'draw_comparison',
    'find_experiments', 'find_missing', 'find_tasks', 'make_record',
    'pareto_front', 'read_records', 'summarize', 'summary_table', 'train'
]
