"""Plain weights of another library's key layout, taken by a unit."""
from __future__ import annotations
from typing import Any

from torch import Tensor, nn

from ..hosts import rename_layers
from ..pretrained.layouts import rename_mobilenet


def accept_key_layouts(unit: nn.Module) -> None:
    """Have a unit take weights under the names that other libraries have.

    From then on, whatever loads a state dict into ``unit`` or into a model
    around it may bring the keys of mmdet, mmseg or mmpretrain and, for a
    MobileNetV2, those of torchvision.

    Args:
        unit (nn.Module): A backbone, neck or head.
    """
    unit._register_load_state_dict_pre_hook(_rename, with_module=True)


def _rename(unit: nn.Module, state_dict: dict[str, Tensor], prefix: str,
            metadata: Any, strict: bool, missing: list[str],
            unexpected: list[str], errors: list[str]) -> None:
    """What torch calls before it loads a state dict into a unit."""
    weights = {
        key[len(prefix):]: state_dict.pop(key)
        for key in list(state_dict) if key.startswith(prefix)
    }
    modules = dict(unit.named_modules())
    weights = rename_layers(modules, weights)
    if weights and type(unit).__name__.endswith('MobileNetV2'):
        weights = rename_mobilenet(modules, weights, prefix, errors)
    for key, value in weights.items():
        state_dict[prefix + key] = value
