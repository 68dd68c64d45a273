"""Count parameters and FLOPs, with KernelDNA and without.

Usage: python tools/analysis_tools/get_flops.py CONFIG [CONFIG ...]

Several configs are compared in one table. 'plain' is the same network without
sharing; 'saved' is what its children save of its parameters. A multiplication
and an addition are one FLOP; what counts is in ``mmkdna.analysis.model_cost``.
Nothing is computed, and no data and no weights are needed.
"""
import argparse
import json
import os.path as osp
from pathlib import Path

from mmkdna.analysis import image_shape, model_cost
from mmkdna.analysis.tables import billions, markdown_table, millions
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model_check import check_model

HEAD = ('config', 'image', 'parameters', 'plain', 'saved', 'FLOPs', 'plain',
        'children')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of get_flops.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size of the image in pixels; default: what the config tests '
        'with')
    parser.add_argument('--json', help='file to write the exact figures to')
    add_cfg_options(parser)
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Count and print."""
    if args.shape and min(args.shape) < 1:
        raise CommandError(f'--shape {args.shape} is given, two positive '
                           'numbers of pixels are expected')
    cfgs = {path: read_config(path, args.cfg_options) for path in args.configs}
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    costs = {}
    for path, cfg in cfgs.items():
        try:
            shape = args.shape or image_shape(cfg)
        except ValueError as error:
            raise CommandError(f'{path}: {error}: give --shape H W') from error
        try:
            costs[path] = model_cost(check_model(cfg), shape)
        except NotImplementedError as error:
            raise CommandError(f'{path}: {error}') from error
    rows = []
    for path, cost in costs.items():
        saved = 1 - cost.parameters / cost.plain_parameters
        rows.append(
            (osp.splitext(osp.basename(path))[0],
             f'{cost.shape[0]}x{cost.shape[1]}', millions(cost.parameters),
             millions(cost.plain_parameters), f'{saved:.1%}',
             billions(cost.flops), billions(cost.plain_flops), cost.children))
    print(markdown_table(HEAD, rows))
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump([
                dict(config=path, **cost._asdict())
                for path, cost in costs.items()
            ], file, indent=1)  # yapf: disable


if __name__ == '__main__':
    main()
