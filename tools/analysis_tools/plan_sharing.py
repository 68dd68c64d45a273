"""Propose which convolutions of a plain network share, by measured damage.

Usage: python tools/analysis_tools/plan_sharing.py CONFIG CHECKPOINT
    --save 0.3 --images FOLDER [--out PLAN.py] [--picture FILE] [--json FILE]

Every link that could be made is made alone, what is around the child is
refitted quickly, and it is measured how far that leaves the network from the
plain one. The pictures need no labels. What costs least for each parameter
comes first: that is the curve, a table and a picture. PLAN.py inherits from
CONFIG and trains with tools/train.py.
"""
import argparse
import json
import os.path as osp
import warnings
from dataclasses import asdict
from math import ceil
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.utils import track_iter_progress

from mmkdna.analysis.tables import markdown_table
from mmkdna.checkpoints.writing import written_whole
from mmkdna.forward import forward_dense
from mmkdna.launch.arguments import add_picture_arguments
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError, describe
from mmkdna.launch.model import load_trained
from mmkdna.launch.outputs import check_output
from mmkdna.launch.pictures import (Pictures, check_run, find_pictures,
                                    picture_size)
from mmkdna.planning import (Measurement, Split, count_parameters, draw_curve,
                             find_blocks, find_candidates, find_curve,
                             find_plan, find_units, most_saved, plan_text,
                             split_by_unit, unlinked_config)
from mmkdna.sharing import sharing_table

FORMATS = ('.svg', '.png', '.pdf')
# Of eight pictures in a row: which choose, and which are measured on.
CHOOSING = 3,
KEPT = 1, 6
FEWEST = 8
# Points of the curve at which links are measured together.
POINTS = 4


def get_parser() -> argparse.ArgumentParser:
    """The arguments of plan_sharing.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the plain network')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        '--save',
        type=float,
        required=True,
        help='share of the parameters of all convolutions to save, as 0.3')
    add_picture_arguments(parser)
    parser.add_argument(
        '--steps',
        type=int,
        default=10,
        help='of training in each refit, beside new statistics and least '
        'squares; default: 10')
    parser.add_argument(
        '--seed', type=int, default=0, help='of what is random; default: 0')
    parser.add_argument(
        '--out', default='plan.py', help='config to write; default: plan.py')
    parser.add_argument(
        '--picture',
        help=f'picture of the curve to write, {", ".join(FORMATS)}; default: '
        'beside the config, in .svg')
    parser.add_argument('--json', help='file to write every figure to')
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is."""
    if not 0 < args.save < 1:
        raise CommandError(f'--save {args.save} is given, a number between 0 '
                           'and 1 is expected')
    if (args.batch < 1 or args.steps < 0
            or (args.size and min(args.size) < 1)):
        raise CommandError(
            f'--batch {args.batch}, --steps {args.steps} and --size '
            f'{args.size} are given, positive numbers are expected, or 0 '
            'steps')
    if not args.out.endswith('.py'):
        raise CommandError(f'--out {args.out} is given, a name that ends in '
                           '.py is expected')
    if not args.picture.endswith(FORMATS):
        raise CommandError(
            f'--picture {args.picture} is given, a name that ends with one of '
            f'{", ".join(FORMATS)} is expected')
    for path in filter(None, (args.out, args.picture, args.json)):
        check_output(path, args.config, args.checkpoint)


def load_plain(cfg, units, args):
    """Build the plain network of convolutions that may share."""
    with warnings.catch_warnings():
        # That nothing shares yet is meant to be so.
        warnings.filterwarnings('ignore', 'KernelDNA: of .* none shares')
        try:
            return load_trained(
                unlinked_config(cfg, units), args.config, args.checkpoint)
        except CommandError:
            raise
        except Exception as error:
            raise CommandError(
                f'{args.config} is given, but its model cannot be built with '
                'conv_cfg=dict(type=\'KernelDNA\') in '
                f'{", ".join(unit.name for unit in units)}: '
                f'{describe(error)}') from error


def split_pictures(args, cfg, model):
    """Deal out the pictures of the folder."""
    files = find_pictures(args.images, FEWEST)
    size = picture_size(args.size, cfg, args.config)
    kinds = dict(fitted=[], choosing=[], kept=[])
    for number, file in enumerate(files):
        place = number % FEWEST
        kinds['kept' if place in KEPT else 'choosing' if place in
              CHOOSING else 'fitted'].append(file)
    return Split(
        **{
            kind: Pictures(args.images, model, size, args.batch, chosen)
            for kind, chosen in kinds.items()
        })


def links_to_measure(plain, units, split, args):
    """Find the links that could be made, and what is around their children."""
    candidates = find_candidates(plain, [unit.name for unit in units])
    blocks = {}
    if candidates:
        check_run(split.fitted, args.config)
        first = split.fitted[0]
        blocks = find_blocks(plain, candidates,
                             lambda: forward_dense(plain, first.clone()))
    left_out = dict.fromkeys(f'{one.unit}.{one.child}' for one in candidates
                             if f'{one.unit}.{one.child}' not in blocks)
    if left_out:
        print('These have kin, but no part in what is computed for whole '
              f'pictures, and are left out: {", ".join(left_out)}')
    candidates = [
        one for one in candidates if f'{one.unit}.{one.child}' in blocks
    ]
    if not candidates:
        raise CommandError(
            f'{args.config} is given, but of its convolutions none has kin '
            'that it could share with: two of one shape and stage, in a '
            'backbone, neck or head that takes conv_cfg, are expected')
    return candidates, blocks


def write_config(cfg, units, links, args, comment, base):
    """Write the text of a config, and try it out.

    Returns:
        str: With ``base`` as its base.
    """
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports

    def text(base):
        return plan_text(base, imports, args.checkpoint, units, links, comment)

    try:
        model = load_trained(
            Config.fromstring(text(osp.abspath(args.config)), '.py'), args.out,
            args.checkpoint)
    except Exception as error:
        raise CommandError(
            f'{args.config} is given, but a config that shares and inherits '
            f'from it cannot be used: {describe(error)}') from error
    made = {
        row.name: row.parent
        for row in sharing_table(model) if row.parent is not None
    }
    planned = {
        f'{unit}.{child}': f'{unit}.{parent}'
        for unit, pairs in links.items()
        for child, parent in pairs.items()
    }
    if made != planned:
        raise CommandError(
            f'{args.config} is given, but a config that inherits from it '
            f'shares otherwise than planned: {sorted(made)[:3]}')
    return text(base)


def link_table(links):
    """What each link costs alone."""
    return markdown_table(
        ('child', 'parent', 'saved', 'part', 'output', 'noise'),
        [(one.child, one.parent, f'{one.saved:,}', f'{one.part_error:.3g}',
          f'{one.output.error:.3g}', f'{one.noise.error:.3g}')
         for one in links])


def curve_table(curve, total):
    """What each step adds, and what is saved and damaged by then."""
    rows = []
    for step in curve:
        one = step.links[-1]
        rows.append((len(step.links), one.child, one.parent, f'{step.saved:,}',
                     f'{step.saved / total:.1%}', f'{one.part_error:.3g}',
                     f'{one.output.error:.3g}', f'{step.damage:.3g}'))
    return markdown_table(('links', 'child added', 'parent', 'saved', 'of all',
                           'part', 'output', 'sum of single ones'), rows)


def plan_table(steps, measured, total):
    """The damage at each step of a plan, and what was measured."""
    rows = []
    for step in steps:
        one = measured.get(step)
        row = [
            len(step.links), f'{step.saved:,}', f'{step.saved / total:.1%}',
            f'{step.damage:.3g}'
        ]
        for damage in (one.at_once, one.refitted) if one else (None, None):
            same = getattr(damage, 'agreement', None)
            row += [
                damage and f'{damage.error:.3g}',
                None if same is None else f'{same:.1%}'
            ]
        rows.append(row)
    return markdown_table(('links', 'saved', 'of all', 'sum of single ones',
                           'at once', 'same', 'refitted', 'same'), rows)


def point(step):
    """A point of the curve, for the file of all figures."""
    return dict(
        saved=step.saved,
        damage=step.damage,
        links={one.child: one.parent
               for one in step.links})


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Measure, choose, and write the config."""
    args.picture = args.picture or osp.splitext(args.out)[0] + '.svg'
    check_arguments(args)
    # What loads of plain weights log, link by link.
    MMLogger.get_instance('plan_sharing', log_level='ERROR')
    cfg = read_config(args.config)
    units = find_units(cfg)
    plain = load_plain(cfg, units, args)
    split = split_pictures(args, cfg, plain)
    candidates, blocks = links_to_measure(plain, units, split, args)
    total = count_parameters(plain)
    most = most_saved(candidates) / total
    if most < args.save:
        raise CommandError(
            f'--save {args.save} is given, but links of kin save {most:.3f} '
            f'of the {total:,} parameters of convolutions at the most: give '
            'less')
    base = osp.relpath(args.config, osp.dirname(osp.abspath(args.out)))
    one = candidates[0]
    # What is wrong with it is said before the work.
    write_config(cfg, units, {one.unit: {
        one.child: one.parent
    }}, args, '', base)
    measurement = Measurement(plain, split, forward_dense, blocks, args.steps,
                              args.seed)
    names = [unit.name for unit in units]
    try:
        found = list(
            track_iter_progress(
                (measurement.links(candidates), len(candidates))))
        dropped = [one for one in found if not one.is_finite]
        if dropped:
            print(
                '\nThese links leave something that is no finite number, and '
                'are left out: ' + ', '.join(f'{one.child} from {one.parent}'
                                             for one in dropped))
        curve = find_curve(found)
        most = curve[-1].saved / total if curve else 0
        steps = find_plan(found, args.save * total)
        if steps is None:
            raise CommandError(
                f'--save {args.save} is given, but the links that are left '
                f'save {most:.3f} of the {total:,} parameters of convolutions '
                'at the most: give less')
        points = [
            steps[number - 1] for number in sorted(
                {ceil(len(steps) * i / POINTS)
                 for i in range(1, POINTS + 1)})
        ]
        print()
        plans = list(
            track_iter_progress(((measurement.plan(step.links, names)
                                  for step in points), len(points))))
    except CommandError:
        raise
    except ValueError as error:
        raise CommandError(
            f'{args.checkpoint} and {args.images} are given, but {error}'
        ) from error
    measured = dict(zip(points, plans))
    plan = steps[-1]
    text = write_config(
        cfg, units, split_by_unit(plan.links, names), args,
        f'Saves {plan.saved / total:.1%} of the parameters of convolutions.',
        base)
    tables = {
        'Damage against parameters saved': curve_table(curve, total),
        'Links of the plan': link_table(plan.links),
        'Steps to the plan': plan_table(steps, measured, total)
    }
    for title, table in tables.items():
        print(f'\n{title}:\n\n{table}')
    draw_curve(curve, measured, total, args.save, args.picture)
    if args.json:
        with written_whole(args.json, 'w', 'utf-8') as file:
            json.dump(
                dict(
                    config=Path(args.config).stem,
                    num_pictures={
                        kind: len(pictures.files)
                        for kind, pictures in split._asdict().items()
                    },
                    size=list(split.fitted.size),
                    steps=args.steps,
                    seed=args.seed,
                    parameters=total,
                    links=[asdict(one) for one in found if one.is_finite],
                    left_out=[
                        dict(child=one.child, parent=one.parent)
                        for one in dropped
                    ],
                    curve=[point(step) for step in curve],
                    plan=[
                        dict(
                            point(step),
                            measured=measured.get(step)
                            and asdict(measured[step])) for step in steps
                    ]),
                file,
                indent=1)
    with written_whole(args.out, 'w', 'utf-8') as file:
        file.write(text)
    print(f'\nThe plan saves {plan.saved:,} of the {total:,} parameters of '
          f'convolutions, {plan.saved / total:.1%}; {most:.1%} could be saved '
          'at the most. The sum of what single links cost is an estimate of '
          'what they cost together; all was measured on '
          f'{len(split.kept.files)} pictures that nothing was fitted to. '
          f'{args.picture} shows the curve; {args.out} trains the network '
          'that shares so')


if __name__ == '__main__':
    main()
