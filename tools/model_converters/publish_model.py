"""Make a training checkpoint a file to release, and its metafile entry.

What only resuming needs is left out: the state of optimizer, schedulers and
loggers, and the weights that EMAHook has put aside as ema_state_dict (the
averaged ones, which were validated, are in state_dict). Weights, classes and
the text of the config stay. The file is OUT_DIR/CONFIG_YYYYMMDD-HASH.pth, HASH
the first 8 digits of its sha256; once its entry is in the metafile, it is
loaded as checkpoint='mmkdna://CONFIG'. Without --url the entry has the path of
the file beside model-index.yml, where the folder weights comes with mmkdna.

With --half kernels and matrices are float16, which makes the file half as
large; norms and biases stay as they are. A model that loads it has the type
that it had before. Test both files with tools/test.py before one is released.
"""
import argparse
import datetime
import difflib
import os
import os.path as osp
import re
import sys
from collections import OrderedDict

import torch
import yaml

import mmkdna
from mmkdna.checkpoints.files import load_file
from mmkdna.checkpoints.names import INDEX, hash_of, read_models
from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError

# Of the machine and the run, not of the weights.
META_LEFT_OUT = ('env_info', 'exp_name', 'experiment_name', 'hook_msgs',
                 'host_name', 'time')
CFG_LEFT_OUT = re.compile(r'^(work_dir|load_from|resume) = .*\n', re.MULTILINE)


def get_parser() -> argparse.ArgumentParser:
    """The arguments of publish_model.py."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', metavar='IN', help='checkpoint to read')
    parser.add_argument(
        'out_dir', metavar='OUT_DIR', help='folder to write to')
    parser.add_argument(
        '--config',
        help='the config it was trained with: its file, or its name if a '
        'metafile has it. Default: what the checkpoint says')
    parser.add_argument(
        '--url',
        default='',
        help='address of the folder that the file will be uploaded to, for '
        'the metafile')
    parser.add_argument(
        '--half',
        action='store_true',
        help='write kernels and matrices as float16')
    return parser


def find_entry(config, checkpoint):
    """The metafile's entry of the model, or a new one.

    Args:
        config (str | None): See ``--config``.
        checkpoint (dict): The checkpoint.

    Returns:
        dict: Entry without Weights, and its 'metafile' if it has one.

    Raises:
        ValueError: If there is no such config.
    """
    trained = checkpoint.get('meta', {}).get('experiment_name') or ''
    if not isinstance(trained, str):
        raise ValueError('its meta.experiment_name is no text')
    # mmengine appends the time.
    given = config or re.sub(r'_\d{8}_\d{6}$', '', trained)
    if not config and given == trained:
        raise ValueError('the checkpoint does not say which config it was '
                         'trained with: give --config')
    name = re.sub(r'\.py$', '', osp.basename(given))
    models = read_models()
    if name in models:
        return models[name]
    if osp.isfile(given):
        return dict(Name=name, Config=osp.relpath(given))
    near = ', '.join(difflib.get_close_matches(name, models))
    raise ValueError(
        f'{given} is ' +
        ('given as --config' if config else 'what it was trained with') +
        ', but no metafile has a model of that name, and there is no such '
        'file: give a --config' + (f', such as {near}' if near else ''))


def strip(checkpoint, half=False):
    """What is released of a checkpoint.

    Args:
        checkpoint (dict): A checkpoint or a bare state dict.
        half (bool): Whether kernels and matrices become float16. Defaults to
            False.

    Returns:
        dict: With 'meta' and 'state_dict', of tensors and plain values only:
        what weights_only takes on torch 2.1 as well.

    Raises:
        ValueError: If there is a weight that is no tensor or that float16
            does not reach, no weight at all, or something else in the meta
            data.
    """
    state_dict = checkpoint.get('state_dict', checkpoint)
    weights = OrderedDict()
    for key, value in state_dict.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f'{key} is a {type(value).__name__}, a tensor is '
                             'expected in a state dict')
        # A view would bring all of its base along.
        value = value.detach()
        if value.untyped_storage().nbytes(
        ) > value.numel() * value.element_size():
            value = value.clone()
        weights[key] = to_half(key, value) if half else value
    if not weights:
        raise ValueError('there are no weights in it')
    if hasattr(state_dict, '_metadata'):
        # The version of each module, by which old weights are adapted.
        weights._metadata = state_dict._metadata
    meta = dict(
        checkpoint.get('meta') or {}, mmkdna_version=mmkdna.__version__)
    meta = {
        key: plain(value, f'meta.{key}')
        for key, value in meta.items() if key not in META_LEFT_OUT
    }
    if isinstance(meta.get('cfg'), str):
        meta['cfg'] = CFG_LEFT_OUT.sub('', meta['cfg'])
    return dict(meta=meta, state_dict=weights)


def to_half(key, value):
    """A kernel or matrix as float16, and anything else as it is.

    Args:
        key (str): Its key.
        value (Tensor): The tensor.

    Returns:
        Tensor: Of the same shape.

    Raises:
        ValueError: If a value is larger than float16 has them.
    """
    if not value.is_floating_point() or value.ndim < 2:
        return value
    half = value.half()
    if not torch.equal(half.isfinite(), value.isfinite()):
        raise ValueError(f'{key} has a value of {value.abs().max():.3g}, '
                         f'float16 ends at {torch.finfo(half.dtype).max:.0f}: '
                         'publish it without --half')
    return half


def plain(value, where):
    """A value made of what every torch loads with ``weights_only``."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, dict):
        return {
            plain(key, where): plain(item, f'{where}.{key}')
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        # A torch.Size becomes a tuple.
        kind = list if isinstance(value, list) else tuple
        return kind(plain(item, where) for item in value)
    if isinstance(value, set):
        return sorted(plain(item, where) for item in value)
    raise ValueError(f'{where} has a {type(value).__name__}, only plain '
                     'values are published: take it out of the checkpoint')


def write(published, out_dir, name):
    """Write a file as a whole or not at all.

    Args:
        published (dict): What to save.
        out_dir (str): Folder; it is made if there is none.
        name (str): Name of the config.

    Returns:
        str: The path.
    """
    os.makedirs(out_dir, exist_ok=True)
    beside = osp.join(out_dir, f'.{name}.{os.getpid()}')
    try:
        # torch.save would put the file's name, if it knew it, into the file,
        # and the hash would depend on it.
        with open(beside, 'xb') as file:
            torch.save(published, file)
        load_file(beside)
        today = datetime.date.today().strftime('%Y%m%d')
        path = osp.join(out_dir, f'{name}_{today}-{hash_of(beside)[:8]}.pth')
        os.replace(beside, path)
    finally:
        if osp.exists(beside):
            os.remove(beside)
    return path


def address(path, url):
    """Where a metafile says that a file is.

    Args:
        path (str): The file.
        url (str): See ``--url``.

    Returns:
        str: Its address, or its path from the folder of model-index.yml, or
        its name if it is not in there.
    """
    if url:
        return f'{url.rstrip("/")}/{osp.basename(path)}'
    inside = osp.relpath(osp.realpath(path), osp.dirname(INDEX))
    return osp.basename(path) if inside.startswith('..') else inside


def to_yaml(entry):
    """An entry as it stands in a metafile."""

    class Dumper(yaml.SafeDumper):

        def increase_indent(self, flow=False, indentless=False):
            return super().increase_indent(flow, False)

    return yaml.dump(
        dict(Models=[entry]), Dumper=Dumper, sort_keys=False, width=1000)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Publish."""
    try:
        checkpoint = load_file(args.checkpoint)
        for key in ('meta', 'state_dict'):
            if not isinstance(checkpoint.get(key, {}), dict):
                raise ValueError(f'{key} is a {type(checkpoint[key])}, a dict '
                                 'is expected')
        entry = dict(find_entry(args.config, checkpoint))
        metafile = entry.pop('metafile', None)
        published = strip(checkpoint, args.half)
        path = write(published, args.out_dir, entry['Name'])
    except (OSError, ValueError) as error:
        reason = str(error)
        if args.checkpoint not in reason:
            reason = f'{args.checkpoint}: {reason}'
        raise CommandError(f'{reason}. Nothing is published') from error
    left_out = [key for key in checkpoint if key not in published]
    if 'state_dict' in checkpoint and left_out:
        print(f'Left out: {", ".join(left_out)}', file=sys.stderr)
    if not published['meta'].get('dataset_meta'):
        print(
            'It does not say which classes there are: meta.dataset_meta is '
            'missing',
            file=sys.stderr)
    print(
        f'Published as {path}; this belongs into '
        f'{metafile or "a metafile, with the collection it is in"}:',
        file=sys.stderr)
    entry['Weights'] = address(path, args.url)
    metadata = dict(entry.get('Metadata', {}))
    metadata.pop('Precision', None)
    if args.half:
        metadata['Precision'] = 'float16'
    if metadata:
        entry['Metadata'] = metadata
    print(to_yaml(entry), end='')


if __name__ == '__main__':
    main()
