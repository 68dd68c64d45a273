"""Whether the model and the data of a config have as many classes."""
from __future__ import annotations
import os
from typing import Any, Iterator, Mapping, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from .data_check import leaf_datasets
from .errors import CommandError

# What of a model has a score for each class of the dataset.
HEADS = dict(
    mmdet=('bbox_head', 'mask_head'),
    mmseg=('decode_head', 'auxiliary_head'),
    mmpretrain=('head', ))
# Models whose heads have other classes: words, and what is tracked.
EXEMPT = ('language_model', 'tracker')


def check_classes(cfg: Config, splits: Sequence[str]) -> None:
    """End the run if a head does not fit the classes of a dataset.

    What cannot be known from the config is taken to be right.

    Args:
        cfg (Config): The config.
        splits (Sequence[str]): Those that are used of 'train', 'val' and
            'test'.
    """
    scope = cfg.get('default_scope')
    if any(key in cfg.model for key in EXEMPT):
        return
    heads = dict(_heads(cfg.model, HEADS.get(scope, ()), 'model'))
    for split in splits if heads else ():
        for dataset in leaf_datasets(cfg.get(f'{split}_dataloader')):
            classes = _classes(dataset, scope) or ()
            wrong = [
                head for head, number in heads.items()
                if classes and not _fits(number, len(classes), scope)
            ]
            if not wrong:
                continue
            given = _options({head: heads[head] for head in wrong})
            expected = _options(dict.fromkeys(wrong, len(classes)))
            raise CommandError(
                f'{given} is given in {cfg.filename}, but the number of '
                f'classes is {len(classes)} in its {split}_dataloader, '
                f'{dataset["type"]}: {_shorten(classes)}. Add --cfg-options '
                f'{expected}, or name other classes in the metainfo of the '
                'dataset')


def _options(numbers: Mapping[str, int]) -> str:
    return ' '.join(f'{head}.num_classes={number}'
                    for head, number in numbers.items())


def _fits(number: int, classes: int, scope: str | None) -> bool:
    # A classifier may know more than it is asked for.
    return number >= classes if scope == 'mmpretrain' else number == classes


def _heads(node: Mapping[str, Any], names: Sequence[str],
           path: str) -> Iterator[tuple[str, int]]:
    """The path and number of classes of the heads in a model's config."""
    for key, value in node.items():
        here = f'{path}.{key}'
        if key in names:
            several = isinstance(value, (list, tuple))
            for index, head in enumerate(value if several else [value]):
                if _counts_classes(head):
                    yield (f'{here}.{index}' if several else here,
                           head['num_classes'])
        elif isinstance(value, dict):
            yield from _heads(value, names, here)


def _counts_classes(head: Any) -> bool:
    return (isinstance(head, dict)
            and isinstance(head.get('num_classes'), int)
            # An STDCHead tells boundaries from what is none.
            and 'boundary_threshold' not in head)


def _classes(dataset: dict[str, Any],
             scope: str | None) -> Sequence[str] | None:
    """The names of a dataset's classes, or None if they are not known."""
    try:
        with DefaultScope.overwrite_default_scope(scope):
            built = DATASETS.build(dict(dataset, lazy_init=True, pipeline=[]))
        # Of a panoptic dataset, the others are left to a head of their own.
        known = built.metainfo.get('thing_classes') or built.metainfo.get(
            'classes')
    except Exception:
        # Whatever is wrong with it is said when it is really built.
        return None
    if known is None and dataset['type'] == 'CustomDataset':
        known = _subfolders(built)
    return known if isinstance(known, (list, tuple)) else None


def _subfolders(dataset: Any) -> list[str] | None:
    """The classes of mmpretrain's CustomDataset without a list of files."""
    if (not dataset.with_label or dataset.ann_file
            or not os.path.isdir(dataset.img_prefix)):
        return None
    return sorted(
        entry.name for entry in os.scandir(dataset.img_prefix)
        if entry.is_dir())


def _shorten(classes: Sequence[str]) -> str:
    return ', '.join([*classes[:3], '...'] if len(classes) > 4 else classes)
