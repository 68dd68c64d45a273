"""Whether a checkpoint is of the very model that is to be tested."""
from __future__ import annotations
import re
from typing import Any, Iterable

from mmengine.config import Config
from mmengine.model import BaseTTAModel
from mmengine.runner import CheckpointLoader
from torch import nn

from ..pretrained import plain_report
from .checkpoint_check import check_checkpoint
from .errors import CommandError

# What of an adapter is left in the deploy form is its gate.
_STATIC = re.compile(r'\.adapter\.(filter|spatial)$')


def check_form(cfg: Config, model: nn.Module, path: str) -> None:
    """End the run if a checkpoint is not of the model.

    mmengine's loader leaves what a checkpoint does not have as it is, random,
    and says so in the log. That is what becomes of a child whose kernel the
    deploy form has and the trained one derives.

    Args:
        cfg (Config): The config.
        model (nn.Module): The model it builds; it takes the weights.
        path (str): The checkpoint, a file or an address.
    """
    check_checkpoint(path, 'checkpoint')
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    if isinstance(model, BaseTTAModel):
        model = model.module
    state_dict = checkpoint.get('state_dict', checkpoint)
    expected = list(model.state_dict())
    given: dict[str, Any] = {}
    try:
        for key, value in state_dict.items():
            if not isinstance(key, str):
                raise ValueError('a key is no text')
            # As mmengine's runner does.
            given[re.sub(r'^module\.', '', key)] = value
        loaded = model.load_state_dict(given, strict=False)
    except Exception as error:
        raise CommandError(
            f'{path} is given, the weights of the model of {cfg.filename} are '
            f'expected: {" ".join(str(error).split())}. '
            f'{_advice(given, expected)}') from error
    convs = tuple(f'{name}.' for name, module in model.named_modules()
                  if isinstance(module, nn.Conv2d))
    missing = [
        key for key in loaded.missing_keys
        if not key.endswith('num_batches_tracked')
    ]
    # A part that the model does not have at all may have been for training.
    others = [key for key in loaded.unexpected_keys if key.startswith(convs)]
    approximated = [
        fit.child for report in plain_report(model).values()
        for fit in report.fits if fit.child != fit.parent
    ]
    found = [
        f'{what}: {", ".join(names[:3])}{", ..." * (len(names) > 3)}'
        for what, names in (
            (f'{len(missing)} of the {len(expected)} tensors of the model are '
             'not in it', missing),
            (f'{len(others)} tensors in it are of convolutions that have none '
             'such in the model', others),
            (f'{len(approximated)} children would have kernels that are only '
             'like those in it', approximated)) if names
    ]
    if found:
        raise CommandError(
            f'{path} is given, the weights of the model of {cfg.filename} are '
            f'expected, but {"; ".join(found)}. {_advice(given, expected)}')


def _advice(given: Iterable[str], expected: Iterable[str]) -> str:
    """Say what form a checkpoint seems to have, and what to do."""
    forms = [_form(given), _form(expected)]
    if forms[0] == forms[1]:
        return 'Give the config it was trained with'
    return (f'It seems to be of a model {_SAID[forms[0]]}, and the config is '
            f'of one {_SAID[forms[1]]}: {_ADVICE[forms[0]]}')


def _form(keys: Iterable[str]) -> str:
    adapters = [key for key in keys if '.adapter.' in key]
    if not adapters:
        return 'plain'
    return 'trained' if any(map(_STATIC.search, adapters)) else 'deployed'


_SAID = dict(
    plain='that has no adapters',
    trained='as it is trained',
    deployed='in the deploy form')
_ADVICE = dict(
    plain='give the config of the plain network, or have '
    'tools/model_converters/plain_to_mmkdna.py make adapters of its kernels',
    trained='give the config it was trained with',
    deployed='give the config that tools/model_converters/switch_to_deploy.py '
    'has written beside it')
