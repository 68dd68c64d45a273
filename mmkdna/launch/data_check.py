"""Whether the data that a config names exists."""
from __future__ import annotations
import inspect
import json
import os
import os.path as osp
from typing import Any, Iterator, Mapping, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS

from .errors import CommandError


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """End the run if the config names data that does not exist.

    Args:
        cfg (Config): The config.
        splits (Sequence[str]): Those that are used of 'train', 'val' and
            'test'.
    """
    for split in splits:
        for where, dataset in _inner(
                cfg.get(f'{split}_dataloader') or {}, f'{split}_dataloader'):
            if _comes_by_itself(dataset, cfg.get('default_scope')):
                continue
            root = dataset.get('data_root') or ''
            for key, path in _paths(dataset):
                _check_path(path, f'{where}.{key}', cfg,
                            '' if key == 'data_root' else root)
        for where, evaluator in _numbered(
                cfg.get(f'{split}_evaluator'), f'{split}_evaluator'):
            if isinstance(evaluator.get('ann_file'), str):
                _check_path(evaluator['ann_file'], f'{where}.ann_file', cfg)


def unreadable_json(cfg: Config, split: str) -> str:
    """Find an annotation file that is no JSON, though its name says so.

    Reading a large one takes long, so it is not done before anything is wrong.

    Args:
        cfg (Config): The config.
        split (str): 'train', 'val' or 'test'.

    Returns:
        str: What is wrong and what to do; empty if nothing is.
    """
    files = [(f'{where}.{key}', path) for where, dataset in _inner(
        cfg.get(f'{split}_dataloader') or {}, f'{split}_dataloader')
             for key, path in _paths(dataset)]
    files += [(f'{where}.ann_file', str(evaluator.get('ann_file')))
              for where, evaluator in _numbered(
                  cfg.get(f'{split}_evaluator'), f'{split}_evaluator')]
    for key, path in files:
        path = osp.expanduser(path)
        if not path.endswith('.json') or not osp.isfile(path):
            continue
        try:
            with open(path, encoding='utf-8') as file:
                json.load(file)
        except (ValueError, RecursionError) as error:
            return (f'{path} ({key}) is expected to be JSON, but it is not: '
                    f'{error}. It has {osp.getsize(path):,} bytes: copy or '
                    'download it again, or name another file with '
                    f'--cfg-options {key}=PATH')
    return ''


def leaf_datasets(
        dataloader: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The datasets of a dataloader, out of their wrappers.

    Args:
        dataloader (dict | None): Config of a dataloader or of a dataset.

    Yields:
        dict: Config of a dataset that wraps no other one.
    """
    for _, dataset in _inner(dataloader or {}, ''):
        yield dataset


def _inner(node: Mapping[str, Any],
           where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The innermost datasets in a config, behind their keys."""
    key = 'dataset' if node.get('dataset') else 'datasets'
    for here, dataset in _numbered(node.get(key), f'{where}.{key}'):
        if dataset.get('dataset') or dataset.get('datasets'):
            yield from _inner(dataset, here)
        else:
            yield here, dataset


def _numbered(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """A config by its key, or each one of a list."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _numbered(item, f'{where}.{index}')
    elif isinstance(value, dict):
        yield where, value
    elif value:
        raise CommandError(f'{where} = {value!r} is given, but a config, a '
                           'dict with a type, is expected')


def _comes_by_itself(dataset: Mapping[str, Any], scope: str | None) -> bool:
    """Whether a dataset is downloaded when missing, or read from a server."""
    backend = dataset.get('backend_args') or {}
    if isinstance(backend, dict) and backend.get('backend',
                                                 'local') != 'local':
        return True
    cls = dataset.get('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(scope) as registry:
            cls = registry.get(cls)
    elif cls and not callable(cls):
        raise CommandError(f'type = {cls!r} is given for a dataset, but a '
                           'name in the registry DATASETS is expected')
    parameters = inspect.signature(cls).parameters if cls else {}
    return 'download' in parameters and dataset.get('download', True)


def _paths(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths a dataset names, joined as mmengine's BaseDataset does."""
    root = dataset.get('data_root') or ''
    if not isinstance(root, (str, os.PathLike)):
        raise CommandError(f'data_root = {root!r} is given for a dataset, but '
                           'a path is expected')
    if root:
        yield 'data_root', os.fspath(root)
    prefix = dataset.get('data_prefix') or {}
    if not isinstance(prefix, dict):
        prefix = {'': prefix}
    paths = {f'data_prefix.{key}'.rstrip('.'): prefix[key] for key in prefix}
    for key, path in {**paths, 'ann_file': dataset.get('ann_file')}.items():
        if isinstance(path, str) and path:
            yield key, osp.join(root, path)


def _check_path(path: str, key: str, cfg: Config, root: str = '') -> None:
    if '://' in path or osp.exists(osp.expanduser(path)):
        return
    base = f' (absolute, or from {root} on)' if root else ''
    raise CommandError(
        f'{path} is expected to hold data ({key} in {cfg.filename}), but '
        f'there is no such file or folder in {os.getcwd()}: put the dataset '
        f'there, or say where it is with --cfg-options {key}=PATH{base}; '
        'configs on real pictures read the environment variable MMKDNA_DATA, '
        'and the data of the shapes configs is made by '
        'tools/dataset_converters/make_shapes.py')
