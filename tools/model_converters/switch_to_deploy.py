"""Write the deploy form of a checkpoint, and its config beside it.

Usage: python tools/model_converters/switch_to_deploy.py CONFIG CHECKPOINT DST

DST ends in .pth; the config gets the same name in .py. In this form every
child is an independent convolution, so that norms can be fused and the model
exported.
"""
import argparse
import os.path as osp
import sys

from mmengine.config import Config, DictAction

from mmkdna import switch_to_deploy
from mmkdna.apis import init_model
from mmkdna.checkpoints.files import CheckpointError, load_file, save_file
from mmkdna.deploy import deploy_config


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the trained model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('dst', help='checkpoint to write, *.pth')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def main():
    """Convert."""
    args = parse_args()
    if not args.dst.endswith('.pth'):
        sys.exit(f'{args.dst} is given to write to, but a name that ends in '
                 '.pth is expected: the config gets the same name in .py')
    config = osp.splitext(args.dst)[0] + '.py'
    if not osp.isdir(osp.dirname(osp.abspath(args.dst))):
        sys.exit(f'{args.dst} is given to write to, but there is no such '
                 'folder')
    if osp.realpath(config) == osp.realpath(args.config):
        sys.exit(f'{args.dst} is given to write to, and the config beside it '
                 f'would replace {args.config}: choose another name')
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    try:
        model = init_model(cfg, args.checkpoint)
    except (CheckpointError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f'{args.checkpoint} is given, the checkpoint of a model of '
                 f'{args.config} is expected: {error}')
    cfg = deploy_config(cfg)
    # Names of classes and the like stay; what is to be resumed does not.
    meta = dict(
        load_file(args.checkpoint).get('meta') or {}, cfg=cfg.pretty_text)
    save_file(
        dict(meta=meta, state_dict=switch_to_deploy(model).state_dict()),
        args.dst)
    cfg.dump(config)


if __name__ == '__main__':
    main()
