"""Experiments that differ in their convolutions, compared over seeds."""
from .latency import measure_latency, read_latency
from .picture import draw_comparison
from .runs import (DEVICES, TASKS, Run, config_hash, find_experiments,
                   find_missing, find_tasks, folder_name, gpu_options,
                   read_experiment, read_records)
from .summary import (BASELINE, Difference, Latency, Summary, pareto_front,
                      summarize, summary_table)
from .trainings import Trainings, train_command

__all__ = [
    'BASELINE', 'DEVICES', 'TASKS', 'Difference', 'Latency', 'Run', 'Summary',
    'Trainings', 'config_hash', 'draw_comparison', 'find_experiments',
    'find_missing', 'find_tasks', 'folder_name', 'gpu_options',
    'measure_latency', 'pareto_front', 'read_experiment', 'read_latency',
    'read_records', 'summarize', 'summary_table', 'train_command'
]
