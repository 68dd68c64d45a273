"""The arguments that several commands take."""
from __future__ import annotations
import argparse
import os

from mmengine.config import DictAction


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that train.py and test.py share.

    Args:
        parser (argparse.ArgumentParser): Parser to add them to.
    """
    parser.add_argument(
        '--work-dir',
        help='where logs, checkpoints and metrics go; by default the '
        'work_dir of the config or else ./work_dirs/{name of the config}')
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes of a distributed run were started')
    # Given by torch.distributed.launch, and only by that; in either spelling.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add --cfg-options.

    Args:
        parser (argparse.ArgumentParser): Parser to add it to.
    """
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that come before those of the config, such as '
        'train_dataloader.batch_size=4 model.neck.conv_cfg.type=KernelDNA '
        'model.neck.conv_cfg.rd_ratio=0.5, without white space in them')


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says on which pictures a model is run.

    Args:
        parser (argparse.ArgumentParser): Parser to add it to.
    """
    parser.add_argument(
        '--images', required=True, help='folder of pictures, without labels')
    add_picture_size(parser)


def add_picture_size(parser: argparse.ArgumentParser) -> None:
    """Add how many pictures a model is run on at a time, and their size.

    Args:
        parser (argparse.ArgumentParser): Parser to add it to.
    """
    parser.add_argument(
        '--batch',
        type=int,
        default=16,
        help='pictures at a time; default: 16')
    parser.add_argument(
        '--size',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='of a picture; default: that for which the FLOPs of the config '
        'are given')


def parse_args(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line.

    Args:
        parser (argparse.ArgumentParser): Parser with the arguments of
            :func:`add_cfg_options` or :func:`add_common_arguments`.

    Returns:
        argparse.Namespace: The arguments.
    """
    try:
        args = parser.parse_args()
    except ValueError as error:
        parser.error('--cfg-options takes KEY=VALUE, with brackets closed: '
                     f'{error}')
    if 'local_rank' in args:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args
