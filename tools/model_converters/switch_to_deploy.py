"""Write the deploy form of a checkpoint, and its config beside it.

Usage: python tools/model_converters/switch_to_deploy.py CONFIG CHECKPOINT DST

DST ends in .pth; the config gets the same name in .py. In this form every
child is an independent convolution, so that norms can be fused and the model
exported. With --keep-sharing DST has no kernels of children, and is as small
as the weights that were trained: a model of its config derives them while it
loads DST.
"""
import argparse
import os.path as osp

from mmengine.config import Config

from mmkdna import switch_to_deploy
from mmkdna.checkpoints.files import load_file
from mmkdna.deploy import check_sharing, deploy_config
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError, describe
from mmkdna.launch.model import checkpoint_file, init_model, load_trained
from mmkdna.launch.outputs import (check_output, config_beside,
                                   write_with_config)


def get_parser() -> argparse.ArgumentParser:
    """The arguments of switch_to_deploy.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the trained model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('dst', help='checkpoint to write, *.pth')
    parser.add_argument(
        '--keep-sharing',
        action='store_true',
        help='leave the kernels of children out of the checkpoint, and have '
        'them derived while it is loaded')
    add_cfg_options(parser)
    return parser


def deploy(cfg, model, keep_sharing=False):
    """What is written, tried out.

    Args:
        cfg (Config): Config of the model.
        model (nn.Module): The trained model; changed in place.
        keep_sharing (bool): Whether the state dict shares. Defaults to False.

    Returns:
        tuple[str, dict]: The text of the config, and the state dict.

    Raises:
        ValueError: If the one does not load into the model of the other, or
            there is no sharing to keep.
    """
    text = deploy_config(cfg).pretty_text
    if keep_sharing:
        check_sharing(model)
    else:
        switch_to_deploy(model)
    state_dict = model.state_dict()
    try:
        deployed = init_model(Config.fromstring(text, '.py'))
        deployed.load_state_dict(state_dict, strict=True)
    except Exception as error:
        raise ValueError(
            'the config of its deploy form would not be one of its weights: '
            f'{describe(error)}: write every KernelDNA convolution as '
            'type=\'KernelDNA\', and other classes by the names they are '
            'registered by') from error
    return text, state_dict


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Convert."""
    config = config_beside(args.dst)
    folder = osp.dirname(osp.abspath(args.dst))
    if not osp.isdir(folder):
        raise CommandError(
            f'{args.dst} is given to write to, but there is no such '
            'folder')
    for path in (config, args.dst):
        check_output(path, args.config, args.checkpoint)
    cfg = read_config(args.config, args.cfg_options)
    model = load_trained(cfg, args.config, args.checkpoint)
    try:
        text, state_dict = deploy(cfg, model, args.keep_sharing)
    except ValueError as error:
        raise CommandError(f'{args.config} is given, but {error}. Nothing is '
                           'written') from error
    # Names of classes and the like stay; what is to be resumed does not.
    checkpoint = load_file(checkpoint_file(args.checkpoint))
    meta = dict(checkpoint.get('meta') or {}, cfg=text)
    write_with_config(args.dst, text, dict(meta=meta, state_dict=state_dict))


if __name__ == '__main__':
    main()
