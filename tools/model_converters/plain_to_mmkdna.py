"""Turn the weights of a plain network into those of a KernelDNA model.

python tools/model_converters/plain_to_mmkdna.py CONFIG SRC DST

SRC is a plain checkpoint of the whole plain model or, if nothing else of
CONFIG shares, of its backbone or of a classifier in torchvision's key layout.
Without options this is what init_cfg does within a training. With
--reconstruct the network that shares is fitted to what the plain one computes
on a folder of pictures, without labels; DST then has a report beside it, in
.json. Stopped, it goes on where it was. Pictures that fill no batch are left
out. The file DST goes into tools/test.py,
load_from or init_cfg.
"""
import argparse
import json
import os.path as osp
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna.checkpoints.files import load_file, save_file
from mmkdna.checkpoints.writing import written_whole
from mmkdna.deploy import own_kernel_config
from mmkdna.forward import forward_dense
from mmkdna.launch.arguments import add_cfg_options, add_picture_size
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import init_model
from mmkdna.launch.outputs import check_output
from mmkdna.launch.pictures import (Pictures, check_run, find_pictures,
                                    picture_size)
from mmkdna.official import strip_module
from mmkdna.pretrained import plain_report
from mmkdna.pretrained.plain import accept_plain_weights, accepts_plain_weights
from mmkdna.reconstruction import Recipe, reconstruct
from mmkdna.reconstruction.reconstruction_hook import training_inputs
from mmkdna.reconstruction.whole_model import FEWEST
from mmkdna.sharing import children_of

# torchvision's classifiers, behind the backbone.
HEADS = ('fc.', 'classifier.1.')
# What a key of a whole model of OpenMMLab starts with.
PARTS = ('backbone', 'neck', 'head', 'decode_head', 'auxiliary_head',
         'rpn_head', 'roi_head', 'bbox_head', 'mask_head')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of plain_to_mmkdna.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the KernelDNA model')
    parser.add_argument('src', help='checkpoint of the plain network')
    parser.add_argument('dst', help='checkpoint to write')
    parser.add_argument(
        '--reconstruct',
        metavar='FOLDER',
        help='fit the network to what the plain one computes on these '
        'pictures, which need no labels')
    add_picture_size(parser)
    parser.add_argument(
        '--steps',
        type=int,
        default=Recipe().steps,
        help='of training, for each part of the network; default: '
        f'{Recipe().steps}')
    parser.add_argument(
        '--views',
        type=int,
        default=Recipe().views,
        help='how often it is fitted to each picture: once as it is, and to '
        f'crops of it, half of them mirrored; default: {Recipe().views}')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='of the order of pictures, of crops and of adapters; default: 0')
    parser.add_argument(
        '--precise-bn',
        type=int,
        metavar='BATCHES',
        help='re-estimate all batch-norm statistics on so many batches')
    add_cfg_options(parser)
    return parser


def rename(state_dict):
    """Keys of a classifier of torchvision as those of one of ours.

    Args:
        state_dict (dict): Of a backbone, or of a whole model.

    Returns:
        dict: Of a whole model; what a backbone has is left to its own hook.

    Raises:
        ValueError: See :func:`strip_module`.
    """
    renamed = {}
    for key, value in strip_module(state_dict).items():
        head = next((h for h in HEADS if key.startswith(h)), None)
        if head is not None:
            key = 'head.fc.' + key[len(head):]
        elif key.split('.')[0] not in PARTS:
            key = f'backbone.{key}'
        renamed[key] = value
    return renamed


def load(model, state_dict, fitted=False):
    """Load plain weights, all kernels of the backbone and of what shares.

    Args:
        model (nn.Module): A linked model.
        state_dict (dict): Of a backbone, or of a whole model.
        fitted (bool): Whether the model is to be fitted to what it computes
            with them. All of it is needed then, if more than its backbone
            shares. Defaults to False.

    Raises:
        ValueError: If a kernel has none, other than that of a block that
            starts as the identity, or of a child that keeps no own kernel.
    """
    parts = dict(model.named_children())
    needed = [
        name for name, part in parts.items()
        if name == 'backbone' or list(children_of(part))
    ]
    if fitted and needed != ['backbone']:
        needed = list(parts)
    for name in needed:
        # Already so, unless nothing in it shares.
        accept_plain_weights(parts[name])
    load_state_dict(model, rename(state_dict), logger='current')
    units = [
        name for name, module in model.named_modules()
        if accepts_plain_weights(module)
    ]
    # A child owns none, or keeps it as a buffer.
    kernels = [
        name for name, weight in model.named_parameters()
        if weight.ndim > 1 and '.adapter.' not in name
    ] + [n for n, _ in model.named_buffers() if n.endswith('.own_weight')]
    kernels = [name for name in kernels if name.split('.')[0] in needed]
    reports = plain_report(model)
    missing = [
        name.replace('.own_weight', '.weight') for name in kernels
        if _is_missing(name, units, reports)
    ]
    if missing:
        raise ValueError(
            f'{len(missing)} of the {len(kernels)} kernels of the '
            f'{", ".join(needed)} are not in it, or of another shape: '
            f'{", ".join(missing[:5])}{", ..." * (len(missing) > 5)}')


def _is_missing(name, units, reports):
    """Whether the innermost unit around a kernel has found none for it."""
    unit = max((u for u in units if name.startswith(f'{u}.')), key=len)
    report = reports.get(unit)
    key = name[len(unit) + 1:]
    return report is None or key in report.missing and not key.startswith(
        tuple(f'{block}.' for block in report.identity))


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Convert."""
    if args.batch < 1 or (args.size and min(args.size) < 1):
        raise CommandError(f'--batch {args.batch} and --size {args.size} are '
                           'given, positive numbers are expected')
    report_file = osp.splitext(args.dst)[0] + '.json'
    if args.reconstruct and args.dst == report_file:
        raise CommandError(f'{args.dst} is given to write to, but this is '
                           'where the report goes: give a name in .pth')
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    try:
        check_output(args.dst, args.config, args.src)
        if args.reconstruct:
            check_output(report_file, args.config, args.src)
        state_dict = load_file(args.src)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    state_dict = state_dict.get('state_dict', state_dict)
    # What the weights do not have comes out the same each time.
    torch.manual_seed(args.seed)
    model = init_model(own_kernel_config(cfg) if args.reconstruct else cfg)
    try:
        load(model, state_dict, bool(args.reconstruct))
    except ValueError as error:
        raise CommandError(
            f'{args.src} is given, the weights of the whole plain network of '
            f'{args.config}, or of its backbone if only that shares, are '
            f'expected: {error}. Nothing is written') from error

    def batches(number):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        for _, batch in zip(range(number), loader):
            yield training_inputs(model, batch)

    state = Path(f'{args.dst}.unfinished')
    if args.reconstruct:
        size = picture_size(args.size, cfg, args.config)
        files = find_pictures(args.reconstruct)
        if len(files) < FEWEST * args.batch:
            raise CommandError(
                f'--reconstruct {args.reconstruct} has {len(files)} pictures, '
                f'{FEWEST} or more batches of --batch {args.batch} are '
                'expected: give more pictures, or smaller batches')
        # Those of one folder, or of one kind, are not to be one batch.
        order = torch.randperm(
            len(files), generator=torch.Generator().manual_seed(args.seed))
        # Each batch counts the same.
        order = order[:len(files) // args.batch * args.batch]
        pictures = Pictures(args.reconstruct, model, size, args.batch,
                            [files[i] for i in order])
        check_run(pictures, args.config)
        try:
            report = reconstruct(
                model,
                pictures,
                forward_dense,
                Recipe(steps=args.steps, views=args.views),
                args.seed,
                state=state)
        except ValueError as error:
            raise CommandError(
                f'--reconstruct {args.reconstruct}: {error}. Nothing is '
                'written') from error
        with written_whole(report_file, 'w', 'utf-8') as file:
            json.dump(asdict(report), file, indent=1)
    if args.precise_bn:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()
        with torch.no_grad():
            for batch in batches(args.precise_bn):
                model.extract_feat(batch)
    save_file(dict(meta={}, state_dict=model.state_dict()), args.dst)
    if args.reconstruct:
        state.unlink(missing_ok=True)


if __name__ == '__main__':
    main()
