"""What a user may say in ``conv_cfg=dict(type='KernelDNA', ...)``."""
import re
from dataclasses import dataclass, field, fields
from typing import Optional, Tuple

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
            :class:`mmkdna.hooks.KernelSharingHook` or
            :class:`mmkdna.hooks.ChildFittingHook` takes it away. Defaults to
            False.
        deploy (bool): Children are built in the form that
            :func:`mmkdna.switch_to_deploy` gives them. Defaults to False.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option has a value that cannot work.
    """
    children_per_parent: Optional[int] = 1
    kernel_sizes: Optional[Tuple[Tuple[int, int], ...]] = None
    min_channels: int = 0
    name_pattern: Optional[str] = None
    stage_level: int = 1
    grouped: bool = False
    shortcuts: bool = False
    share: bool = True
    rd_ratio: float = 0.25
    modulation: Tuple[str, ...] = MODULATIONS
    norm_cfg: Optional[dict] = field(default_factory=lambda: dict(type='BN'))
    keep_own_kernel: bool = False
    deploy: bool = False

    def __post_init__(self):
        if self.kernel_sizes is not None:
            sizes = tuple(
                (size, size) if isinstance(size, int) else tuple(size)
                for size in self._sequence('kernel_sizes'))
            object.__setattr__(self, 'kernel_sizes', sizes)
        object.__setattr__(self, 'modulation', self._sequence('modulation'))
        if self.norm_cfg is not None:
            object.__setattr__(self, 'norm_cfg', dict(self.norm_cfg))
        self._check()

    def _sequence(self, name):
        value = getattr(self, name)
        if isinstance(value, str) or not hasattr(value, '__iter__'):
            raise TypeError(f'KernelDNA: {name}={value!r} is given, a list or '
                            'tuple is expected: put it in brackets')
        return tuple(value)

    def _check(self):

        def require(fine, name, expected):
            if not fine:
                raise ValueError(f'KernelDNA: {name}={getattr(self, name)!r} '
                                 f'is given, {expected} is expected')

        per_parent = self.children_per_parent
        require(
            per_parent is None
            or isinstance(per_parent, int) and per_parent >= 1,
            'children_per_parent',
            'an int of 1 or more, or None for one parent a group,')
        require(
            isinstance(self.min_channels, int) and self.min_channels >= 0,
            'min_channels', 'an int of 0 or more')
        require(
            isinstance(self.stage_level, int) and self.stage_level >= 0,
            'stage_level', 'an int of 0 or more')
        require(
            isinstance(self.rd_ratio, (int, float)) and self.rd_ratio > 0,
            'rd_ratio', 'a number above 0')
        require(
            set(self.modulation) <= set(MODULATIONS), 'modulation',
            f'a choice of {MODULATIONS}')
        require(
            self.norm_cfg is None or self.norm_cfg.get('type') in GATE_NORMS,
            'norm_cfg', 'None or a dict whose type is one of '
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

    @classmethod
    def names(cls):
        """tuple[str]: Every option, in the order they are documented."""
        return tuple(option.name for option in fields(cls))

    @classmethod
    def parse(cls, options):
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
