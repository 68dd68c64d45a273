"""Show what the gates of children do on pictures.

Usage: python tools/analysis_tools/gates.py CONFIG CHECKPOINT --images FOLDER
    [--out GATES.svg] [--json FILE] [--fold-constant DST.pth]

The pictures need no labels. A gate that is the same for all pictures is a
factor that could stand in the kernel: --fold-constant writes the deployed
model with such gates folded, its config beside it, and how much faster it is.
"""
import argparse
import json
from dataclasses import asdict
from statistics import median

import torch
from mmengine.config import Config
from mmengine.utils import track_iter_progress

from mmkdna import switch_to_deploy
from mmkdna.analysis.gates import CONSTANT, watch_gates
from mmkdna.analysis.gates_picture import draw_gates
from mmkdna.analysis.speed import Setting, TimedModel, time_in_turns
from mmkdna.analysis.tables import markdown_table
from mmkdna.checkpoints.files import load_file
from mmkdna.checkpoints.writing import written_whole
from mmkdna.deploy import deploy_config, fold_constant_gates, ungated_config
from mmkdna.forward import forward_dense
from mmkdna.launch.arguments import add_cfg_options, add_picture_arguments
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import checkpoint_file, init_model, load_trained
from mmkdna.launch.outputs import (check_output, config_beside,
                                   write_with_config)
from mmkdna.launch.pictures import Pictures, check_run, picture_size

FORMATS = ('.svg', '.png', '.pdf')
HEAD = ('child', 'channels', 'mean', 'over channels', 'over pictures',
        'dynamic', 'saturated')
ROUNDS = 10


def get_parser() -> argparse.ArgumentParser:
    """The arguments of gates.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the trained model')
    parser.add_argument('checkpoint', help='its weights')
    add_picture_arguments(parser)
    parser.add_argument(
        '--out', help=f'picture to write, {", ".join(FORMATS)}')
    parser.add_argument('--json', help='file to write every figure to')
    parser.add_argument(
        '--fold-constant',
        metavar='DST.pth',
        help='write the deployed model, with constant gates in its kernels')
    add_cfg_options(parser)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is."""
    if args.batch < 1 or (args.size and min(args.size) < 1):
        raise CommandError(f'--batch {args.batch} and --size {args.size} are '
                           'given, positive numbers are expected')
    if args.out and not args.out.endswith(FORMATS):
        raise CommandError(f'--out {args.out} is given, a name that ends with '
                           f'one of {", ".join(FORMATS)} is expected')
    outputs = [args.out, args.json]
    if args.fold_constant:
        outputs += [args.fold_constant, config_beside(args.fold_constant)]
    for path in filter(None, outputs):
        check_output(path, args.config, args.checkpoint)


def fold(cfg: Config, args: argparse.Namespace, gates: dict[str, torch.Tensor],
         images: torch.Tensor) -> str:
    """Write the deployed model with gates folded, and say how fast it is."""
    deployed = switch_to_deploy(
        load_trained(cfg, args.config, args.checkpoint))
    folded = fold_constant_gates(
        switch_to_deploy(load_trained(cfg, args.config, args.checkpoint)),
        gates)
    try:
        text = ungated_config(deploy_config(cfg), list(gates)).pretty_text
        # What is written is tried out.
        init_model(Config.fromstring(text, '.py')).load_state_dict(
            folded.state_dict(), strict=True)
    except (RuntimeError, ValueError) as error:
        raise CommandError(f'--fold-constant is given, but {error}. Nothing '
                           'of it is written') from error
    checkpoint = load_file(checkpoint_file(args.checkpoint))
    meta = dict(checkpoint.get('meta') or {}, cfg=text)
    write_with_config(args.fold_constant, text,
                      dict(meta=meta, state_dict=folded.state_dict()))
    models = {
        name: TimedModel(model, Setting())
        for name, model in (('deployed', deployed), ('folded', folded))
    }
    for model in models.values():
        model.calibrate(images, 0.2)
    speeds = time_in_turns(models, images, ROUNDS)
    ratios = [b / a for a, b in zip(speeds['deployed'], speeds['folded'])]
    return (f'{args.fold_constant} and {config_beside(args.fold_constant)} '
            f'have {len(gates)} gates less, and {median(ratios):.3f} '
            f'({min(ratios):.3f} to {max(ratios):.3f}) times the speed of the '
            f'deployed model, on {len(images)} image')


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Watch, print and draw."""
    check_arguments(args)
    cfg = read_config(args.config, args.cfg_options)
    size = picture_size(args.size, cfg, args.config)
    model = load_trained(cfg, args.config, args.checkpoint)
    pictures = Pictures(args.images, model, size, args.batch)
    check_run(pictures, args.config)
    try:
        sums = watch_gates(model, track_iter_progress(
            (pictures, len(pictures))), forward_dense)
    except CommandError:
        raise
    except ValueError as error:
        raise CommandError(f'{args.config} and {args.checkpoint} are given, '
                           f'but {error}') from error
    gates = [one.statistics(name) for name, one in sums.items()]
    print(
        markdown_table(
            HEAD, [(gate.name, gate.channels, f'{gate.mean:.3f}',
                    f'{gate.over_channels:.3f}', f'{gate.over_pictures:.3f}',
                    f'{gate.dynamic:.1%}', f'{gate.saturated:.1%}')
                   for gate in gates]))
    constant = {
        gate.name: sums[gate.name].means
        for gate in gates if gate.constant
    }
    if args.out:
        draw_gates(gates, args.out)
    if args.json:
        with written_whole(args.json, 'w', 'utf-8') as file:
            json.dump(
                dict(
                    num_pictures=len(pictures.files),
                    size=list(pictures.size),
                    gates=[asdict(gate) for gate in gates]),
                file,
                indent=1)
    if constant:
        print(f'{len(constant)} of {len(gates)} gates are constant, with less '
              f'than {CONSTANT} from picture to picture: '
              f'{", ".join(constant)}. They could stand in the kernels, by '
              '--fold-constant')
    if not args.fold_constant:
        return
    if not constant:
        raise CommandError('--fold-constant is given, but no gate is '
                           'constant: there is nothing to fold')
    images = next(iter(pictures))[:1]
    print(fold(cfg, args, constant, images))


if __name__ == '__main__':
    main()
