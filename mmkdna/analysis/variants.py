"""The variants of one config's model that are compared.

A variant is the model in one of its forms, or with another conv type on the
layers that share. The forms:

- plain: the same network without sharing, ``nn.Conv2d`` in every place;
- plain-fused: that with its norms folded into its convolutions;
- trained: children derive their kernel in every forward;
- kept: that inside :func:`mmkdna.kept_kernels`, which whoever runs the model
  enters;
- deployed: after :func:`mmkdna.switch_to_deploy`;
- fused: that with its norms folded.
"""
from __future__ import annotations
from dataclasses import dataclass
from typing import Any

from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from torch import nn

from ..deploy import plain_config, switch_to_deploy
from ..sharing import named_convs
from .conv_types import replace_convs

FORMS = ('plain', 'plain-fused', 'trained', 'kept', 'deployed', 'fused')
# The other forms are made of a model that has been trained.
TRAINABLE = ('plain', 'trained')


@dataclass(frozen=True)
class Variant:
    """What a config's model is run as.

    It is built from :meth:`config`, and :meth:`finish` makes it of what was
    built.

    Args:
        form (str): One of :data:`FORMS`. Defaults to 'trained'.
        conv_cfg (dict, optional): Another conv type on the layers that share,
            see :func:`mmkdna.analysis.conv_types.replace_convs`. Defaults to
            None.
        compiled (bool): Whether whoever runs the model compiles it with
            ``torch.compile``. Defaults to False.
    """
    form: str = 'trained'
    conv_cfg: dict[str, Any] | None = None
    compiled: bool = False

    @property
    def name(self) -> str:
        """str: The form, or the conv type and its options."""
        name = self.form
        if self.conv_cfg is not None:
            options = dict(self.conv_cfg)
            name = ' '.join([
                str(options.pop('type')),
                *(f'{key}={value}' for key, value in options.items())
            ])
        return name + ', compiled' * self.compiled

    @property
    def trainable(self) -> bool:
        """bool: Whether it is trained, and not made of what was."""
        return self.form in TRAINABLE

    def config(self, cfg: Config) -> Config:
        """Choose the config from which the variant is built.

        Args:
            cfg (Config): Config of the model as trained.

        Returns:
            Config: ``cfg`` itself, or its plain config for a plain form.
        """
        return plain_config(cfg) if self.form.startswith('plain') else cfg

    def finish(self, model: nn.Module) -> nn.Module:
        """Make the variant of a model that was built from its :meth:`config`.

        Args:
            model (nn.Module): The model, in eval mode; it is changed in
                place.

        Returns:
            nn.Module: The same model.

        Raises:
            ValueError: If the form is plain, but a convolution of the model
                is a KernelDNA convolution, as one of a subclass is that a
                config names by a type of its own; or if the conv type cannot
                stand on the layers that share.
        """
        convs = named_convs(model)
        if self.form.startswith('plain') and convs:
            raise ValueError(
                f'the plain form of this {type(model).__name__} is asked for, '
                f'but {next(iter(convs))} is a KernelDNA convolution: write '
                'every one in the config as type=\'KernelDNA\'')
        if self.conv_cfg is not None:
            replace_convs(model, self.conv_cfg)
        if self.form in ('deployed', 'fused'):
            switch_to_deploy(model)
        if self.form.endswith('fused'):
            fuse_conv_bn(model)
        return model
