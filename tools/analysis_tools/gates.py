"""Show what the gates of children do on pictures.

Usage: python tools/analysis_tools/gates.py CONFIG CHECKPOINT --images FOLDER
    [--out GATES.svg] [--json FILE] [--fold-constant DST.pth]

The pictures need no labels. A gate that is the same for all pictures is a
factor that could stand in the kernel. It is said of such gates how much faster
the deployed model is with them folded, and what that does to its outputs:
--fold-constant writes that model, its config beside it.
"""
import argparse
import copy
import json
from dataclasses import asdict
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import track_iter_progress
from torch import nn

from mmkdna import switch_to_deploy
from mmkdna.analysis.gates import CONSTANT, CONSTANT_CHANNEL, watch_gates
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
from mmkdna.launch.pictures import (Pictures, check_run, find_pictures,
                                    picture_size)
from mmkdna.pretrained import plain_report
from mmkdna.reconstruction.outputs import compare_outputs

FORMATS = ('.svg', '.png', '.pdf')
HEAD = ('child', 'channels', 'mean', 'over channels', 'over pictures',
        'largest', 'dynamic', 'saturated')
# Pictures, of which fewer do not tell whether a gate moves.
FEWEST = 8
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


def load_gates(cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Load the model, whose gates have to be in the checkpoint."""
    model = load_trained(cfg, args.config, args.checkpoint)
    new = [
        '.'.join(filter(None, (unit, fit.child)))
        for unit, report in plain_report(model).items() for fit in report.fits
    ]
    if new:
        raise CommandError(
            f'{args.checkpoint} is given, the checkpoint of a model of '
            f'{args.config} is expected: it has the weights of a plain '
            f'network, and no gate of {", ".join(new[:2])}'
            f'{", ..." * (len(new) > 2)}')
    return model


def fold(model: nn.Module, gates: dict[str, torch.Tensor],
         pictures: Pictures) -> tuple[nn.Module, dict[str, Any]]:
    """Deploy a model, fold gates of it, and measure what that does."""
    deployed = switch_to_deploy(model)
    folded = fold_constant_gates(copy.deepcopy(deployed), gates)
    error, agreement = compare_outputs(folded, deployed, pictures,
                                       forward_dense)
    images = pictures[0][:1]
    models = {
        name: TimedModel(model, Setting())
        for name, model in (('deployed', deployed), ('folded', folded))
    }
    for model in models.values():
        model.calibrate(images, 0.2)
    speeds = time_in_turns(models, images, ROUNDS)
    ratios = [b / a for a, b in zip(speeds['deployed'], speeds['folded'])]
    return folded, dict(
        gates=list(gates),
        error=error,
        agreement=agreement,
        speed=dict(median=median(ratios), min=min(ratios), max=max(ratios)))


def folding_text(folding: dict[str, Any], num_gates: int,
                 num_pictures: int) -> str:
    """Say which gates are constant, and what folding them does."""
    speed = folding['speed']
    same = (
        '' if folding['agreement'] is None else
        f', and the largest channel the same in {folding["agreement"]:.2%}')
    return (
        f'{len(folding["gates"])} of {num_gates} gates are constant, with '
        f'less than {CONSTANT} from picture to picture and {CONSTANT_CHANNEL} '
        f'in every channel: {", ".join(folding["gates"])}. Folded into the '
        f'kernels of the deployed model, they make it {speed["median"]:.3f} '
        f'({speed["min"]:.3f} to {speed["max"]:.3f}) times as fast, on one '
        f'image. On the {num_pictures} pictures the mean squared difference '
        f'of its outputs is {folding["error"]:.3g} of their variance{same}')


def write_folded(cfg: Config, args: argparse.Namespace, folded: nn.Module,
                 names: list[str]) -> None:
    """Write a deployed model with gates folded, and its config."""
    try:
        text = ungated_config(deploy_config(cfg), names).pretty_text
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
    print(f'{args.fold_constant} and {config_beside(args.fold_constant)} have '
          f'{len(names)} gates less')


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Watch, print and draw."""
    check_arguments(args)
    cfg = read_config(args.config, args.cfg_options)
    size = picture_size(args.size, cfg, args.config)
    files = find_pictures(args.images, FEWEST)
    model = load_gates(cfg, args)
    pictures = Pictures(args.images, model, size, args.batch, files)
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
        markdown_table(HEAD,
                       [(gate.name, gate.channels, f'{gate.mean:.3f}',
                         f'{gate.over_channels:.3f}',
                         f'{gate.over_pictures:.3f}', f'{gate.largest:.3f}',
                         f'{gate.dynamic:.1%}', f'{gate.saturated:.1%}')
                        for gate in gates]))
    constant = {
        gate.name: sums[gate.name].means
        for gate in gates if gate.constant
    }
    folded, folding = None, None
    if constant:
        folded, folding = fold(model, constant, pictures)
        print(folding_text(folding, len(gates), len(files)))
        if not args.fold_constant:
            print('--fold-constant DST.pth writes that model')
    if args.out:
        draw_gates(gates, args.out)
    if args.json:
        with written_whole(args.json, 'w', 'utf-8') as file:
            json.dump(
                dict(
                    num_pictures=len(files),
                    size=list(pictures.size),
                    gates=[asdict(gate) for gate in gates],
                    folding=folding),
                file,
                indent=1)
    if args.fold_constant and not constant:
        raise CommandError('--fold-constant is given, but no gate is '
                           'constant: there is nothing to fold')
    if args.fold_constant:
        write_folded(cfg, args, folded, list(constant))


if __name__ == '__main__':
    main()
