"""Trainings by tools/train.py, one after the other in the same processes.

Run by ``python trainings.py OUT.json CONFIG...``, or under torchrun. Importing
torch and mmdet takes longer than a training.
"""
import json
import os
import sys

from mmengine.dist import all_gather_object
from mmengine.logging import MessageHub

from tests.runs import load_tool


def train(config):
    """Train by a config.

    Args:
        config (str): The file.

    Returns:
        list[list[float]]: The loss at each step of each process.
    """
    launcher = 'pytorch' if 'RANK' in os.environ else 'none'
    sys.argv = ['train.py', config, '--launcher', launcher]
    load_tool('train').main()
    losses, _ = MessageHub.get_current_instance().get_scalar('train/loss').data
    return all_gather_object(losses.tolist())


def main(out, *configs):
    """Train by each config, and save the losses by its name."""
    losses = {config: train(config) for config in configs}
    if os.environ.get('RANK', '0') == '0':
        with open(out, 'w') as file:
            json.dump(losses, file)


if __name__ == '__main__':
    main(*sys.argv[1:])
