"""What train.py and test.py have in common.

Whatever a user may have got wrong ends the run here, with one paragraph on
what was given, what was expected and what to do, before anything is built or
written.
"""
import atexit
import os
import os.path as osp
import time
import traceback

import torch.distributed
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmkdna.checkpoints.files import CheckpointError, load_file
from mmkdna.config import MissingBaseError, missing_host

CONFIGS = osp.join(osp.dirname(osp.dirname(osp.abspath(__file__))), 'configs')
# What mmengine takes all together or not at all.
PARTS = dict(
    train=('train_dataloader', 'train_cfg', 'optim_wrapper'),
    val=('val_dataloader', 'val_cfg', 'val_evaluator'),
    test=('test_dataloader', 'test_cfg', 'test_evaluator'))


def add_common_arguments(parser):
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


def add_cfg_options(parser):
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


def parse_args(parser):
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


def read_config(config, cfg_options=None):
    """Read the config, with its bases, and apply --cfg-options.

    Args:
        config (str): The file.
        cfg_options (dict, optional): From the command line. Defaults to None.

    Returns:
        Config: The config.
    """
    if not osp.isfile(config):
        raise SystemExit(
            f'{config} is given as config, but there is no such file in '
            f'{os.getcwd()}: the configs are in {CONFIGS}')
    for key, value in (cfg_options or {}).items():
        if _holds_dict(value):
            raise SystemExit(
                f'--cfg-options gives {key} the value {value}, but it takes '
                'no dicts: give an option for each key of the dict, such as '
                f'{key}.type=KernelDNA')
    try:
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(cfg_options or {})
    except MissingBaseError as error:
        raise SystemExit(str(error)) from error
    except Exception as error:
        given = f' with --cfg-options {cfg_options}' * bool(cfg_options)
        raise SystemExit(
            f'{config} is given as config, but{given} it cannot be read '
            f'({describe(error)}): correct it, or take one of those in '
            f'{CONFIGS}') from error
    absent = missing_host(cfg.get('default_scope'))
    if absent:
        raise SystemExit(f'{config} is a config of {absent}')
    return cfg


def _holds_dict(value):
    """Whether mmengine has kept a dict, or its pieces, as strings."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_dict, value))
    # A format, such as '{:06}.jpg', is none.
    return isinstance(value, str) and value.startswith(('dict(', '{\'', '{"'))


def load_config(args, task):
    """Read the config and apply the command line's common arguments.

    Args:
        args (argparse.Namespace): The command line.
        task (str): What the config is for, 'train' or 'test'.

    Returns:
        Config: The config, with work_dir and launcher set.
    """
    cfg = read_config(args.config, args.cfg_options)
    for split, parts in PARTS.items():
        needs = ('model', *parts) if split == task else parts
        missing = [key for key in needs if cfg.get(key) is None]
        if missing and (split == task or len(missing) < len(parts)):
            raise SystemExit(
                f'{args.config} is given as config, but it has no '
                f'{", ".join(missing)}: {", ".join(needs)} are expected, all '
                'of them' + ' or none' * (split != task) + '; most configs '
                'have them from their _base_')
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join(
        './work_dirs', name)
    cfg.launcher = args.launcher
    return cfg


def check_checkpoint(path, what):
    """End the run if a checkpoint does not exist, or is not safe to load.

    mmengine's own loader, which reads it for the runner, would unpickle
    whatever is in it.

    Args:
        path (str): A file, or an address such as ``https://...``.
        what (str): How the user has named it.
    """
    if '://' in path:
        return
    if not osp.isfile(path):
        raise SystemExit(
            f'{path} is given as {what}, but there is no such file in '
            f'{os.getcwd()}: a run leaves its checkpoints in its work_dir, as '
            'epoch_*.pth or iter_*.pth')
    try:
        load_file(path)
    except CheckpointError as error:
        raise SystemExit(f'{path} is given as {what}, but {error}') from error


def describe(error):
    """An exception in one line.

    Args:
        error (Exception): The exception.

    Returns:
        str: What it says, and where it was raised first.
    """
    text = str(error.args[0]) if len(error.args) == 1 else str(error)
    first = error
    while first.__context__ is not None:
        first = first.__context__
    frame = traceback.extract_tb(first.__traceback__)[-1]
    return (f'{text} [{type(error).__name__} in '
            f'{osp.basename(frame.filename)}, line {frame.lineno}]')


def build_runner(cfg, splits):
    """Build the runner, and what it would build at its start only.

    Args:
        cfg (Config): The checked config.
        splits (Sequence[str]): Those that are used of 'train', 'val' and
            'test'.

    Returns:
        Runner: The runner the config asks for, or mmengine's own.
    """
    if cfg.launcher != 'none' and get_device() == 'cpu':
        _join_on_cpu(cfg)
    if cfg.get('default_scope') == 'mmpretrain':
        # Its configs leave this to its tools.
        for split in ('train', 'val', 'test'):
            loader = cfg.get(f'{split}_dataloader')
            if loader:
                loader.setdefault('collate_fn', dict(type='default_collate'))
                loader.setdefault('persistent_workers',
                                  loader.get('num_workers', 0) > 0)
                loader.setdefault('pin_memory', get_device() != 'cpu')
    what = 'runner'
    try:
        runner = (
            RUNNERS.build(cfg)
            if 'runner_type' in cfg else Runner.from_cfg(cfg))
        for split in splits:
            what = f'{split}_dataloader, {split}_cfg or {split}_evaluator'
            getattr(runner, f'{split}_loop')
        # A FlexibleRunner leaves its own to the strategy.
        if 'train' in splits and hasattr(runner, 'build_optim_wrapper'):
            # Of an unknown one mmengine says no more than None.
            optimizer = cfg.optim_wrapper.get('optimizer')
            what = f'optim_wrapper, with the optimizer {optimizer},'
            runner.optim_wrapper = runner.build_optim_wrapper(
                runner.optim_wrapper)
    except Exception as error:
        raise SystemExit(
            f'The {what} of {cfg.filename} cannot be built: '
            f'{describe(error)}. Correct its type or its options, in the '
            'config or by --cfg-options') from error
    return runner


def start_gloo():
    """Join the processes that torchrun started, on the CPU.

    gloo's threads drop their last tensors when they get Python's lock, and one
    that still waits for it when Python ends aborts the process. Hence the
    pause at the end; to destroy the process group does not wait for them while
    anything else, such as FSDP, holds the group (torch 2.11).
    """
    torch.distributed.init_process_group('gloo')
    atexit.register(time.sleep, 1)


def _join_on_cpu(cfg):
    """Do what mmengine's launchers do, who all select a GPU first."""
    if cfg.launcher != 'pytorch':
        raise SystemExit(
            f'--launcher {cfg.launcher} is given, but this machine has no '
            'GPU, where pytorch is the only launcher: start the processes by '
            'tools/dist_train.sh or tools/dist_test.sh')
    if not torch.distributed.is_initialized():
        start_gloo()
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        device_ids=None)
    if cfg.get('runner_type') != 'FlexibleRunner':
        cfg.model_wrapper_cfg = {
            **wrapper,
            **(cfg.get('model_wrapper_cfg') or {})
        }
        return
    strategy = cfg.setdefault('strategy', ConfigDict(type='DDPStrategy'))
    if strategy.type == 'FSDPStrategy':
        wrapper = dict(device_id='cpu')
    strategy.model_wrapper = {
        **wrapper,
        **(strategy.get('model_wrapper') or {})
    }
