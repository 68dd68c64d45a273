"""KernelWarehouse: kernels assembled of cells that a stage has in common."""
from __future__ import annotations
import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Hashable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..linking import stage_of
from ..options import LayerChoice
from ..pooled_norm import normalize_pooled
from .annealed import Annealed
from .mixing import conv_per_image, mix

# An attention reduces to a part of the channels, but to no fewer than these.
REDUCTION = FEWEST_CHANNELS = 16
# Of one convolution's attention; the paper's largest network has 20,000.
MOST_LOGITS = 2**22


@dataclass(frozen=True)
class KernelWarehouseOptions(LayerChoice):
    """Options of one ``KernelWarehouse`` convolution, beside which take part.

    Convolutions of one stage with the same options have a warehouse in
    common, whatever their kernel sizes; grouped ones have it only with those
    of as many input channels per group.

    Args:
        ratio (int | float): Cells in a warehouse for each mixture made of
            them: an int of 1 or more, or a number below 1, with which several
            mixtures start from one cell. Defaults to 1.
        cell_divisor (int): The sides of a cell are the greatest common
            divisors of the output and of the input channels, divided by this;
            a side of 1 stays 1. Defaults to 1.
        stage_level (int): How many leading parts of a convolution's name make
            its stage. Defaults to 1.
        earlier_pattern (str, optional): Regular expression; convolutions in
            whose name it is found belong to the stage before theirs, e.g.
            ``r'\\.0\\.(conv1|downsample)'`` in a ResNet. In the first stage
            it changes nothing, and a stage of nothing else is none. Defaults
            to None.
    """
    conv_type: ClassVar[str] = 'KernelWarehouse'

    ratio: int | float = 1
    cell_divisor: int = 1
    stage_level: int = 1
    earlier_pattern: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_above_zero('ratio')
        self._require(self.ratio < 1 or self.ratio == int(self.ratio), 'ratio',
                      'a number below 1 or an int')
        self._require_int('cell_divisor', 1)
        self._require_int('stage_level', 0)
        if self.earlier_pattern is not None:
            self._require_pattern('earlier_pattern')
            self._require(not re.search(self.earlier_pattern, ''),
                          'earlier_pattern',
                          'a pattern that is not found in every name')

    def is_earlier(self, name: str) -> bool:
        """Decide whether a convolution belongs to the stage before its own.

        Args:
            name (str): Its name, counted from the backbone, neck or head.

        Returns:
            bool: The answer.
        """
        return self.earlier_pattern is not None and bool(
            re.search(self.earlier_pattern, name))


class CellAttention(nn.Module):
    """One logit per image, mixture and cell, the last cell being nothing.

    Between ``fc1`` and ``fc2`` the norm sees one value per channel and image;
    :func:`mmkdna.pooled_norm.normalize_pooled` says what becomes of a single
    image.

    Args:
        channels (int): Channels of the input, ``C``.
        mixtures (int): Mixtures that the kernel consists of, ``M``.
        cells (int): Cells in the warehouse, ``n``.
    """

    def __init__(self, channels: int, mixtures: int, cells: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, FEWEST_CHANNELS)
        self.fc1 = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.fc2 = nn.Linear(hidden, mixtures * (cells + 1))
        # As its authors start it.
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, mode='fan_out')
        nn.init.zeros_(self.fc2.bias)
        self.shape = mixtures, cells + 1

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            x (Tensor): Input of the convolution, shape (N, C, H, W).

        Returns:
            Tensor: Shape (N, M, n + 1).
        """
        squeezed = self.fc1(x.mean((2, 3)))[:, :, None, None]
        squeezed = F.relu(normalize_pooled(self.norm, squeezed)).flatten(1)
        return self.fc2(squeezed).view(-1, *self.shape)


class KernelWarehouse2d(Annealed, nn.Conv2d):
    r"""A convolution whose kernel is assembled of mixtures of common cells.

    The kernel is cut into mixtures of a cell's size, 1x1 in space. Each is a
    sum of the :math:`n` cells :math:`E_i` of a warehouse, which the
    convolutions of a stage have in common, weighted per image:

    .. math::

       \alpha_i = p \frac{z_i}{\sum_j |z_j| + 10^{-3}} + (1 - p)
       \beta_i, \quad z = \text{fc2}(\text{relu}(\text{bn}(\text{fc1}(
       \text{mean}(x)))))

    :math:`\beta` is 1 for the mixture's own cell and 0 for others: mixtures
    are numbered through the warehouse, in forward order, and number
    :math:`g` has the cell :math:`g` modulo :math:`n`. :math:`z` has one more
    value, for a cell that is nothing. The paper's :math:`\tau` is
    :math:`1 - p`. Source: arXiv 2308.08361.

    The first convolution of a warehouse owns its cells, so that they appear
    once in the state dict; the others hold that convolution. Where it is
    frozen, the cells are.

    Pretrained weights start exactly at the plain convolution, with a ``ratio``
    of 1 or more: each of its parts is the cell of a mixture, and surplus cells
    are drawn. With fewer cells each is the mean of the parts that start from
    it, which is nearest. At whatever progress the kernels are then within a
    thousandth of these: ``fc2`` answers :math:`\beta` to every input.

    Args:
        **kwargs: As of :class:`mmkdna.unit_conv.UnitConv`, with the
            options of :class:`KernelWarehouseOptions`.

    Attributes:
        cells (nn.Parameter): Of the owner, shape (n, C_out', C_in'), the
            sides of a cell.
        attention (CellAttention): Gives :math:`z`.
        progress (Tensor): Buffer, shape (), :math:`p`: 0 at the start, 1
            where the attention decides alone. It is saved with the weights.
    """
    options_type = KernelWarehouseOptions
    options: KernelWarehouseOptions
    cells: nn.Parameter
    owner: tuple[KernelWarehouse2d]
    cell: tuple[int, int]
    first_mixture: int
    all_mixtures: int

    # Shows a kernel to what initialises by :meth:`apply`.
    _shown: Tensor | None = None

    @classmethod
    def join_taking(cls, convs: dict[str, KernelWarehouse2d]) -> None:
        """Give the convolutions of each stage a warehouse."""
        warehouses = _warehouses(convs)
        sides = [_cell_sides(sharing) for sharing in warehouses]
        for sharing, cell in zip(warehouses, sides):
            owner, *_ = sharing.values()
            first = 0
            for conv in sharing.values():
                # In a tuple it is no submodule.
                conv.owner = (owner, )
                conv.cell, conv.first_mixture = cell, first
                first += conv.number_of_mixtures
            owner.cells = nn.Parameter(
                owner.weight.new_zeros(
                    math.ceil(first * owner.options.ratio), *cell),
                owner.weight.requires_grad)
            for conv in sharing.values():
                conv.all_mixtures = first
                conv.become_dynamic()

    def become_dynamic(self) -> None:
        """Get an attention, and put the kernel into the warehouse."""
        kernel = self.weight.detach()
        self.put_kernel(kernel)
        for copy in range(1, self.number_of_kernels):
            self.put_kernel(torch.randn_like(kernel) * kernel.std(), copy)
        self.attention = self.adopt(
            CellAttention(self.in_channels, self.number_of_mixtures,
                          len(self.owner[0].cells)))
        self.start_annealing()
        del self.weight
        self.dynamic = True

    def soft_start(self) -> str:
        """Say that it is not dynamic."""
        return 'are not dynamic: each mixture stays the cell it starts from'

    @property
    def grid(self) -> tuple[int, ...]:
        """tuple[int]: Mixtures in each direction of the kernel."""
        out_channels, in_channels, *size = self.weight_shape
        return (out_channels // self.cell[0], in_channels // self.cell[1],
                *size)

    @property
    def number_of_mixtures(self) -> int:
        """int: Mixtures that the kernel consists of."""
        return math.prod(self.grid)

    @property
    def number_of_kernels(self) -> int:
        """int: How many kernels of this one's the warehouse has cells for."""
        return max(int(self.options.ratio), 1)

    def mixture_weights(self, x: Tensor) -> Tensor:
        """Weigh the cells of each mixture.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, M, n).
        """
        z = self.attention(x)
        z = z / (z.abs().sum(2, keepdim=True) + 1e-3)
        number = len(self.owner[0].cells)
        # F.one_hot of torch 2.1 does not run on the meta device.
        own = torch.eye(number).to(z)[self._numbers(z.device) % number]
        return self.progress * z[:, :, :-1] + (1 - self.progress) * own

    def forward_dynamic(self, x: Tensor) -> Tensor:
        """Convolve each image with a kernel assembled for it."""
        mixtures = mix(
            self.mixture_weights(x).flatten(0, 1), self.owner[0].cells)
        return conv_per_image(self, x, self.assemble(mixtures), self.bias)

    def assemble(self, mixtures: Tensor) -> Tensor:
        """Assemble kernels.

        Args:
            mixtures (Tensor): Shape (N * M, C_out', C_in').

        Returns:
            Tensor: Shape (N, C_out, C_in / groups, kH, kW).
        """
        mixtures = mixtures.view(-1, *self.grid, *self.cell)
        return mixtures.permute(0, 1, 5, 2, 6, 3,
                                4).reshape(-1, *self.weight_shape)

    def cut(self, kernel: Tensor) -> Tensor:
        """Cut a kernel, as :meth:`assemble` reverses.

        Args:
            kernel (Tensor): Shape (C_out, C_in / groups, kH, kW).

        Returns:
            Tensor: Shape (M, C_out', C_in').
        """
        outs, ins, *size = self.grid
        parts = kernel.reshape(outs, self.cell[0], ins, self.cell[1], *size)
        return parts.permute(0, 2, 4, 5, 1, 3).reshape(-1, *self.cell)

    @torch.no_grad()
    def own_kernel(self, copy: int = 0) -> Tensor:
        """Assemble a kernel of this convolution's own cells.

        Args:
            copy (int): Which of its kernels, if the warehouse has cells for
                several. Defaults to 0, that of
                ``progress`` = 0.

        Returns:
            Tensor: Shape (C_out, C_in / groups, kH, kW), a copy.
        """
        cells = self.owner[0].cells
        numbers = self._numbers(cells.device, copy)
        return self.assemble(cells[numbers % len(cells)])[0].contiguous()

    @torch.no_grad()
    def put_kernel(self,
                   kernel: Tensor,
                   copy: int = 0,
                   averaged: bool = False) -> None:
        """Write a kernel into this convolution's own cells.

        Args:
            kernel (Tensor): Shape (C_out, C_in / groups, kH, kW).
            copy (int): See :meth:`own_kernel`. Defaults to 0.
            averaged (bool): A cell from which several mixtures start becomes
                their mean, if their convolutions write in forward order,
                else the last of them. Defaults to False.
        """
        cells = self.owner[0].cells
        parts = self.cut(kernel.to(cells))
        numbers = self._numbers(cells.device, copy)
        # No cell occurs twice in one round.
        rounds = numbers // len(cells)
        for turn in range(int(rounds[0]), int(rounds[-1]) + 1):
            of_turn = rounds == turn
            own = numbers[of_turn] % len(cells)
            value = parts[of_turn]
            if averaged and turn:
                value = cells[own].lerp(value, 1 / (turn + 1))
            cells[own] = value

    def plain_start(self, weight: Tensor) -> dict[str, Tensor]:
        """Start at the plain convolution, see above.

        Its cells are written at once; those of the owner's siblings cannot be
        in a state dict before these have been seen.
        """
        self.put_kernel(weight, averaged=True)
        # The same on every device and in every run.
        generator = torch.Generator().manual_seed(self.first_mixture)
        for copy in range(1, self.number_of_kernels):
            noise = torch.randn(self.weight_shape, generator=generator)
            self.put_kernel(noise.to(weight) * weight.std(), copy)
        start = {f'attention.{k}': v for k, v in self._neutral_attention()}
        start['progress'] = torch.zeros_like(self.progress)
        if self.owner[0] is self:
            start['cells'] = self.cells.detach()
        return start

    def _neutral_attention(self) -> list[tuple[str, Tensor]]:
        """An attention's state with which ``z`` is ``beta``."""
        state = self.attention.state_dict()
        number = len(self.owner[0].cells)
        own = self._numbers(self.progress.device) % number
        beta = F.one_hot(own, number + 1).flatten()
        state['fc2.weight'] = torch.zeros_like(state['fc2.weight'])
        state['fc2.bias'] = beta.to(state['fc2.bias'])
        return list(state.items())

    def _numbers(self, device: torch.device, copy: int = 0) -> Tensor:
        """Numbers of the mixtures in the warehouse, further for copies."""
        start = self.first_mixture + copy * self.all_mixtures
        return torch.arange(
            start, start + self.number_of_mixtures, device=device)

    def apply(self, fn: Callable[[nn.Module], Any]) -> KernelWarehouse2d:
        """Apply a function to this module and its children.

        Args:
            fn (callable): Gets each child, and this module once for each of
                its kernels in the warehouse, which ``weight`` is then.

        Returns:
            KernelWarehouse2d: Itself.
        """
        if not self.dynamic:
            return super().apply(fn)
        for child in self.children():
            child.apply(fn)
        try:
            for copy in range(self.number_of_kernels):
                kernel = self.own_kernel(copy)
                self._shown = kernel.clone()
                fn(self)
                if not torch.equal(self._shown, kernel):
                    self.put_kernel(self._shown, copy)
        finally:
            self._shown = None
        return self

    def __getattr__(self, name: str) -> Any:
        if name == 'weight' and self.__dict__.get('dynamic'):
            if self._shown is not None:
                return self._shown
            raise AttributeError(
                'a KernelWarehouse convolution owns no weight: its kernel is '
                'assembled for each image, so that a norm cannot be fused '
                'into it; own_kernel() returns the one it starts from, and '
                'put_kernel(kernel) sets that')
        return super().__getattr__(name)

    def register_parameter(self, name: str,
                           param: nn.Parameter | None) -> None:
        """Register a parameter, which setting an attribute does as well.

        Raises:
            RuntimeError: If it would be a kernel, as who folds a norm sets
                one.
        """
        if name == 'weight' and self.__dict__.get('dynamic'):
            raise RuntimeError(
                'a kernel is being set on a KernelWarehouse convolution, '
                'whose kernel is assembled for each image: fusing a norm into '
                'it is not possible; put_kernel(kernel) sets the one it '
                'starts from')
        super().register_parameter(name, param)


def _warehouses(
        convs: dict[str,
                    KernelWarehouse2d]) -> list[dict[str, KernelWarehouse2d]]:
    """Group convolutions, given in forward order, by their warehouse."""
    stages: dict[Hashable, list[Hashable]] = defaultdict(list)
    groups: dict[Hashable, dict[str, KernelWarehouse2d]] = defaultdict(dict)
    unmatched = {
        conv.options.earlier_pattern: conv.options
        for conv in convs.values()
    }
    for name, conv in convs.items():
        options = conv.options
        stage: Hashable = stage_of(name, options.stage_level)
        seen = stages[options.key()]
        if options.is_earlier(name):
            unmatched.pop(options.earlier_pattern, None)
            if seen:
                number = seen.index(stage) if stage in seen else len(seen)
                stage = seen[max(number - 1, 0)]
        if stage not in seen:
            seen.append(stage)
        fan = conv.in_channels // conv.groups if conv.groups > 1 else None
        groups[stage, fan, options.key()][name] = conv
    for pattern in unmatched:
        if pattern is not None:
            raise ValueError(
                f'KernelWarehouse: earlier_pattern={pattern!r} is given, but '
                f'it matches none of the {len(convs)} convolutions that take '
                f'part: {", ".join(list(convs)[:5])}: correct or remove it')
    return list(groups.values())


def _cell_sides(sharing: dict[str, KernelWarehouse2d]) -> tuple[int, int]:
    """Output and input channels of a cell of some convolutions' warehouse."""
    options = next(iter(sharing.values())).options
    shapes = [conv.weight_shape for conv in sharing.values()]
    sides = [0, 0]
    for shape in shapes:
        sides = [math.gcd(side, given) for side, given in zip(sides, shape)]
    whose = ', '.join(
        list(sharing)[:5]) + (', ...' if len(sharing) > 5 else '')
    if any(side > 1 and side % options.cell_divisor for side in sides):
        raise ValueError(
            f'KernelWarehouse: cell_divisor={options.cell_divisor} is given, '
            f'but the cells of {whose} are {sides[0]} by {sides[1]} channels, '
            'which it does not divide: choose one that does, or leave some '
            'of them out with name_pattern')
    high, wide = (max(side // options.cell_divisor, 1) for side in sides)
    mixtures = [math.prod(shape) // (high * wide) for shape in shapes]
    logits = max(mixtures) * math.ceil(sum(mixtures) * options.ratio)
    if logits > MOST_LOGITS:
        raise ValueError(
            f'KernelWarehouse: {whose} have cells of {high} by {wide} '
            'channels in common, the greatest common divisors of theirs, so '
            f'one of them would be {max(mixtures):,} mixtures, and its '
            f'attention {logits:,} values for each image, more than '
            f'{MOST_LOGITS:,}: leave out those that make the cells so small '
            'with name_pattern, or give them to another stage with '
            'earlier_pattern or stage_level')
    return high, wide
