"""The memory that a run needs, by torch's own accounting."""
from __future__ import annotations
from typing import Any, Callable
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.autograd.profiler import profile


def peak_memory(run: Callable[[], Any], device: str | torch.device) -> int:
    """Count what is allocated at most at one time, beyond what was before.

    On a CPU it is what passes torch's allocator, as its profiler notes it,
    temporary buffers of an operation included; on a GPU
    ``torch.cuda.max_memory_allocated``.

    Args:
        run (callable): What to run, once.
        device (str | torch.device): Where it runs, a CPU or a CUDA device.

    Returns:
        int: Bytes.
    """
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(profile_memory=True) as profiled:
        run()
    now = peak = 0
    # In the order of time; what is freed counts below zero.
    for event in profiled.kineto_results.events():
        if event.name() == '[memory]':
            now += event.nbytes()
            peak = max(peak, now)
    return peak


class _Saved:
    """A tensor for as long as a backward may ask for it."""

    def __init__(self, tensor: Tensor) -> None:
        # One that knows its graph would be held by it and hold it forever.
        self.tensor = tensor.detach()


def backward_memory(forward: Callable[[], Any], model: nn.Module) -> int:
    """Count what a forward keeps for the backward.

    Several tensors that are views of one memory count once, with all of that
    memory; parameters and buffers of the model do not count.

    Args:
        forward (callable): The forward, whose outputs it returns.
        model (nn.Module): The model that runs in it.

    Returns:
        int: Bytes that are kept once the forward is done.
    """
    # What part of the graph is gone by then keeps nothing.
    all_saved: WeakSet[_Saved] = WeakSet()

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        all_saved.add(saved)
        return saved

    with saved_tensors_hooks(pack, lambda saved: saved.tensor):
        outputs = forward()
    kept = {
        storage.data_ptr(): storage.nbytes()
        for storage in (s.tensor.untyped_storage() for s in all_saved)
    }
    for owned in (*model.parameters(), *model.buffers()):
        kept.pop(owned.untyped_storage().data_ptr(), None)
    del outputs
    return sum(kept.values())
