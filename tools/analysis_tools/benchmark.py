"""Compare the speed of a model's forms, from plain to deployed and fused.

Usage: python tools/analysis_tools/benchmark.py CONFIG [CONFIG ...]

All forms of all configs are timed in turns, round after round, so that a
machine that is busy for a while is so for all. Each round gives one ratio to
the first form of the same config, or, if there is one form only, to the first
config; what is printed is their least, median and greatest over the rounds.

- plain: the same network without sharing, ``nn.Conv2d`` in every place;
- plain-fused: that with its norms folded into its convolutions;
- trained: children derive their kernel in every forward;
- kept: that with ``mmkdna.kept_kernels`` around each round;
- deployed: after ``mmkdna.switch_to_deploy``;
- fused: that with its norms folded.

A classifier is timed to its logits, a segmentor to its logits before they are
resized, a detector to the feature maps of its neck. In train mode it is a
forward and a backward. Weights are random, inputs as well.
"""
import argparse
import json
import os.path as osp
import platform
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config

from mmkdna.analysis.forms import (FORMS, TRAINABLE, bring_into_form,
                                   form_config)
from mmkdna.analysis.speed import (TimedModel, speed_table, summarize_speeds,
                                   time_in_turns)
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError, describe
from mmkdna.launch.model import init_model


def get_parser() -> argparse.ArgumentParser:
    """The arguments of benchmark.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--forms',
        nargs='+',
        choices=FORMS,
        default=FORMS,
        help='the first is what the others are compared with')
    parser.add_argument(
        '--modes', nargs='+', choices=('eval', 'train'), default=('eval', ))
    parser.add_argument('--batch', nargs='+', type=int, default=(1, 8))
    parser.add_argument(
        '--size', nargs=2, type=int, default=(224, 224), metavar=('H', 'W'))
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument(
        '--seconds',
        type=float,
        default=0.5,
        help='for how long, at least, a form runs in each round')
    parser.add_argument('--threads', type=int, help='of torch on the CPU')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', help='file to write every round to')
    add_cfg_options(parser)
    return parser


def build(cfg: Config, form: str) -> torch.nn.Module:
    """Build a model in one of the forms, in eval mode."""
    try:
        return bring_into_form(init_model(form_config(cfg, form)), form)
    except Exception as error:
        raise CommandError(
            f'The {form} form of the model of {cfg.filename} cannot be '
            f'built: {describe(error)}') from error


def machine(args: argparse.Namespace) -> dict:
    """Find what the speeds depend on beside the models."""
    device = args.device
    if torch.device(device).type == 'cuda':
        device = torch.cuda.get_device_name(device)
    return dict(
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        device=device,
        processor=platform.processor() or platform.machine(),
        size=list(args.size),
        seconds=args.seconds)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Time and print."""
    if min(args.rounds, *args.batch, *args.size) < 1 or args.seconds <= 0:
        raise CommandError(
            f'--rounds {args.rounds}, --batch {args.batch}, --size '
            f'{args.size} and --seconds {args.seconds} are given, positive '
            'numbers are expected')
    if 'train' in args.modes and not set(args.forms) & set(TRAINABLE):
        raise CommandError(
            f'--forms {args.forms} are given, which --modes train does not '
            f'time, one of {TRAINABLE} is expected')
    if args.threads:
        torch.set_num_threads(args.threads)
    # Random weights may make activations so small that they cost more time.
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    cfgs = {}
    for path in args.configs:
        name = osp.splitext(osp.basename(path))[0]
        cfgs[path if name in cfgs else name] = read_config(
            path, args.cfg_options)
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for mode in args.modes:
        forms = [f for f in args.forms if mode == 'eval' or f in TRAINABLE]
        models = {
            (name, form):
            TimedModel(
                build(cfg, form), mode, args.device, kept=form == 'kept')
            for name, cfg in cfgs.items()
            for form in forms
        }
        for batch in args.batch:
            x = torch.randn(batch, 3, *args.size, device=args.device)
            speeds = time_in_turns(models, x, args.rounds, args.seconds)
            rows += summarize_speeds(speeds, mode, batch)
    facts = machine(args)
    print(speed_table(rows))
    print(', '.join(f'{name} {value}' for name, value in facts.items()) +
          f', {args.rounds} rounds')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump(
                dict(machine=facts, rows=[asdict(row) for row in rows]),
                file,
                indent=1)


if __name__ == '__main__':
    main()
