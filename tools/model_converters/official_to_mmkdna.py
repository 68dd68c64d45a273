"""Convert a checkpoint of KernelDNA's authors to mmkdna's, or back.

SRC is what the authors' training script saves, or a bare state dict. DST is
loaded by the classifiers of configs/resnet and configs/mobilenet_v2, and by
init_cfg=dict(type='Pretrained', checkpoint=DST, prefix='backbone.') in the
backbone of a detector or segmentor. (In mmseg, whose ResNets have a deep stem
in most configs, the backbone also needs deep_stem=False.) An existing DST is
replaced; if anything goes wrong, it stays as it is.
"""
import argparse
from collections import OrderedDict

import torch

import mmkdna
from mmkdna.checkpoints.files import load_file, save_file
from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError
from mmkdna.launch.outputs import check_output
from mmkdna.official import (MODULE, PREFIX, mmkdna_to_official,
                             official_to_mmkdna, recognize, strip_module)

# What the authors' script saves beside the weights and is kept for the way
# back; the optimizer's state is of no use without their code.
ENVELOPE = ('epoch', 'arch', 'best_acc1')


def get_parser() -> argparse.ArgumentParser:
    """The arguments of official_to_mmkdna.py."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read')
    parser.add_argument('dst', metavar='DST', help='checkpoint to write')
    parser.add_argument(
        '--prefix',
        default=PREFIX,
        help='what the backbone\'s keys start with on mmkdna\'s side, beside '
        'the classifier\'s head.fc; with an empty one DST is the backbone '
        'alone, which loads without a prefix. Default: %(default)s')
    parser.add_argument(
        '--reverse',
        action='store_true',
        help='from mmkdna\'s to the authors\': SRC is the checkpoint of a '
        'whole classifier; DST takes the form that the authors\' checkpoint '
        'had if SRC was converted from one, and is a bare state dict '
        'otherwise')
    return parser


def unwrap(checkpoint, path):
    """The state dict of a checkpoint, and what surrounds it.

    Args:
        checkpoint (dict): A checkpoint or a bare state dict.
        path (str): Where it was read.

    Returns:
        tuple[dict, dict | None]: The second is ``None`` for a bare one.

    Raises:
        ValueError: If neither is there.
    """
    state_dict = checkpoint.get('state_dict')
    if isinstance(state_dict, dict):
        return state_dict, checkpoint
    if any(isinstance(value, torch.Tensor) for value in checkpoint.values()):
        return checkpoint, None
    names = ', '.join(map(str, list(checkpoint)[:5])) or 'nothing'
    raise ValueError(f'{path} holds {names}: a state dict is expected, bare '
                     'or under the key \'state_dict\'')


def to_mmkdna(state_dict, envelope, prefix):
    """The checkpoint to write, and the network."""
    converted = official_to_mmkdna(state_dict, prefix)
    network = recognize(strip_module(state_dict), 'official', prefix)
    form = dict(
        module=any(key.startswith(MODULE) for key in state_dict),
        envelope=None)
    if envelope is not None:
        form['envelope'] = {
            key: envelope[key]
            for key in ENVELOPE if key in envelope
        }
    meta = dict(
        mmkdna_version=mmkdna.__version__,
        network=network.name,
        config=network.config,
        official=form)
    return dict(meta=meta, state_dict=converted), network


def to_official(state_dict, envelope, prefix):
    """The checkpoint to write, and the network."""
    converted = mmkdna_to_official(state_dict, prefix)
    network = recognize(strip_module(state_dict), 'mmkdna', prefix)
    meta = (envelope or {}).get('meta')
    form = meta.get('official') if isinstance(meta, dict) else None
    form = form if isinstance(form, dict) else {}
    if form.get('module'):
        converted = OrderedDict(
            (MODULE + key, value) for key, value in converted.items())
    if isinstance(form.get('envelope'), dict):
        return dict(form['envelope'], state_dict=converted), network
    return converted, network


def describe(network, converted, reverse):
    """What was mapped: a row per stage and, below, a row per child.

    Args:
        network (Network): The network.
        converted (dict[str, Tensor]): Its converted state dict.
        reverse (bool): The direction.

    Returns:
        str: A text of several lines.
    """
    stages = OrderedDict()
    children = []
    for entry in network.table:
        if not reverse and entry.mmkdna not in converted:
            continue
        parts = entry.mmkdna.split('.')
        # Up to the stage, whatever the prefix before it.
        depth = 1 + max(
            (i for i, part in enumerate(parts) if part.startswith('layer')),
            default=len(parts) - 2)
        stage = '.'.join(parts[:depth])
        stages.setdefault(stage, []).append(entry)
        if entry.mmkdna.endswith('adapter.gate.fc1.weight'):
            children.append((entry.official[:-len('.fc1.weight')],
                             entry.mmkdna[:-len('.adapter.gate.fc1.weight')]))
    rows = [('authors', 'tensors', 'mmkdna', 'tensors', 'children')]
    for stage, entries in stages.items():
        theirs = OrderedDict.fromkeys(_stage(e.official) for e in entries)
        number = sum(ours.startswith(f'{stage}.') for _, ours in children)
        rows.append((', '.join(theirs), len({e.official
                                             for e in entries}), stage,
                     len(entries), number or ''))
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows)]
    lines = [
        '  '.join(str(cell).ljust(width)
                  for cell, width in zip(row, widths)).rstrip() for row in rows
    ]
    width = max(len(theirs) for theirs, _ in children)
    lines += ['', 'gates (authors) and children (mmkdna)']
    lines += [f'{theirs.ljust(width)}  {ours}' for theirs, ours in children]
    return '\n'.join(lines)


def _stage(key):
    parts = key.split('.')
    return '.'.join(parts[:2 if parts[0] == 'features' else 1])


def convert(src, dst, prefix=PREFIX, reverse=False):
    """Convert a file.

    Args:
        src (str): The file to read.
        dst (str): The file to write.
        prefix (str): See ``--help``. Defaults to 'backbone.'.
        reverse (bool): From mmkdna's to the authors'. Defaults to False.

    Returns:
        str: What was done, a text of several lines.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If ``src`` is not what is expected.
    """
    check_output(dst, src)
    state_dict, envelope = unwrap(load_file(src), src)
    direction = to_official if reverse else to_mmkdna
    checkpoint, network = direction(state_dict, envelope, prefix)
    converted, _ = unwrap(checkpoint, dst)
    lines = [
        f'{network.name}, {network.config}: {len(state_dict)} tensors read, '
        f'{len(converted)} written', '',
        describe(network, converted, reverse), ''
    ]
    if not prefix and not reverse:
        lines.append('left out: the classifier, head.fc')
    kept = ('meta', 'state_dict') if reverse else ('state_dict', *ENVELOPE)
    left = [key for key in envelope or {} if key not in kept]
    if left:
        lines.append(f'left out, since it is not of the weights: '
                     f'{", ".join(left)}')
    save_file(checkpoint, dst)
    return '\n'.join([*lines, f'wrote {dst}'])


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Convert."""
    try:
        print(convert(args.src, args.dst, args.prefix, args.reverse))
    except (OSError, ValueError) as error:
        text = str(error).rstrip('.')
        raise CommandError(f'error: {text}. Nothing is written') from error


if __name__ == '__main__':
    main()
