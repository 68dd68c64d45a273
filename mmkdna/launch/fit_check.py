"""Whether the weights that a training starts from are those of its model."""
from __future__ import annotations
from typing import Any, Callable, Iterable

from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import Tensor, nn

from .distributed import is_first_process
from .errors import CommandError, describe


def check_fit(cfg: Config, model: nn.Module) -> None:
    """End a training whose pretrained weights are of another network.

    mmengine takes what fits, leaves the rest random, and says so in lines of
    the log only. So a backbone that names its layers otherwise than the file
    does begins from next to nothing. Weights are refused where neither half of
    the file nor half of what was to take them has found its place: a head for
    other classes, a backbone out of a whole detector, blocks that the file
    does not have are all well.

    Args:
        cfg (Config): The config, with its launcher. Of a distributed run, the
            first process looks.
        model (nn.Module): The model it builds, which takes the weights.
    """
    if cfg.get('resume') or not is_first_process(cfg.launcher):
        return
    path = cfg.get('load_from')
    if path:
        _check('load_from', path, '', model,
               lambda: load_checkpoint(model, path, map_location='cpu'))
        return
    for name, module in model.named_modules():
        for init_cfg in _pretrained(module):
            where = '.'.join(filter(None, ('model', name, 'init_cfg')))
            _check(where, init_cfg['checkpoint'],
                   init_cfg.get('prefix') or '', module, module.init_weights)


def _pretrained(module: nn.Module) -> Iterable[dict[str, Any]]:
    """What of a module's init_cfg is a file."""
    init_cfg = getattr(module, 'init_cfg', None) or ()
    for one in [init_cfg] if isinstance(init_cfg, dict) else init_cfg:
        if one.get('type') in ('Pretrained', PretrainedInit):
            yield one


def _check(what: str, path: str, prefix: str, module: nn.Module,
           load: Callable[[], Any]) -> None:
    """Load, and see how many of the tensors are in the module then.

    They are found by their values, since some classes rename them.
    """
    try:
        load()
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except Exception as error:
        raise CommandError(f'{path} is given as {what}, but it cannot be '
                           f'loaded: {describe(error)}') from error
    file = {
        key: value
        for key, value in checkpoint.get('state_dict', checkpoint).items()
        if key.startswith(prefix) and _is_weight(value)
    }
    ours = {k: v for k, v in module.state_dict().items() if _is_weight(v)}
    values = set(map(_value, file.values()))
    taken = sum(_value(tensor) in values for tensor in ours.values())
    if 2 * taken < min(len(file), len(ours)):
        raise CommandError(
            f'{path} is given as {what}, but of its {len(file)} tensors only '
            f'{taken} are such as the {type(module).__name__} has, which has '
            f'{len(ours)}: in the file they are named {_some(file)}, in the '
            f'model {_some(ours)}. Give weights of this very network, with '
            'the names of its library; to start from random ones, leave '
            f'{what} away')


def _is_weight(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _value(tensor: Tensor) -> tuple[int, str, str]:
    """The same for the same values, in any order, shape and precision."""
    flat = tensor.float().flatten().double()
    return len(flat), f'{flat.sum():.6g}', f'{flat.abs().sum():.6g}'


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:2]) + ', ...' * (len(names) > 2)
