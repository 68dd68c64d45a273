"""The units of a config that may share, and the config of a plan."""
from __future__ import annotations
import inspect
import textwrap
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Mapping

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from ..backbones import BACKBONES
from ..backbones.base import CONV_TYPES, type_path
from ..deploy import plain_config
from .entries import GLUE, entries_text

# What a plan leaves as the user has it in conv_cfg.
KEPT = ('rd_ratio', 'modulation', 'norm_cfg', 'keep_own_kernel')
# Stages that a backbone of ours may share in, all of them.
STAGES = dict(
    KernelDNAResNet=(1, 2, 3, 4),
    KernelDNAMobileNetV2=(1, 2, 3, 4, 5, 6, 7),
    KernelDNAConvNeXt=(1, 2, 3, 4))
# Choices that a backbone of ours makes unless it is told otherwise, and that
# cannot stand beside links.
NO_CHOICE = dict(
    kernel_sizes=None, name_pattern=None, children_per_parent=1, stage_level=1)
# Characters of a line.
WIDTH = 79
# So many channels has no convolution.
TOO_MANY = 10**9


@dataclass(frozen=True)
class PlannedUnit:
    """A backbone, neck or head whose convolutions ``conv_cfg`` chooses.

    Attributes:
        name (str): Its name in the model, as ``roi_head.bbox_head``.
        replaces (bool): Whether the config gives it a ``conv_cfg`` already.
        adapter (dict): What the config says of adapters.
        further (dict): What it needs beside ``conv_cfg``.
        choices (dict): What ``conv_cfg`` needs beside the links.
    """
    name: str
    replaces: bool
    adapter: dict[str, Any]
    further: dict[str, Any]
    choices: dict[str, Any]


def find_units(cfg: Config) -> list[PlannedUnit]:
    """Find the units whose convolutions may share.

    These take a ``conv_cfg`` and have none, a plain one or ours. Those in a
    list, as auxiliary heads, do not count.

    Args:
        cfg (Config): Config of a model.

    Returns:
        list[PlannedUnit]: In the order of the config.
    """
    model = Config(cfg.to_dict()).model
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        with MODELS.switch_scope_and_registry(None) as registry:
            return list(_units(model, '', registry))


def _units(node: Any, name: str, registry: Any) -> Iterator[PlannedUnit]:
    """The units in a part of a model's config."""
    path = type_path(node.get('type'))
    ours = path[-1] in BACKBONES
    conv_cfg = node.get('conv_cfg') or {}
    kind = type_path(conv_cfg.get('type', 'Conv2d'))[-1]
    free = kind in ('Conv2d', 'Conv', *CONV_TYPES)
    if name and free and not node.get('dcn') and (ours or _takes_conv_cfg(
            registry.get(node.get('type') or ''))):
        yield PlannedUnit(
            name, 'conv_cfg' in node,
            {key: conv_cfg[key]
             for key in KEPT if key in conv_cfg},
            dict(sharing_stages=STAGES[path[-1]]) if ours else {},
            dict(NO_CHOICE) if ours else {})
    for key, value in node.items():
        if isinstance(value, dict) and value.get('type'):
            yield from _units(value, f'{name}.{key}'.lstrip('.'), registry)


def _takes_conv_cfg(cls: Any) -> bool:
    """Whether a class, or one that it hands its keywords to, has the name."""
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if '__init__' not in vars(base):
            continue
        parameters = inspect.signature(vars(base)['__init__']).parameters
        if 'conv_cfg' in parameters:
            return True
        if all(p.kind != p.VAR_KEYWORD for p in parameters.values()):
            return False
    return False


def unlinked_config(cfg: Config, units: Iterable[PlannedUnit]) -> Config:
    """Write the config of the plain network, of convolutions that may share.

    Args:
        cfg (Config): Config of a model.
        units (Iterable[PlannedUnit]): Its units.

    Returns:
        Config: A copy in which these have KernelDNA convolutions without
        links.
    """
    cfg = plain_config(cfg)
    for unit in units:
        node = cfg.model
        for key in unit.name.split('.'):
            node = node[key]
        node.update(unit.further)
        node['conv_cfg'] = dict(
            type='KernelDNA',
            min_channels=TOO_MANY,
            **{
                key: value
                for key, value in unit.adapter.items()
                if key != 'keep_own_kernel'
            })
    return cfg


def plan_text(base: str, imports: Iterable[str], checkpoint: str,
              units: Iterable[PlannedUnit],
              links: Mapping[str, Mapping[str, str]], comment: str) -> str:
    """Write a config that shares as planned.

    Args:
        base (str): The config that it inherits from.
        imports (Iterable[str]): What that config imports.
        checkpoint (str): Weights to start from.
        units (Iterable[PlannedUnit]): The units.
        links (dict[str, dict[str, str]]): Children and their parents by unit.
        comment (str): What stands above, in a line.

    Returns:
        str: Lines of Python.
    """
    imports = list(imports)
    # What the base imports is inherited.
    importing = [] if 'mmkdna' in imports else [
        f'custom_imports = dict(imports={[*imports, "mmkdna"]!r}, '
        'allow_failed_imports=False)'
    ]
    tree: dict[str, Any] = {}
    for unit in units:
        if unit.name not in links:
            continue
        *outer, last = unit.name.split('.')
        node = tree
        for key in outer:
            node = node.setdefault(key, {})
        node.setdefault(last, {})[''] = _unit_text(unit, links[unit.name])
    return '\n'.join([
        f'# {comment}', f'_base_ = {base!r}', *importing,
        f'load_from = {checkpoint!r}', 'model = dict(',
        f'    {_tree_text(tree)})', ''
    ])


def _tree_text(tree: Mapping[str, Any]) -> str:
    """Keywords of nested dicts, a line for each but the first."""
    keywords = [
        value if key == '' else f'{key}=dict({_tree_text(value)})'
        for key, value in tree.items()
    ]
    return ',\n    '.join(keywords)


def _unit_text(unit: PlannedUnit, links: Mapping[str, str]) -> str:
    """Keywords of a unit."""
    given: dict[str, Any] = dict(_delete_=True) if unit.replaces else {}
    given.update(type='KernelDNA', **unit.adapter, **unit.choices)
    options = ', '.join(f'{key}={value!r}' for key, value in given.items())
    further = ''.join(f'{key}={value!r}, '
                      for key, value in unit.further.items())
    # What stands before it in its line is as long as this.
    before = ' ' * len('    ' + unit.name.replace('.', '=dict(') + '=dict(')
    lines = [
        *_wrapped(f'{further}conv_cfg=dict({options}, links={{', before),
        # Room for what closes the dicts around it.
        *_wrapped(entries_text(links) + '})' + GLUE * 3, ' ' * 8)
    ]
    return '\n'.join(lines).strip()


def _wrapped(text: str, before: str) -> list[str]:
    """Lines of a text, with something before its first."""
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=before,
        subsequent_indent=' ' * 8,
        break_long_words=False,
        break_on_hyphens=False)
    return [line.rstrip(GLUE).replace(GLUE, ' ') for line in lines]
