"""A network that shares, made to compute what the plain one did."""
from __future__ import annotations
import hashlib
import shutil
import tempfile
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, Iterator

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.utils.data import Subset

from ..checkpoints.files import load_file, save_file
from ..sharing import children_of
from .batches import Batches, Views
from .fitting import Fitting, Recipe
from .outputs import compare_children, compare_outputs
from .parts import Part, find_parts
from .recording import Forward, Recording, record, record_next
from .report import ChildReport, PartReport, ReconstructionReport

# Of ten batches in a row one chooses and one reports; the rest is fitted to.
CHOOSING = 0
REPORTING = 1
# One of each kind at least, and some to fit to.
FEWEST = 3


def reconstruct(model: Any,
                batches: Batches,
                forward: Forward,
                recipe: Recipe = Recipe(),
                seed: int = 0,
                state: str | Path | None = None) -> ReconstructionReport:
    """Move children to their derived kernels, and fit what is around them.

    Plain pretrained kernels of two layers have little in common, so a network
    computes something else once its children derive theirs. Labels are not
    needed to make up for it. Part by part, in the order in which they run and
    on what the parts before give by then, the network is fitted to what the
    plain one computes: batch norms get new statistics, the last 1x1
    convolution of each block the least-squares solution, and all weights of
    the part, parents and adapters among them, are trained. What follows the
    last child is fitted too. What this makes no better stays as it was, and so
    does a network that shares nothing.

    With several processes each brings pictures of its own, and all end with
    the same weights.

    Args:
        model (nn.Module): A model whose children keep their own kernel, with
            plain weights loaded. Changed in place, unless there is an error;
            its children have derived kernels only afterwards.
        batches (Batches): Pictures, shape (N, 3, H, W); 3 batches or
            more, each of which counts the same. Of ten in a row one chooses
            the best of what was tried, and one tells what came of it.
        forward (callable): Runs a model on a batch and returns what it gives.
        recipe (Recipe): How each part is fitted. Defaults to ``Recipe()``.
        seed (int): Of the order of batches. Defaults to 0.
        state (str | Path, optional): File that has what is done, after each
            part; if it is there already and from the same start, what it has
            is not done again. The caller removes it, once what came of it is
            saved. With several processes that of the first one counts.
            Defaults to None.

    Returns:
        ReconstructionReport: What became of it, which is on
        ``model.reconstruction_report`` as well.

    Raises:
        ValueError: If a child has no own kernel, if there are too few batches,
            or if something is no finite number.
    """
    children = [c for c in children_of(model) if c.parent is not c]
    if not all(child.keeps_own_kernel for child in children):
        raise ValueError(
            f'a {type(model).__name__} is to be reconstructed, but not all '
            'children in it keep their own kernel: expected conv_cfg=dict('
            'type=\'KernelDNA\', keep_own_kernel=True)')
    if len(batches) < FEWEST:
        raise ValueError(
            f'{len(batches)} batches of pictures are given, {FEWEST} or more '
            'are expected: give more pictures, or smaller batches')
    training = {module: module.training for module in model.modules()}
    model.eval()
    plain = deepcopy(model)
    try:
        for child in children:
            child.own_share.zero_()
        report = _fit_parts(model, plain, batches, forward, recipe, seed,
                            state)
    except BaseException:
        model.load_state_dict(plain.state_dict())
        raise
    finally:
        for module, mode in training.items():
            module.training = mode
    for child in children:
        child.drop_own_weight()
    model.reconstruction_report = report
    print_log(str(report), logger='current')
    return report


def _fit_parts(model: nn.Module, plain: nn.Module, batches: Batches,
               forward: Forward, recipe: Recipe, seed: int,
               state: str | Path | None) -> ReconstructionReport:
    """Fit one part after the other; arguments as above, children sharing."""
    first = batches[0].to(next(model.parameters()).device)
    with torch.no_grad():
        parts, left_out = find_parts(model,
                                     lambda: forward(model, first.clone()))
    fitted, choosing, reporting = _deal_out(batches)
    error_before, _ = compare_outputs(model, plain, reporting, forward)
    done: list[PartReport] = []
    start = ''
    if state is not None:
        start = _fingerprint(plain, parts, batches, (recipe, seed))
        done = _load(state, start, model)
    kinds: dict[str, Batches] = dict(
        choosing=choosing, fitted=Views(fitted, recipe.views, seed))
    # Of one part after the other.
    recorded: dict[str, Recording] = {}
    before = None
    with tempfile.TemporaryDirectory() as folder:
        for i, part in enumerate(parts[len(done):], len(done) + 1):
            module = model.get_submodule(part.name)
            plain_module = plain.get_submodule(part.name)
            for kind, chosen in kinds.items():
                path = Path(folder, str(i), kind)
                if part.is_next and before is not None:
                    recorded[kind] = record_next(recorded[kind], before,
                                                 plain_module, part, path)
                else:
                    recorded[kind] = record(model, plain, part, chosen,
                                            forward, path)
            shutil.rmtree(Path(folder, str(i - 1)), ignore_errors=True)
            with _naming(part):
                # What parts before it share with it fits those.
                fitting = Fitting(module, plain_module, recorded['fitted'],
                                  recorded['choosing'], recipe,
                                  _tensors_of(model, parts[:i - 1]))
                errors = [
                    compare_children(module, plain_module, part,
                                     recorded['choosing'])
                ]
                _fit(fitting, part, seed)
                errors.append(
                    compare_children(module, plain_module, part,
                                     recorded['choosing']))
            before = module
            done.append(
                PartReport(part.name, [
                    ChildReport(child, *(error[child] for error in errors))
                    for child in part.children
                ], fitting.before, fitting.best))
            print_log(
                f'KernelDNA: {i} of {len(parts)} parts are reconstructed: '
                f'{part.name}, error {fitting.before:.3f} before, '
                f'{fitting.best:.3f} after',
                logger='current')
            _save(state, start, model, done)
    error_after, agreement = compare_outputs(model, plain, reporting, forward)
    return ReconstructionReport(done, left_out, error_before, error_after,
                                agreement)


def _deal_out(batches: Any) -> list[Batches]:
    """Deal out what is fitted to, what chooses and what reports."""
    kinds: dict[int, list[int]] = {CHOOSING: [], REPORTING: []}
    fitted: list[int] = []
    for number in range(len(batches)):
        kinds.get(number % 10, fitted).append(number)
    return [Subset(batches, numbers) for numbers in (fitted, *kinds.values())]


def _fit(fitting: Fitting, part: Part, seed: int) -> None:
    """Fit a part in all ways."""
    fitting.estimate_statistics()
    fitting.solve_projections()
    fitting.train(torch.Generator().manual_seed(seed))
    fitting.solve_projections()


@contextmanager
def _naming(part: Part) -> Iterator[None]:
    """Name the part in what is said of it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'{part.name}: {error}') from error


def _tensors_of(model: nn.Module, parts: list[Part]) -> Iterator[Tensor]:
    """Parameters and buffers of parts."""
    for part in parts:
        module = model.get_submodule(part.name)
        yield from (*module.parameters(), *module.buffers())


def _fingerprint(plain: nn.Module, parts: list[Part], batches: Batches,
                 how: Any) -> str:
    """Tell one start of all processes from another."""
    digest = hashlib.sha256(repr((parts, how)).encode())
    tensors = (batches[number] for number in range(len(batches)))
    for tensor in chain(plain.state_dict().values(), tensors):
        digest.update(repr(tensor.shape).encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return ' '.join(all_gather_object(digest.hexdigest()))


def _save(path: str | Path | None, start: str, model: nn.Module,
          done: list[PartReport]) -> None:
    """Write what is done."""
    if path is not None and get_rank() == 0:
        save_file(
            dict(
                start=start,
                done=[asdict(report) for report in done],
                state_dict=model.state_dict()), path)


def _load(path: str | Path, start: str, model: nn.Module) -> list[PartReport]:
    """Read what is done, if it is from the same start, for all processes."""
    saved: dict[str, Any] = {}
    if get_rank() == 0 and Path(path).exists():
        saved = load_file(path)
    found = [saved if saved.get('start') == start else None]
    broadcast_object_list(found)
    if found[0] is None:
        return []
    # Own kernels and their shares are in it, so that it is loaded as it is.
    model.load_state_dict(found[0]['state_dict'])
    return [
        PartReport(**dict(
            report,
            children=[ChildReport(**child) for child in report['children']]))
        for report in found[0]['done']
    ]
