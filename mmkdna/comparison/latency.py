"""How long the models of a task take for one image, timed in turns."""
from __future__ import annotations
import json
from pathlib import Path
from statistics import median
from typing import Any, Mapping

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from torch import Tensor, nn

from ..analysis.machine import machine
from ..analysis.speed import Setting, TimedModel, time_in_turns
from ..analysis.variants import Variant
from ..launch.model import init_model
from .record import versions
from .runs import config_hash, read_experiment
from .summary import BASELINE, Latency

# Of the forms of a model, the one that is served; rivals have but one.
FORM = 'deployed'


def measure_latency(experiments: Mapping[str, Path],
                    device: str,
                    threads: int,
                    rounds: int = 10,
                    seconds: float = 0.5) -> dict[str, Any]:
    """Time the models of a task in turns, on one image at a time.

    Models have random weights, and children their folded kernels; the image is
    the first of the test set, as the model gets it. A detector is timed to the
    feature maps of its neck, see
    :class:`mmkdna.analysis.speed.TimedModel`.

    Args:
        experiments (Mapping[str, Path]): Configs of the task by name, with
            'plain'.
        device (str): 'cpu' or 'cuda'.
        threads (int): Threads of torch on the CPU.
        rounds (int): How often each model is timed. Defaults to 10.
        seconds (float): For how long, at least, each runs in a round.
            Defaults to 0.5.

    Returns:
        dict: What the file of latencies holds: the conditions, and
        'experiments' with 'hash' of the config, 'milliseconds' of each round
        and the 'ratio' to plain in the same round, least, median and greatest.
    """
    torch.set_num_threads(threads)
    # Random weights may make activations so small that they cost more time.
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    models = {
        name: TimedModel(deployed_model(config), Setting(device=device))
        for name, config in experiments.items()
    }
    image = _first_image(
        read_experiment(experiments[BASELINE]),
        models[BASELINE].model).to(device)
    for model in models.values():
        model.calibrate(image, seconds)
    speeds = time_in_turns(models, image, rounds)
    return dict(
        form=FORM,
        image=list(image.shape[2:]),
        seconds=seconds,
        versions=versions(),
        machine=machine(device, threads),
        experiments={
            name:
            dict(
                hash=config_hash(experiments[name], device),
                milliseconds=[1e3 / speed for speed in of_model],
                ratio=_ratio(speeds[BASELINE], of_model))
            for name, of_model in speeds.items()
        })


def deployed_model(config: Path) -> nn.Module:
    """Build the model of an experiment as it is timed.

    Args:
        config (Path): The config.

    Returns:
        nn.Module: In eval mode, on the CPU.
    """
    return Variant(FORM).finish(init_model(read_experiment(config)))


def _ratio(plain: list[float], ours: list[float]) -> dict[str, float]:
    """Of the time that ours take to that of plain, round by round."""
    ratios = [one / other for one, other in zip(plain, ours)]
    return dict(min=min(ratios), median=median(ratios), max=max(ratios))


def _first_image(cfg: Config, model: Any) -> Tensor:
    """The first of the test set, shape (1, 3, H, W)."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        batch = pseudo_collate([dataset[0]])
    return model.data_preprocessor(batch, False)['inputs']


def read_latency(
        file: Path,
        hashes: Mapping[str, str]) -> tuple[dict[str, Latency], list[str]]:
    """Read a file of latencies.

    Args:
        file (Path): The file.
        hashes (Mapping[str, str]): Hashes of the configs there are, by
            experiment.

    Returns:
        tuple[dict[str, Latency], list[str]]: Latency by experiment, and the
        experiments that are of another config than there is. Both are empty
        if there is no file.
    """
    found = (
        json.loads(file.read_text())['experiments'] if file.is_file() else {})
    others = [n for n in found if found[n]['hash'] != hashes.get(n)]
    latencies = {
        name: Latency(median(times), min(times), max(times))
        for name, times in ((n, found[n]['milliseconds']) for n in found)
        if name not in others
    }
    return latencies, others
