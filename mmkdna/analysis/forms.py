"""The forms in which a model runs.

- plain: the same network without sharing, ``nn.Conv2d`` in every place;
- plain-fused: that with its norms folded into its convolutions;
- trained: children derive their kernel in every forward;
- kept: that inside :func:`mmkdna.kept_kernels`, which whoever runs the model
  enters;
- deployed: after :func:`mmkdna.switch_to_deploy`;
- fused: that with its norms folded.
"""
from __future__ import annotations

from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from torch import nn

from ..deploy import plain_config, switch_to_deploy
from ..sharing import named_convs

FORMS = ('plain', 'plain-fused', 'trained', 'kept', 'deployed', 'fused')
# The other forms are made of a model that has been trained.
TRAINABLE = ('plain', 'trained')


def form_config(cfg: Config, form: str) -> Config:
    """Choose the config from which a model in some form is built.

    Args:
        cfg (Config): Config of the model as trained.
        form (str): One of :data:`FORMS`.

    Returns:
        Config: ``cfg`` itself, or its plain config for a plain form.
    """
    return plain_config(cfg) if form.startswith('plain') else cfg


def bring_into_form(model: nn.Module, form: str) -> nn.Module:
    """Bring a model that was built from its :func:`form_config` into a form.

    Args:
        model (nn.Module): The model, in eval mode; it is changed in place.
        form (str): One of :data:`FORMS`.

    Returns:
        nn.Module: The model in that form.

    Raises:
        ValueError: If the form is plain, but a convolution of the model is a
            KernelDNA convolution, as one of a subclass is that a config
            names by a type of its own.
    """
    convs = named_convs(model)
    if form.startswith('plain') and convs:
        raise ValueError(
            f'the plain form of this {type(model).__name__} is asked for, but '
            f'{next(iter(convs))} is a KernelDNA convolution: write every one '
            'in the config as type=\'KernelDNA\'')
    if form in ('deployed', 'fused'):
        switch_to_deploy(model)
    if form.endswith('fused'):
        fuse_conv_bn(model)
    return model
