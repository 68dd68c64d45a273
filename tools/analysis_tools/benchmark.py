"""Compare the speed and memory of conv types, and of a model's forms.

Usage: python tools/analysis_tools/benchmark.py CONFIG [CONFIG ...]
    [--forms FORM ...] [--conv-cfg type=TYPE [OPTION=VALUE ...]] ...

All variants of all configs are timed in turns, round after round, so that a
machine that is busy for a while is so for all. Each round gives one ratio to
the first variant of the same config, or, if there is one only, to the first
config; what is printed is their least, median and greatest over the rounds.

A variant is one of the model's forms:

- plain: the same network without sharing, ``nn.Conv2d`` in every place;
- plain-fused: that with its norms folded into its convolutions;
- trained: children derive their kernel in every forward;
- kept: that with ``mmkdna.kept_kernels`` around each round;
- deployed: after ``mmkdna.switch_to_deploy``;
- fused: that with its norms folded;

or another conv type, as --conv-cfg gives it, on the very layers that are
parents and children in the config's model. With --compile, each variant is
followed by the same one compiled.

A classifier is timed to its logits, a segmentor to its logits before they are
resized, a detector to the feature maps of its neck; with --whole, from images
to predictions. In train mode it is a forward and a backward, without an
optimizer. Weights are random, inputs as well, so that a detector, of whose
boxes none is sure, predicts none.

Memory is beyond that of weights and images: its peak in a step, and what a
forward keeps for the backward.
"""
import argparse
import json
import os.path as osp
from dataclasses import asdict, replace

import torch
from mmengine.config import Config, DictAction

from mmkdna.analysis.machine import machine
from mmkdna.analysis.speed import Setting, TimedModel, time_in_turns
from mmkdna.analysis.speed_picture import draw_speeds
from mmkdna.analysis.speed_rows import SpeedRow, compare_speeds, speed_table
from mmkdna.analysis.variants import FORMS, TRAINABLE, Variant
from mmkdna.checkpoints.writing import written_whole
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError, describe
from mmkdna.launch.model import init_model
from mmkdna.launch.outputs import check_output

FORMATS = ('.svg', '.png', '.pdf')
DTYPES = ('float32', 'bfloat16', 'float16')
# One code is compiled for each variant and size of batch.
MOST_COMPILED = 1000


class ConvCfgAction(DictAction):
    """Parses as --cfg-options does, to one dict each time it is given."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Add a dict to those before."""
        given = argparse.Namespace(**{self.dest: None})
        try:
            super().__call__(parser, given, values, option_string)
            nested = Config()
            nested.merge_from_dict(getattr(given, self.dest))
            conv_cfg = nested.to_dict()
            # First in the name of the variant.
            conv_cfg = dict(type=conv_cfg.pop('type'), **conv_cfg)
        except (KeyError, ValueError) as error:
            raise argparse.ArgumentError(
                self, f'{" ".join(values)} is given, type=TYPE is expected, '
                'and options as KEY=VALUE, such as type=ODConv '
                'num_experts=4') from error
        setattr(namespace, self.dest,
                [*getattr(namespace, self.dest), conv_cfg])


def get_parser() -> argparse.ArgumentParser:
    """The arguments of benchmark.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--forms',
        nargs='+',
        choices=FORMS,
        default=FORMS,
        help='the first is what all others are compared with')
    parser.add_argument(
        '--conv-cfg',
        nargs='+',
        action=ConvCfgAction,
        default=[],
        metavar='KEY=VALUE',
        help='another conv type on the layers that share, such as type=ODConv '
        'num_experts=4; may be given several times')
    parser.add_argument(
        '--modes', nargs='+', choices=('eval', 'train'), default=('eval', ))
    parser.add_argument('--batch', nargs='+', type=int, default=(1, 8))
    parser.add_argument(
        '--size', nargs=2, type=int, default=(224, 224), metavar=('H', 'W'))
    parser.add_argument(
        '--whole',
        action='store_true',
        help='time from images to predictions, in eval mode')
    parser.add_argument(
        '--dtype',
        choices=DTYPES,
        default='float32',
        help='of an autocast, as in a training with AMP')
    parser.add_argument(
        '--channels-last',
        action='store_true',
        help='have kernels and images in that memory format')
    parser.add_argument(
        '--compile',
        action='store_true',
        help='time each variant compiled by torch.compile as well')
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument(
        '--seconds',
        type=float,
        default=0.5,
        help='for how long, at least, a variant runs in each round')
    parser.add_argument('--threads', type=int, help='of torch on the CPU')
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:1')
    parser.add_argument('--json', help='file to write every round to')
    parser.add_argument(
        '--plot', help=f'bar chart to write, {", ".join(FORMATS)}')
    add_cfg_options(parser)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be timed, before anything is."""
    if min(args.rounds, *args.batch, *args.size) < 1 or args.seconds <= 0:
        raise CommandError(
            f'--rounds {args.rounds}, --batch {args.batch}, --size '
            f'{args.size} and --seconds {args.seconds} are given, positive '
            'numbers are expected')
    if args.threads is not None and args.threads < 1:
        raise CommandError(f'--threads {args.threads} is given, 1 or more is '
                           'expected')
    if ('train' in args.modes and not args.conv_cfg
            and not set(args.forms) & set(TRAINABLE)):
        raise CommandError(
            f'--forms {args.forms} are given, which --modes train does not '
            f'time, one of {TRAINABLE} is expected')
    if args.whole and ('train' in args.modes or args.compile):
        raise CommandError(
            '--whole is given together with --modes train or --compile, but '
            'a whole model is timed in eval mode and not compiled: leave one '
            'of them out')
    try:
        kind = torch.device(args.device).type
        torch.empty(1, device=args.device)
    except (AssertionError, RuntimeError) as error:
        raise CommandError(
            f'--device {args.device} is given, but this torch has no such '
            f'device: {str(error).splitlines()[0]}') from error
    if kind not in ('cpu', 'cuda'):
        raise CommandError(f'--device {args.device} is given, cpu or cuda is '
                           'expected')
    if args.dtype == 'float16' and kind == 'cpu':
        raise CommandError('--dtype float16 is given, which is for GPUs: take '
                           'bfloat16 on a CPU')
    if args.plot and not args.plot.endswith(FORMATS):
        raise CommandError(f'--plot {args.plot} is given, a name that ends '
                           f'with one of {", ".join(FORMATS)} is expected')
    for path in filter(None, (args.json, args.plot)):
        check_output(path, *args.configs)


def list_variants(args: argparse.Namespace) -> list[Variant]:
    """List the variants of each config."""
    variants = [
        *map(Variant, args.forms),
        *(Variant(conv_cfg=conv_cfg) for conv_cfg in args.conv_cfg)
    ]
    if args.compile:
        torch._dynamo.config.cache_size_limit = MOST_COMPILED
        variants = [
            twin for variant in variants
            for twin in (variant, replace(variant, compiled=True))
        ]
    return variants


def build(cfg: Config, variant: Variant, setting: Setting) -> TimedModel:
    """Build a variant of a config's model, ready to be timed."""
    torch.manual_seed(0)
    try:
        model = variant.finish(init_model(variant.config(cfg)))
    except Exception as error:
        what = 'form' if variant.conv_cfg is None else 'variant'
        raise CommandError(
            f'The {variant.name} {what} of the model of {cfg.filename} cannot '
            f'be built: {describe(error)}') from error
    return TimedModel(
        model, setting, kept=variant.form == 'kept', compiled=variant.compiled)


def measure(cfgs: dict[str, Config], variants: list[Variant], setting: Setting,
            args: argparse.Namespace) -> list[SpeedRow]:
    """Time the variants of all configs in one mode, at each size of batch."""
    models = {
        (name, variant.name): build(cfg, variant, setting)
        for name, cfg in cfgs.items()
        for variant in variants
    }
    rows = []
    for batch in args.batch:
        x = setting.images(batch, *args.size)
        for (name, variant), model in models.items():
            try:
                model.calibrate(x, args.seconds)
            except Exception as error:
                raise CommandError(
                    f'{variant} of {name} cannot be run in {setting.mode} '
                    f'mode: {str(error).splitlines()[0]}') from error
        speeds = time_in_turns(models, x, args.rounds)
        memory = {key: model.memory(x) for key, model in models.items()}
        rows += compare_speeds(speeds, memory, setting.mode, batch)
    return rows


def measured_on(args: argparse.Namespace) -> dict:
    """Find what the figures depend on beside the models."""
    return dict(
        torch=torch.__version__,
        **machine(args.device, torch.get_num_threads()),
        size=list(args.size),
        whole=args.whole,
        dtype=args.dtype,
        channels_last=args.channels_last,
        seconds=args.seconds)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Time and print."""
    check_arguments(args)
    if args.threads:
        torch.set_num_threads(args.threads)
    # Random weights may make activations so small that they cost more time.
    torch.set_flush_denormal(True)
    variants = list_variants(args)
    cfgs = {}
    for path in args.configs:
        name = osp.splitext(osp.basename(path))[0]
        cfgs[path if name in cfgs else name] = read_config(
            path, args.cfg_options)
    rows = []
    for mode in args.modes:
        setting = Setting(mode, args.device, getattr(torch, args.dtype),
                          args.channels_last, args.whole)
        rows += measure(cfgs,
                        [v for v in variants if mode == 'eval' or v.trainable],
                        setting, args)
    facts = measured_on(args)
    print(speed_table(rows))
    print(', '.join(f'{name} {value}' for name, value in facts.items()) +
          f', {args.rounds} rounds')
    if args.json:
        with written_whole(args.json, 'w', 'utf-8') as file:
            json.dump(
                dict(machine=facts, rows=[asdict(row) for row in rows]),
                file,
                indent=1)
    if args.plot:
        draw_speeds(rows, args.plot)


if __name__ == '__main__':
    main()
