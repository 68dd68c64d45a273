"""What a user may say in ``conv_cfg=dict(type='KernelDNA', ...)``."""
from __future__ import annotations
import re
from dataclasses import dataclass, field, fields
from typing import Any, Hashable

MODULATIONS = ('filter', 'spatial', 'channel')
# Norms that make sense on one value per channel and image.
GATE_NORMS = ('BN', 'SyncBN', 'GN')


@dataclass(frozen=True)
class SharingOptions:
    """Options of one ``KernelDNA`` convolution.

    The first eight decide which convolutions share and who is a child, the
    next three what an adapter consists of, the last two in which form a child
    is built. All convolutions built from one ``conv_cfg`` carry the same
    options, and only convolutions with the same options share.

    Args:
        children_per_parent (int, optional): How many children each parent
            serves. ``None`` gives every group of kin a single parent, its
            last convolution. Defaults to 1.
        kernel_sizes (Sequence[int | tuple], optional): Kernel sizes that
            share, e.g. ``(1, 3)`` or ``((1, 7), (7, 1))``. ``None`` means
            every size larger than 1x1. Defaults to None.
        min_channels (int): Convolutions with fewer input or fewer output
            channels do not share. Defaults to 0.
        name_pattern (str, optional): Regular expression; only convolutions
            in whose name, counted from the backbone, neck or head, it is
            found share, e.g. ``'layer3|layer4'``. Defaults to None, all.
        stage_level (int): How many leading parts of a convolution's name make
            its stage: 1 is a direct child of the backbone, neck or head, such
            as ``layer3`` or ``fpn_convs``; 0 lets the whole backbone, neck or
            head share. Defaults to 1.
        grouped (bool): Whether grouped and depthwise convolutions share.
            Defaults to False.
        shortcuts (bool): Whether the convolution of a residual shortcut is
            kin of the main path. Defaults to False.
        share (bool): ``False`` gives all kin an adapter on their own kernel:
            each is its own parent, and nothing is saved. Defaults to True.
        rd_ratio (float): The gate reduces to
            ``int(min(in_channels, out_channels) * rd_ratio)`` channels.
            Defaults to 0.25.
        modulation (Sequence[str]): Which of ``'filter'``, ``'spatial'`` (both
            static) and ``'channel'`` (the gate) an adapter has. Defaults to
            all three.
        norm_cfg (dict, optional): The norm of the gate: 'BN', 'SyncBN', 'GN'
            or ``None``. Defaults to ``dict(type='BN')``.
        keep_own_kernel (bool): A child keeps, beside the derived kernel, the
            one that plain weights bring for it, and computes with that until
            :class:`mmkdna.KernelSharingHook` or
            :class:`mmkdna.ChildFittingHook` takes it away. Defaults to
            False.
        deploy (bool): Children are built in the form that
            :func:`mmkdna.switch_to_deploy` gives them. Defaults to False.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option has a value that cannot work.
    """
    children_per_parent: int | None = 1
    kernel_sizes: tuple[tuple[int, int], ...] | None = None
    min_channels: int = 0
    name_pattern: str | None = None
    stage_level: int = 1
    grouped: bool = False
    shortcuts: bool = False
    share: bool = True
    rd_ratio: float = 0.25
    modulation: tuple[str, ...] = MODULATIONS
    norm_cfg: dict[str, Any] | None = field(
        default_factory=lambda: dict(type='BN'))
    keep_own_kernel: bool = False
    deploy: bool = False

    def __post_init__(self) -> None:
        if self.kernel_sizes is not None:
            sizes = tuple((size, size) if isinstance(size, int) else size
                          for size in self._sequence('kernel_sizes'))
            self._require(
                all(
                    isinstance(size, (list, tuple)) and len(size) == 2 and all(
                        isinstance(side, int) for side in size)
                    for size in sizes), 'kernel_sizes',
                'a list of ints or of pairs of ints')
            self._set('kernel_sizes', tuple(map(tuple, sizes)))
        self._set('modulation', self._sequence('modulation'))
        if isinstance(self.norm_cfg, dict):
            self._set('norm_cfg', dict(self.norm_cfg))
        self._check()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _sequence(self, name: str) -> tuple[Any, ...]:
        value = getattr(self, name)
        if isinstance(value, str) or not hasattr(value, '__iter__'):
            raise TypeError(f'KernelDNA: {name}={value!r} is given, a list or '
                            'tuple is expected: put it in brackets')
        return tuple(value)

    def _require(self, fine: bool, name: str, expected: str) -> None:
        if not fine:
            raise ValueError(f'KernelDNA: {name}={getattr(self, name)!r} '
                             f'is given, {expected} is expected')

    def _check(self) -> None:
        require = self._require
        per_parent = self.children_per_parent
        require(
            per_parent is None or _is_int(per_parent, 1),
            'children_per_parent',
            'an int of 1 or more, or None for one parent a group,')
        for name in ('min_channels', 'stage_level'):
            require(
                _is_int(getattr(self, name), 0), name, 'an int of 0 or more')
        for name in ('grouped', 'shortcuts', 'share', 'keep_own_kernel',
                     'deploy'):
            require(
                isinstance(getattr(self, name), bool), name, 'True or False')
        require(
            isinstance(self.rd_ratio,
                       (int, float)) and 0 < self.rd_ratio < float('inf'),
            'rd_ratio', 'a number above 0')
        require(
            all(name in MODULATIONS for name in self.modulation), 'modulation',
            f'a choice of {MODULATIONS}')
        require(
            self.norm_cfg is None or isinstance(self.norm_cfg, dict)
            and self.norm_cfg.get('type') in GATE_NORMS, 'norm_cfg',
            'None or a dict whose type is one of '
            f'{GATE_NORMS}, since the gate has one value per channel,')
        require(not (self.keep_own_kernel and (self.deploy or not self.share)),
                'keep_own_kernel',
                'False together with deploy=True or share=False')
        if self.name_pattern is not None:
            try:
                re.compile(self.name_pattern)
            except (re.error, TypeError) as error:
                raise ValueError(
                    f'KernelDNA: name_pattern={self.name_pattern!r} is given, '
                    f'a regular expression is expected: {error}') from error

    def key(self) -> Hashable:
        """Equal for equal options, in whatever order a dict was written."""
        return tuple(
            tuple(sorted((k, repr(v)) for k, v in value.items())
                  ) if isinstance(value, dict) else value
            for value in (getattr(self, name) for name in self.names()))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """tuple[str]: Every option, in the order they are documented."""
        return tuple(option.name for option in fields(cls))

    @classmethod
    def parse(cls, options: dict[str, Any]) -> SharingOptions:
        """Options from the keywords of a ``conv_cfg``.

        Args:
            options (dict): Names and values.

        Returns:
            SharingOptions: The same, checked.

        Raises:
            TypeError: If there is no such option.
        """
        unknown = sorted(set(options) - set(cls.names()))
        if unknown:
            raise TypeError(
                f'KernelDNA: {", ".join(unknown)} is given, but the options '
                f'of conv_cfg=dict(type=\'KernelDNA\', ...) are '
                f'{", ".join(cls.names())}: correct the name or remove it')
        return cls(**options)


def _is_int(value: Any, least: int) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)
            and value >= least)
