"""Turn the weights of a plain network into those of a KernelDNA model.

python tools/model_converters/plain_to_mmkdna.py CONFIG SRC DST

init_cfg does the same within a training. This tool is for a look before: the
file it writes goes into tools/test.py. SRC is a plain checkpoint of CONFIG's
backbone, or of a whole classifier in torchvision's key layout.
"""
import argparse

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna.checkpoints.files import load_file, save_file
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import init_model
from mmkdna.launch.outputs import check_output
from mmkdna.official import strip_module
from mmkdna.pretrained import plain_report
from mmkdna.pretrained.fitting import fit_children, training_inputs
from mmkdna.pretrained.plain import accept_plain_weights

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
        '--fit',
        type=int,
        metavar='BATCHES',
        help='fit children on so many batches of the train dataloader; needs '
        'keep_own_kernel=True in conv_cfg')
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


def load(model, state_dict):
    """Load plain weights, all of the backbone's kernels.

    Args:
        model (nn.Module): A linked model.
        state_dict (dict): Of a backbone, or of a whole model.

    Raises:
        ValueError: If a kernel has none, other than a child's or that of a
            block that starts as the identity.
    """
    # Already so, unless nothing in it shares.
    accept_plain_weights(model.backbone)
    load_state_dict(model, rename(state_dict), logger='current')
    # A child owns none.
    kernels = [
        name for name, weight in model.backbone.named_parameters()
        if weight.ndim == 4 and '.adapter.' not in name
    ]
    report = plain_report(model.backbone).get('')
    if report is None:
        missing = kernels
    else:
        new = tuple(f'{block}.' for block in report.identity)
        missing = [
            name for name in kernels
            if name in report.missing and not name.startswith(new)
        ]
    if missing:
        raise ValueError(
            f'{len(missing)} of the {len(kernels)} kernels of the backbone '
            f'are not in it, or of another shape: {", ".join(missing[:5])}'
            f'{", ..." * (len(missing) > 5)}')


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Convert."""
    cfg = read_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    try:
        check_output(args.dst, args.config, args.src)
        state_dict = load_file(args.src)
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    state_dict = state_dict.get('state_dict', state_dict)
    # What the weights do not have comes out the same each time.
    torch.manual_seed(0)
    model = init_model(cfg)
    if args.fit and not any('own_weight' in key for key in model.state_dict()):
        raise CommandError(
            '--fit is given, but no child keeps its own kernel to be '
            'fitted to: set model.backbone.conv_cfg.keep_own_kernel=True')
    try:
        load(model, state_dict)
    except ValueError as error:
        raise CommandError(
            f'{args.src} is given, the weights of the plain network of '
            f'{args.config} are expected: {error}. Nothing is written'
        ) from error

    def batches(number):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        for _, batch in zip(range(number), loader):
            yield training_inputs(model, batch)

    if args.fit:
        fit_children(model, list(batches(args.fit)), model.extract_feat)
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


if __name__ == '__main__':
    main()
