"""Print and draw which convolution derives its kernel from which.

Usage: python tools/analysis_tools/sharing.py CONFIG [--out GRAPH.svg]
"""
import argparse
import os.path as osp

from mmengine.config import Config, DictAction

from mmkdna import sharing_table
from mmkdna.analysis import draw_sharing
from mmkdna.apis import init_model


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument(
        '--out', help='picture to write, as .svg, .png or .pdf')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if not osp.isfile(args.config):
        parser.error(f'{args.config} is given as config, but there is no such '
                     'file: the configs are in the folder configs')
    if args.out and not args.out.endswith(('.svg', '.png', '.pdf')):
        parser.error(f'--out {args.out} is given, a name that ends with .svg, '
                     '.png or .pdf is expected')
    return args


def main():
    """Print and draw."""
    args = parse_args()
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    model = init_model(cfg)
    print(sharing_table(model))
    if args.out:
        draw_sharing(model, args.out)


if __name__ == '__main__':
    main()
