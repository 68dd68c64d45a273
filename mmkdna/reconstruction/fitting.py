"""A part of a network, fitted to what the plain one computed."""
from __future__ import annotations
import math
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, NamedTuple

import torch
from mmengine.dist import all_reduce, all_reduce_params
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..adapter import Adapter
from ..conv import KernelDNAConv2d
from ..hosts import block_layers, layer_of, shortcut
from .least_squares import Moments
from .recording import Call, Enough, Recording

BETAS = 0.9, 0.99
Modules = dict[str, nn.Module]


@dataclass(frozen=True)
class Recipe:
    """How a part is fitted.

    Args:
        steps (int): Steps of Adam for each part, of a batch each. Defaults to
            160.
        lr (float): Learning rate of kernels and norms, which falls to 0 as a
            cosine. Defaults to 1e-3.
        adapter_lr (float): That of adapters. Defaults to 1e-2.
        views (int): How often a part is fitted to each picture: once as it is,
            and to crops of it, half of them mirrored. Defaults to 1.

    Raises:
        ValueError: If one of them is not positive.
    """
    steps: int = 160
    lr: float = 1e-3
    adapter_lr: float = 1e-2
    views: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float('inf'):
                raise ValueError(f'Recipe: {name}={value} is given, a '
                                 'positive number is expected')


class Fitting:
    """Fits a part, and keeps the best of what was tried.

    Args:
        module (nn.Module): The part, in eval mode; changed in place.
        plain (nn.Module): The same of the plain network.
        fitted (Recording): What is fitted to.
        choosing (Recording): What tells which try is the best.
        recipe (Recipe): How.
        fixed (Iterable[Tensor]): Parameters and buffers that stay as they are.
            Defaults to ().

    Attributes:
        before (float): Error as the part was given.
        best (float): Error as the part is now.

    Raises:
        ValueError: If the error is no finite number.
    """

    def __init__(self,
                 module: nn.Module,
                 plain: nn.Module,
                 fitted: Recording,
                 choosing: Recording,
                 recipe: Recipe,
                 fixed: Iterable[Tensor] = ()) -> None:
        self.module = module
        self.plain = plain
        self.fitted = fitted
        self.choosing = choosing
        self.recipe = recipe
        self._fixed = set(fixed)
        self._tensors = [*module.parameters(), *module.buffers()]
        self._variance = choosing.variance()
        self._kept: list[Tensor] = []
        self.before = self.best = self._error()
        if not math.isfinite(self.before):
            raise ValueError(
                'its output in the sharing network has values that are no '
                'finite numbers: look at the checkpoint and at the pictures')
        self._keep()

    def _keep(self) -> None:
        self._kept = [tensor.detach().clone() for tensor in self._tensors]

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Change the part, and change it back if that made it no better."""
        yield
        error = self._error()
        if error < self.best:
            self.best = error
            self._keep()
            return
        with torch.no_grad():
            for tensor, value in zip(self._tensors, self._kept):
                tensor.copy_(value)

    @torch.no_grad()
    def _error(self) -> float:
        """Mean squared error of the outputs, over the variance."""
        sums = torch.zeros(2, dtype=torch.float64)
        for call in self.choosing:
            difference = (self.module(call.x.clone()) - call.target).double()
            sums += torch.stack([
                difference.pow(2).sum(),
                difference.new_tensor(difference.numel())
            ]).to(sums)
        all_reduce(sums)
        return float(sums[0] / sums[1]) / self._variance

    @torch.no_grad()
    def estimate_statistics(self) -> None:
        """Give all batch norms the statistics of what they read by now."""
        norms = [
            m for m in self.module.modules()
            if isinstance(m, _BatchNorm) and not self._has_fixed(m)
        ]
        if not norms:
            return
        with self.attempt(), new_statistics(norms):
            for call in self.fitted:
                self.module(call.x.clone())

    @torch.no_grad()
    def solve_projections(self) -> None:
        """Solve the last 1x1 of each block, the statistics before it first.

        From the first block to the last, towards what it gave in the plain
        network, the error of the shortcut included.
        """
        ours = dict(self.module.named_modules(prefix='part'))
        theirs = dict(self.plain.named_modules(prefix='part'))
        for block in find_solvable(ours):
            if any(
                    self._has_fixed(ours[name])
                    for name in (block.conv, block.norm)):
                continue
            block = block._replace(norms=[
                name for name in block.norms if not self._has_fixed(ours[name])
            ])
            with self.attempt():
                _solve(ours, theirs, block, self.fitted, self.choosing)

    def train(self, generator: torch.Generator) -> None:
        """Train all weights of the part, its parents' and adapters' too.

        A parent whose children are elsewhere as well stays as it is, and so
        does what is fixed.

        Args:
            generator (torch.Generator): Gives the order of batches.

        Raises:
            ValueError: If the loss is no finite number.
        """
        # In one order, which all processes have.
        adapters = [
            parameter for module in self.module.modules()
            if isinstance(module, Adapter)
            for parameter in module.parameters()
            if parameter not in self._fixed
        ]
        fixed = self._fixed | {
            conv.weight
            for conv in _convs(self.module)
            if conv.role == 'parent' and not self._has_all_children(conv)
        }
        weights = [
            parameter for parameter in self.module.parameters()
            if parameter not in {*adapters, *fixed}
        ]
        trained = [*weights, *adapters]
        if not trained:
            return
        recipe = self.recipe
        optimizer = torch.optim.Adam([
            dict(params=weights, lr=recipe.lr),
            dict(params=adapters, lr=recipe.adapter_lr)
        ],
                                     betas=BETAS)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, recipe.steps)
        order: list[int] = []
        with self.attempt(), _gradients_of(self.module, trained):
            for step in range(recipe.steps):
                order = order or torch.randperm(
                    len(self.fitted), generator=generator).tolist()
                loss: Any = sum(
                    (self.module(call.x) - call.target).pow(2).mean()
                    for call in self.fitted.batch(order.pop()))
                loss = loss / self._variance
                if not loss.isfinite():
                    raise ValueError(
                        f'the loss of step {step} is {float(loss)}: fewer '
                        'steps or smaller learning rates are expected')
                optimizer.zero_grad()
                loss.backward()
                for parameter in trained:
                    if parameter.grad is not None:
                        all_reduce(parameter.grad, op='mean')
                optimizer.step()
                schedule.step()

    def _has_fixed(self, module: nn.Module) -> bool:
        """Whether something of a module is fixed."""
        return any(
            tensor in self._fixed
            for tensor in (*module.parameters(), *module.buffers()))

    def _has_all_children(self, parent: KernelDNAConv2d) -> bool:
        """Whether all children of a parent are in the part."""
        inside = sum(conv.parent is parent for conv in _convs(self.module))
        return inside == parent.num_children


def _convs(module: nn.Module) -> list[KernelDNAConv2d]:
    return [m for m in module.modules() if isinstance(m, KernelDNAConv2d)]


@contextmanager
def _gradients_of(module: nn.Module,
                  parameters: list[nn.Parameter]) -> Iterator[None]:
    """Have gradients flow to some parameters only, and forget them.

    Kernels of parents that are outside of the module take none.
    """
    flags: dict[Tensor, bool] = {
        p: p.requires_grad
        for p in module.parameters()
    }
    for conv in _convs(module):
        if conv.parent is not None:
            flags[conv.parent.weight] = conv.parent.weight.requires_grad
    for parameter in flags:
        parameter.requires_grad_(parameter in set(parameters))
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter, flag in flags.items():
            parameter.grad = None
            parameter.requires_grad_(flag)


@contextmanager
def new_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Have batch norms in eval mode average the statistics of what they see.

    With several processes they are those of what all of these see.
    """
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.eval()
            norm.momentum = momentum
    for norm in norms:
        all_reduce_params([norm.running_mean, norm.running_var], op='mean')


class Solvable(NamedTuple):
    """A block, or a layer outside of blocks, whose last 1x1 can be solved.

    Attributes:
        name (str): Its name.
        conv (str): Name of its last convolution, a plain 1x1.
        norm (str): Name of the batch norm behind that.
        norms (list[str]): Names of the batch norms before it.
        has_shortcut (bool): Whether it is a residual block.
    """
    name: str
    conv: str
    norm: str
    norms: list[str]
    has_shortcut: bool


def find_solvable(modules: Modules) -> list[Solvable]:
    """Find the last 1x1 convolutions of blocks that can be solved.

    Args:
        modules (dict[str, nn.Module]): Those of a part of a network, itself
            among them, by names that are not empty.

    Returns:
        list[Solvable]: In forward order.
    """
    found: list[Solvable] = []
    inside: list[str] = []
    for name, module in modules.items():
        if any(name.startswith(block) for block in inside):
            continue
        block = block_layers(name, module)
        layers = block or layer_of(name, module)
        if not layers:
            continue
        inside.append(f'{name}.')
        conv, norm = layers[-1]
        if norm is not None and _can_be_solved(modules[conv], modules[norm]):
            norms = [
                n for _, n in layers[:-1]
                if n is not None and isinstance(modules[n], _BatchNorm)
            ]
            found.append(Solvable(name, conv, norm, norms, bool(block)))
    return found


def _can_be_solved(conv: Any, norm: nn.Module) -> bool:
    return (isinstance(norm, _BatchNorm) and conv.kernel_size == (1, 1)
            and conv.groups == 1 and conv.bias is None
            and getattr(conv, 'role', 'plain') == 'plain')


def _solve(ours: Modules, theirs: Modules, block: Solvable, fitted: Recording,
           choosing: Recording) -> None:
    """Solve the last convolution of a block.

    Args:
        ours (dict[str, nn.Module]): The modules of the part by name, changed
            in place.
        theirs (dict[str, nn.Module]): Those of the plain network.
        block (Solvable): The block.
        fitted (Recording): What to solve for.
        choosing (Recording): What chooses between solutions.
    """
    norms: list[Any] = [ours[name] for name in block.norms]
    with new_statistics(norms):
        _moments(ours, theirs, block, fitted)
    moments, others = (
        _moments(ours, theirs, block, recording)
        for recording in (fitted, choosing))
    conv: Any = ours[block.conv]
    moments.solve(conv, ours[block.norm], others)


def _moments(ours: Modules, theirs: Modules, block: Solvable,
             recording: Recording) -> Moments:
    """Collect what a block's last convolution reads, and is to give."""
    conv: Any = ours[block.conv]
    added = shortcut(ours[block.name]) if block.has_shortcut else None
    moments = Moments()
    for call in recording:
        seen = _watch(ours, theirs, block, call)
        target = seen['plain_outputs']
        if added is not None:
            target = target + (
                added(seen['plain_inputs']) - added(seen['inputs']))
        moments.add(seen['features'], target, conv.stride)
    return moments


def _watch(ours: Modules, theirs: Modules, block: Solvable,
           call: Call) -> dict[str, Tensor]:
    """Run a part in both networks up to a block's last layer.

    Returns:
        dict[str, Tensor]: What the block gets ('inputs', 'plain_inputs'), its
        last convolution reads ('features'), and its last norm gives in the
        plain network ('plain_outputs').
    """
    seen: dict[str, Tensor] = {}

    def note(key: str, enough: bool = False) -> Any:

        def hook(_: nn.Module, args: Any, output: Any = None) -> None:
            seen[key] = (args[0] if output is None else output).clone()
            if enough:
                raise Enough

        return hook

    with ExitStack() as stack:
        for handle in (ours[block.name].register_forward_pre_hook(
                note('inputs')), ours[block.conv].register_forward_pre_hook(
                    note('features',
                         True)), theirs[block.name].register_forward_pre_hook(
                             note('plain_inputs')),
                       theirs[block.norm].register_forward_hook(
                           note('plain_outputs', True))):
            stack.callback(handle.remove)
        for modules, x in ((ours, call.x), (theirs, call.plain_x)):
            with suppress(Enough):
                modules['part'](x.clone())
    return seen
