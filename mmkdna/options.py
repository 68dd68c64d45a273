"""What a user may say in ``conv_cfg=dict(type='KernelDNA', ...)``.

Which convolutions take part is one concept for all conv types of this
package: :class:`LayerChoice`, from which the options of each type descend.
"""
from __future__ import annotations
import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Hashable, TypeVar

from torch import nn

from .hosts import SHORTCUTS

MODULATIONS = ('filter', 'spatial', 'channel')
# Norms that make sense on one value per channel and image.
GATE_NORMS = ('BN', 'SyncBN', 'GN')
# What decides who shares where no links are given.
CHOOSING = ('kernel_sizes', 'min_channels', 'name_pattern', 'grouped',
            'shortcuts', 'children_per_parent', 'stage_level', 'share')
Options = TypeVar('Options', bound='LayerChoice')


@dataclass(frozen=True)
class LayerChoice:
    """Which of the convolutions with one ``conv_cfg`` take part.

    What does not take part is a plain convolution in every respect.

    Args:
        kernel_sizes (Sequence[int | tuple], optional): Kernel sizes that take
            part, e.g. ``(1, 3)`` or ``((1, 7), (7, 1))``. ``None`` means
            every size larger than 1x1. Defaults to None.
        min_channels (int): Convolutions with fewer input or fewer output
            channels do not take part. Defaults to 0.
        name_pattern (str, optional): Regular expression; only convolutions
            in whose name, counted from the backbone, neck or head, it is
            found take part, e.g. ``'layer3|layer4'``. Defaults to None, all.
        grouped (bool): Whether grouped and depthwise convolutions take part.
            Defaults to False.
        shortcuts (bool): Whether the convolutions of residual shortcuts take
            part. Defaults to False.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option has a value that cannot work.
    """
    # The name of the conv type, for messages.
    conv_type: ClassVar[str] = 'KernelDNA'

    kernel_sizes: tuple[tuple[int, int], ...] | None = None
    min_channels: int = 0
    name_pattern: str | None = None
    grouped: bool = False
    shortcuts: bool = False

    def __post_init__(self) -> None:
        if self.kernel_sizes is not None:
            sizes = tuple((size, size) if isinstance(size, int) else size
                          for size in self._sequence('kernel_sizes'))
            self._require(
                bool(sizes) and all(
                    isinstance(size, (list, tuple)) and len(size) == 2
                    and all(map(_is_side, size))
                    for size in sizes), 'kernel_sizes',
                'a list of ints of 1 or more, or of pairs of them,')
            self._set('kernel_sizes', tuple(map(tuple, sizes)))
        self._require_int('min_channels', 0)
        self._require_bools('grouped', 'shortcuts')
        if self.name_pattern is not None:
            self._require_pattern('name_pattern')

    def take(self, name: str, conv: nn.Conv2d) -> bool:
        """Decide whether a convolution takes part.

        Args:
            name (str): Its name, counted from the backbone, neck or head.
            conv (nn.Conv2d): The convolution.

        Returns:
            bool: The answer.
        """
        if conv.groups > 1 and not self.grouped:
            return False
        # Spectral norm and the like compute the kernel at each forward.
        if 'weight' not in conv._parameters:
            return False
        if min(conv.in_channels, conv.out_channels) < self.min_channels:
            return False
        if not self.shortcuts and is_on_shortcut(name):
            return False
        if (self.name_pattern is not None
                and not re.search(self.name_pattern, name)):
            return False
        if self.kernel_sizes is None:
            return max(conv.kernel_size) > 1
        return conv.kernel_size in self.kernel_sizes

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
    def parse(cls: type[Options], options: dict[str, Any]) -> Options:
        """Check the keywords of a ``conv_cfg``.

        Args:
            options (dict): Names and values.

        Returns:
            LayerChoice: The same as an object of this class.

        Raises:
            TypeError: If there is no such option.
        """
        unknown = sorted(set(options) - set(cls.names()))
        if unknown:
            raise TypeError(
                f'{cls.conv_type}: {", ".join(unknown)} is given, but the '
                f'options of conv_cfg=dict(type=\'{cls.conv_type}\', ...) are '
                f'{", ".join(cls.names())}: correct the name or remove it')
        return cls(**options)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _sequence(self, name: str) -> tuple[Any, ...]:
        value = getattr(self, name)
        if isinstance(value, str) or not hasattr(value, '__iter__'):
            raise TypeError(
                f'{self.conv_type}: {name}={value!r} is given, a list or '
                'tuple is expected: put it in brackets')
        return tuple(value)

    def _require(self, fine: bool, name: str, expected: str) -> None:
        if not fine:
            raise ValueError(
                f'{self.conv_type}: {name}={getattr(self, name)!r} '
                f'is given, {expected} is expected')

    def _require_int(self, name: str, least: int) -> None:
        value = getattr(self, name)
        self._require(
            isinstance(value, int) and not isinstance(value, bool)
            and value >= least, name, f'an int of {least} or more')

    def _require_bools(self, *names: str) -> None:
        for name in names:
            self._require(
                isinstance(getattr(self, name), bool), name, 'True or False')

    def _require_pattern(self, name: str) -> None:
        value = getattr(self, name)
        try:
            re.compile(value)
        except (re.error, TypeError) as error:
            raise ValueError(
                f'{self.conv_type}: {name}={value!r} is given, a regular '
                f'expression is expected: {error}') from error

    def _require_above_zero(self, name: str) -> None:
        value = getattr(self, name)
        self._require(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            and 0 < value < float('inf'), name, 'a number above 0')


@dataclass(frozen=True)
class SharingOptions(LayerChoice):
    """Options of one ``KernelDNA`` convolution.

    Those of :class:`LayerChoice` and the next three decide which convolutions
    share and who is a child, the next five what an adapter consists of, the
    last two in which form a child is built. All convolutions built from one
    ``conv_cfg`` carry the same options, and only convolutions with the same
    options share. With ``shortcuts=True`` the convolution of a residual
    shortcut is kin of the main path.

    Args:
        links (dict[str, str], optional): Children and their parents, by the
            names of the convolutions in the backbone, neck or head, such as
            ``{'layer3.0.conv2': 'layer3.1.conv2'}``. Several children may be a
            regular expression that matches their whole names, such as
            ``{r'layer3\\.[0-4]\\.conv2': 'layer3.5.conv2'}``, and in the
            parent's name ``\\1`` is what its first group matches, as by
            :meth:`re.Match.expand`: ``{r'(layer\\d)\\.0\\.conv2':
            r'\\1.1.conv2'}``. With it, these share and no others, whatever
            their kernel size and stage; a parent may serve several children,
            and has the child's shape. Options that choose otherwise cannot be
            given beside it. Defaults to None.
        children_per_parent (int, optional): How many children each parent
            serves. ``None`` gives every group of kin a single parent, its
            last convolution. Defaults to 1.
        stage_level (int): How many leading parts of a convolution's name make
            its stage: 1 is a direct child of the backbone, neck or head, such
            as ``layer3`` or ``fpn_convs``; 0 lets the whole backbone, neck or
            head share. Defaults to 1.
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
        ungated (Sequence[str]): Children without a gate, whatever
            ``modulation`` says, by their names in the backbone, neck or head.
            Defaults to ``()``.
        keep_own_kernel (bool): A child keeps, beside the derived kernel, the
            one that plain weights bring for it, and computes with that until
            :class:`mmkdna.KernelSharingHook` or
            :class:`mmkdna.ReconstructionHook` takes it away. Defaults to
            False.
        deploy (bool): Children are built in the form that
            :func:`mmkdna.switch_to_deploy` gives them. They take weights of
            that form, and those of children, which are folded while they are
            loaded. Defaults to False.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option has a value that cannot work.
    """
    links: dict[str, str] | None = None
    children_per_parent: int | None = 1
    stage_level: int = 1
    share: bool = True
    rd_ratio: float = 0.25
    modulation: tuple[str, ...] = MODULATIONS
    norm_cfg: dict[str, Any] | None = field(
        default_factory=lambda: dict(type='BN'))
    ungated: tuple[str, ...] = ()
    keep_own_kernel: bool = False
    deploy: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set('modulation', self._sequence('modulation'))
        self._set('ungated', self._sequence('ungated'))
        if isinstance(self.norm_cfg, dict):
            self._set('norm_cfg', dict(self.norm_cfg))
        if self.children_per_parent is not None:
            self._require(
                isinstance(self.children_per_parent, int)
                and not isinstance(self.children_per_parent, bool)
                and self.children_per_parent >= 1, 'children_per_parent',
                'an int of 1 or more, or None for one parent a group,')
        self._require_int('stage_level', 0)
        self._require_bools('share', 'keep_own_kernel', 'deploy')
        self._require_above_zero('rd_ratio')
        self._require(
            all(name in MODULATIONS for name in self.modulation), 'modulation',
            f'a choice of {MODULATIONS}')
        self._require(
            self.norm_cfg is None or isinstance(self.norm_cfg, dict)
            and self.norm_cfg.get('type') in GATE_NORMS, 'norm_cfg',
            'None or a dict whose type is one of '
            f'{GATE_NORMS}, since the gate has one value per channel,')
        self._require(
            all(isinstance(name, str) for name in self.ungated), 'ungated',
            'a list of names of convolutions')
        if self.links is not None:
            self._check_links()
        self._require(
            not (self.keep_own_kernel and (self.deploy or not self.share)),
            'keep_own_kernel',
            'False together with deploy=True or share=False')

    def without_gate(self) -> SharingOptions:
        """Write the options of a child that is to have no gate.

        Returns:
            SharingOptions: The same but for ``modulation``.
        """
        return replace(
            self,
            modulation=tuple(m for m in self.modulation if m != 'channel'))

    def _check_links(self) -> None:
        """Check what can be known of links without the convolutions."""
        self._require(
            isinstance(self.links, dict) and bool(self.links) and all(
                isinstance(name, str) for link in self.links.items()
                for name in link), 'links',
            'a dict of the names of children and parents')
        links = dict(self.links or {})
        self._set('links', links)
        for child in links:
            self._require(
                _compiles(child), 'links',
                'children that are names or regular expressions, unlike '
                f'{child!r},')
        both = sorted(set(links) & set(links.values()))
        self._require(not both, 'links',
                      f'no child that is a parent, as {", ".join(both)},')
        default = {option.name: option.default for option in fields(self)}
        beside = [
            f'{name}={getattr(self, name)!r}' for name in CHOOSING
            if getattr(self, name) != default[name]
        ]
        self._require(not beside, 'links', f'no {", ".join(beside)} beside it')


def is_on_shortcut(name: str) -> bool:
    """Whether a module's name says that it is in a residual shortcut.

    Args:
        name (str): Its name in the backbone, neck or head.

    Returns:
        bool: The answer.
    """
    return any(part in SHORTCUTS for part in name.split('.')[:-1])


def _is_side(side: Any) -> bool:
    """Whether something is a side of a kernel."""
    return isinstance(side, int) and not isinstance(side, bool) and side >= 1


def _compiles(pattern: str) -> bool:
    """Whether a string is a regular expression."""
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
