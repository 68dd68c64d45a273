"""Print and draw which convolution derives its kernel from which.

Usage: python tools/analysis_tools/sharing.py CONFIG [--out GRAPH.svg]
"""
import argparse
from pathlib import Path

from mmkdna import sharing_table
from mmkdna.analysis import draw_sharing
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model_check import check_model

FORMATS = ('.svg', '.png', '.pdf')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of sharing.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--out', help=f'picture to write, {", ".join(FORMATS)}')
    add_cfg_options(parser)
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Print and draw."""
    if args.out and not args.out.endswith(FORMATS):
        raise CommandError(f'--out {args.out} is given, a name that ends with '
                           f'one of {", ".join(FORMATS)} is expected')
    cfg = read_config(args.config, args.cfg_options)
    model = check_model(cfg)
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    print(sharing_table(model))
    if args.out:
        draw_sharing(model, args.out)


if __name__ == '__main__':
    main()
