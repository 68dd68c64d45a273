"""Train a model of mmdet, mmseg or mmpretrain by its config."""
from __future__ import annotations
import argparse
import os
import signal

if __name__ == '__main__':
    # The libraries take seconds to load; main has a handler of its own.
    def _end(number, _):
        os.write(2, f'Ended by {signal.Signals(number).name}\n'.encode())
        os._exit(128 + number)

    for _number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(_number) != signal.SIG_IGN:
            signal.signal(_number, _end)

from mmengine.device import get_device

import mmkdna  # noqa: F401
from mmkdna.launch.arguments import add_common_arguments
from mmkdna.launch.checkpoint_check import check_checkpoint, check_pretrained
from mmkdna.launch.class_check import check_classes
from mmkdna.launch.command import command
from mmkdna.launch.config import load_config
from mmkdna.launch.data_check import check_data
from mmkdna.launch.errors import CommandError
from mmkdna.launch.fit_check import check_fit
from mmkdna.launch.model_check import check_model, check_recomputing
from mmkdna.launch.resuming import resume_newest
from mmkdna.launch.runner import build_runner
from mmkdna.launch.work_dir import held_work_dir


def get_parser() -> argparse.ArgumentParser:
    """The arguments of train.py."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train with automatic mixed precision (not on a CPU)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from this checkpoint, or without PATH (or with "auto") '
        'from the latest one in the work_dir; if there is none, the training '
        'begins as the config says')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the number of images a step')
    add_common_arguments(parser)
    return parser


def use_amp(cfg):
    """Make the config's optimizer wrapper one of mixed precision."""
    wrapper = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if wrapper not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise CommandError(
            f'--amp is given, but the optim_wrapper of {cfg.filename} is of '
            f'type {wrapper}, and only OptimWrapper has a twin for mixed '
            'precision, AmpOptimWrapper: leave --amp away')
    if get_device() == 'cpu':
        raise CommandError(
            '--amp is given, but mmengine trains with mixed precision on a '
            'GPU, NPU, MLU or MUSA device only, and this machine has none: '
            'leave --amp away')
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def scale_lr(cfg):
    """Switch on the config's rule for the learning rate."""
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise CommandError(
            f'--auto-scale-lr is given, but {cfg.filename} does not say for '
            'how many images a step its learning rate is: add --cfg-options '
            'auto_scale_lr.base_batch_size=NUMBER')
    cfg.auto_scale_lr.enable = True


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Train."""
    cfg = load_config(args, 'train')
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        scale_lr(cfg)
    named = args.resume and args.resume != 'auto'
    if named:
        cfg.load_from = args.resume
    if args.resume:
        cfg.resume = True
    newest = args.resume == 'auto' or (cfg.get('resume') is True
                                       and not cfg.get('load_from'))
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from,
                         '--resume' if named else 'load_from in the '
                         'config',
                         bool(cfg.get('resume')) and not newest)
    check_data(cfg, ('train', 'val'))
    check_classes(cfg, ('train', 'val'))
    check_pretrained(cfg)
    model = check_model(cfg)
    check_recomputing(cfg, model)
    with held_work_dir(cfg):
        passed_over = resume_newest(cfg) if newest else []
        check_fit(cfg, model)
        del model
        runner = build_runner(cfg, ('train', 'val'))
        for message in passed_over:
            runner.logger.warning(message)
        runner.train()


if __name__ == '__main__':
    main()
