"""What links cost, measured on pictures after a quick refit."""
from __future__ import annotations
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from ..hosts import block_name
from ..linking import Link
from ..reconstruction import Recipe
from ..reconstruction.fitting import Fitting
from ..reconstruction.outputs import compare_outputs
from ..reconstruction.parts import Part, find_calls
from ..reconstruction.recording import Recording, record
from .candidates import Candidate
from .sharing_copy import NOISE, sharing_copy

Forward = Callable[[Any, Tensor], Any]


class Split(NamedTuple):
    """Batches of pictures, shape (N, 3, H, W), each looked at many times.

    Attributes:
        fitted (Sequence[Tensor]): What is fitted to.
        choosing (Sequence[Tensor]): What tells whether that made it better.
        kept (Sequence[Tensor]): What is kept apart from both, and measured.
    """
    fitted: Sequence[Tensor]
    choosing: Sequence[Tensor]
    kept: Sequence[Tensor]


@dataclass(frozen=True)
class Damage:
    """How far a network is from the plain one.

    Attributes:
        error (float): Mean squared difference of its outputs to the plain
            network's, over their variance.
        agreement (float | None): How often the largest channel is that of the
            plain network, for a model that gives one tensor.
    """
    error: float
    agreement: float | None = None


@dataclass(frozen=True)
class LinkDamage:
    """What a link costs while there is no other one.

    Attributes:
        child (str): Name of the child in the model.
        parent (str): Name of its parent in the model.
        saved (int): Parameters that it saves.
        part (str): Name of what was refitted around the child.
        part_error (float): Mean squared difference of the part's output to
            the plain one, over its variance.
        output (Damage): Of the network.
        noise (Damage): Of the network with Gaussian noise for the parent's
            kernel.
    """
    child: str
    parent: str
    saved: int
    part: str
    part_error: float
    output: Damage
    noise: Damage

    @property
    def is_finite(self) -> bool:
        """bool: Whether all errors are finite numbers."""
        return isfinite(self.part_error + self.output.error + self.noise.error)


@dataclass(frozen=True)
class PlanDamage:
    """What several links cost together.

    Attributes:
        at_once (Damage): Of the network with plain weights loaded.
        refitted (Damage): Of the network with all parts refitted.
    """
    at_once: Damage
    refitted: Damage


@torch.no_grad()
def find_blocks(model: nn.Module, candidates: Sequence[Candidate],
                run: Callable[[], Any]) -> dict[str, Part]:
    """Find what is to be refitted around each child.

    That is its block, or else the smallest module around that, within the
    unit, that a forward calls with one tensor and that gives one.

    Args:
        model (nn.Module): The model.
        candidates (Sequence[Candidate]): Links that could be made.
        run (callable): Runs the model once.

    Returns:
        dict[str, Part]: By name of the child in the model, in the order in
        which the parts run; what does not run, or in no such module, is left
        out.
    """
    modules = dict(model.named_modules())
    around = {
        f'{one.unit}.{one.child}': _around(one.unit, one.child)
        for one in candidates
    }
    calls = find_calls(modules,
                       {n
                        for names in around.values()
                        for n in names}, run)
    order = list(calls)
    blocks = {}
    for child, names in around.items():
        name = next((name for name in names if calls.get(name)), None)
        if name is not None:
            blocks[child] = Part(name, (), len(calls[name]), False)
    return dict(
        sorted(blocks.items(), key=lambda item: order.index(item[1].name)))


def _around(unit: str, child: str) -> list[str]:
    """Name the modules from a block outwards, and at last the convolution."""
    block = block_name(child).split('.')
    names = ['.'.join(block[:end]) for end in range(len(block), 0, -1)]
    return [f'{unit}.{name}' for name in [*filter(None, names), child]]


@dataclass(frozen=True)
class Measurement:
    """How damage is measured.

    Args:
        plain (nn.Module): A model of unlinked KernelDNA convolutions, with its
            weights, in eval mode.
        split (Split): The pictures.
        forward (callable): Runs a model on a batch.
        blocks (dict[str, Part]): From :func:`find_blocks`.
        steps (int): Of training in a refit; 0 leaves it to statistics and
            least squares. Defaults to 10.
        seed (int): Of what is random. Defaults to 0.
    """
    plain: nn.Module
    split: Split
    forward: Forward
    blocks: dict[str, Part]
    steps: int = 10
    seed: int = 0
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'recipe', Recipe(steps=max(self.steps, 1)))

    def links(self, candidates: Sequence[Candidate]) -> Iterator[LinkDamage]:
        """Measure links one by one, each in a network without others.

        What a part gets and gives in the plain network is on disk while its
        links are measured.

        Args:
            candidates (Sequence[Candidate]): Links whose children have a
                block.

        Yields:
            LinkDamage: What they cost, in the order in which the parts run;
            errors are nan where a link leaves no finite numbers.

        Raises:
            ValueError: If something in the plain network is no finite number.
        """
        by_child: dict[str, list[Candidate]] = defaultdict(list)
        for one in candidates:
            by_child[f'{one.unit}.{one.child}'].append(one)
        by_part: dict[Part, list[str]] = defaultdict(list)
        for child, part in self.blocks.items():
            by_part[part].append(child)
        for part, children in by_part.items():
            with self._recorded(self.plain, part) as recordings:
                for child in children:
                    yield from self._of_child(by_child[child], part,
                                              recordings)

    def _of_child(self, candidates: Sequence[Candidate], part: Part,
                  recordings: list[Recording]) -> Iterator[LinkDamage]:
        """Measure the links of a child, noise first."""
        noise = None
        for one in candidates:
            if noise is None:
                noise = self._one(one.unit, Link(one.child, NOISE), part,
                                  recordings)[1]
            part_error, output = self._one(one.unit,
                                           Link(one.child,
                                                one.parent), part, recordings)
            yield LinkDamage(f'{one.unit}.{one.child}',
                             f'{one.unit}.{one.parent}', one.saved, part.name,
                             part_error, output, noise)

    def _one(self, unit: str, link: Link, part: Part,
             recordings: list[Recording]) -> tuple[float, Damage]:
        """Measure a link: the error of the part, and of the network."""
        model = sharing_copy(self.plain, {unit: [link]}, self.seed)
        try:
            error = self._refit(model, part, recordings)
        except ValueError:
            # It is no number. That of other links may be one.
            return nan, Damage(nan)
        return error, self.compare(model)

    def plan(self, links: Sequence[LinkDamage],
             units: Sequence[str]) -> PlanDamage:
        """Measure links together, the parts refitted in the order they run.

        Args:
            links (Sequence[LinkDamage]): The links.
            units (Sequence[str]): Names of the units.

        Returns:
            PlanDamage: What they cost.

        Raises:
            ValueError: If something is no finite number.
        """
        by_unit = split_by_unit(links, units)
        model = sharing_copy(
            self.plain, {
                unit: [Link(*pair) for pair in pairs.items()]
                for unit, pairs in by_unit.items()
            }, self.seed)
        try:
            at_once = self.compare(model)
        except ValueError as error:
            names = ', '.join(link.child for link in links)
            raise ValueError(f'{names}, at once: {error}') from error
        children = {one.child for one in links}
        for part in dict.fromkeys(part for child, part in self.blocks.items()
                                  if child in children):
            with self._recorded(model, part) as recordings:
                try:
                    self._refit(model, part, recordings)
                except ValueError as error:
                    raise ValueError(f'{part.name}: {error}') from error
        return PlanDamage(at_once, self.compare(model))

    @contextmanager
    def _recorded(self, model: nn.Module,
                  part: Part) -> Iterator[list[Recording]]:
        """Have on disk what a part gets and gives, for each kind of
        picture."""
        with tempfile.TemporaryDirectory() as folder:
            recordings = []
            for kind, batches in zip(Split._fields, self.split):
                recordings.append(
                    record(model, self.plain, part, batches, self.forward,
                           Path(folder, kind)))
            yield recordings

    def _refit(self, model: nn.Module, part: Part,
               recordings: list[Recording]) -> float:
        """Refit a part quickly, and measure it on what was kept apart.

        Raises:
            ValueError: If its error or a loss is no finite number.
        """
        fitted, choosing, kept = recordings
        module, plain = (
            network.get_submodule(part.name)
            for network in (model, self.plain))
        fitting = Fitting(module, plain, fitted, choosing, self.recipe)
        fitting.estimate_statistics()
        fitting.solve_projections()
        if self.steps:
            fitting.train(torch.Generator().manual_seed(self.seed))
        return Fitting(module, plain, kept, kept, self.recipe).before

    @torch.no_grad()
    def compare(self, model: nn.Module) -> Damage:
        """Compare a network's outputs with the plain one's.

        Args:
            model (nn.Module): The network.

        Returns:
            Damage: Over all outputs together, on pictures kept apart.
        """
        return Damage(
            *compare_outputs(model, self.plain, self.split.kept, self.forward))


def split_by_unit(links: Sequence[LinkDamage],
                  units: Sequence[str]) -> dict[str, dict[str, str]]:
    """Sort links by their units, as a config needs them.

    Args:
        links (Sequence[LinkDamage]): The links, by names in the model.
        units (Sequence[str]): Names of the units.

    Returns:
        dict[str, dict[str, str]]: Children and parents by their names in the
        unit.
    """
    found: dict[str, dict[str, str]] = {}
    for unit in units:
        start = len(unit) + 1
        pairs = {
            one.child[start:]: one.parent[start:]
            for one in links if one.child.startswith(f'{unit}.')
        }
        if pairs:
            found[unit] = pairs
    return found
