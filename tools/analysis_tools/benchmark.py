"""Compare the speed of a model's forms: plain, as trained, deployed, fused.

Usage: python tools/analysis_tools/benchmark.py CONFIG [CONFIG ...]

All forms of all configs are timed in turns, round after round, so that a
machine that is busy for a while is so for all. Each round gives one ratio to
the first form of the same config, or, if there is one form only, to the first
config; what is printed is their least, median and greatest over the rounds.

- plain: the same network without sharing, ``nn.Conv2d`` in every place;
- plain-fused: that with its norms folded into its convolutions;
- trained: children derive their kernel;
- deployed: after ``mmkdna.switch_to_deploy``;
- fused: that with its norms folded.

A classifier is timed to its logits, a segmentor to its logits before they are
resized, a detector to the feature maps of its neck. In train mode it is a
forward and a backward. Weights are random, inputs as well.
"""
import argparse
import json
import math
import os.path as osp
import platform
import time
from copy import deepcopy
from functools import partial
from statistics import median

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config, DictAction

from mmkdna import switch_to_deploy
from mmkdna.analysis.tables import markdown_table
from mmkdna.backbones import BACKBONES
from mmkdna.deploy import CONV_TYPES
from mmkdna.launch.model import init_model

FORMS = ('plain', 'plain-fused', 'trained', 'deployed', 'fused')
# The others are made of a model that has been trained.
TRAINABLE = ('plain', 'trained')


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument(
        '--forms',
        nargs='+',
        choices=FORMS,
        default=FORMS,
        help='the first is what the others are compared with')
    parser.add_argument(
        '--modes', nargs='+', choices=('eval', 'train'), default=('eval', ))
    parser.add_argument('--batch', nargs='+', type=int, default=(1, 8))
    parser.add_argument(
        '--size', nargs=2, type=int, default=(224, 224), metavar=('H', 'W'))
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument(
        '--seconds',
        type=float,
        default=0.5,
        help='for how long, at least, a form runs in each round')
    parser.add_argument('--threads', type=int, help='of torch on the CPU')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--json', help='file to write every round to')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if min(args.rounds, *args.batch, *args.size) < 1 or args.seconds <= 0:
        parser.error('--rounds, --batch, --size and --seconds have to be '
                     'positive')
    return args


def plain_config(node):
    """The config of the same network without sharing.

    Args:
        node (Any): A config or a part of one; dicts in it are changed.

    Returns:
        Any: The same, without KernelDNA convolutions.
    """
    if isinstance(node, (list, tuple)):
        return type(node)(plain_config(item) for item in node)
    if not isinstance(node, dict):
        return node
    if node.get('type') in CONV_TYPES:
        return None
    for key, value in node.items():
        node[key] = plain_config(value)
    if str(node.get('type')).rpartition('.')[2] in BACKBONES:
        node.pop('conv_cfg', None)
        node['sharing_stages'] = ()
    return node


def build(cfg, form):
    """A model in one of the forms.

    Args:
        cfg (Config): Config of the model as trained.
        form (str): One of :data:`FORMS`.

    Returns:
        nn.Module: The model, in eval mode.
    """
    cfg = deepcopy(cfg)
    if form.startswith('plain'):
        cfg.model = plain_config(cfg.model)
    model = init_model(cfg)
    if form in ('deployed', 'fused'):
        switch_to_deploy(model)
    if form.endswith('fused'):
        fuse_conv_bn(model)
    return model


class Candidate:
    """One model to time.

    Args:
        model (nn.Module): The model.
        mode (str): 'eval' or 'train'.
        device (str): Where it runs.
    """

    def __init__(self, model, mode, device):
        self.model = model.to(device)
        self.training = mode == 'train'
        self.on_gpu = torch.device(device).type == 'cuda'
        whole = hasattr(model, 'head') or hasattr(model, 'decode_head')
        self.forward = (
            partial(model, mode='tensor') if whole else model.extract_feat)

    def calibrate(self, x, seconds):
        """Warm up, and find how often to run in a round."""
        self.model.train(self.training)
        self.repeats = 1
        for _ in range(3):
            took = x.shape[0] / self.speed(x)
        self.repeats = math.ceil(seconds / took)

    def speed(self, x):
        """Images per second in one round."""
        self._wait()
        start = time.perf_counter()
        for _ in range(self.repeats):
            with torch.set_grad_enabled(self.training):
                outputs = self.forward(x)
            if self.training:
                if torch.is_tensor(outputs):
                    outputs = (outputs, )
                sum(out.mean() for out in outputs).backward()
        self._wait()
        took = time.perf_counter() - start
        # What a training does in every iteration too, but its own way.
        self.model.zero_grad()
        return self.repeats * x.shape[0] / took

    def _wait(self):
        if self.on_gpu:
            torch.cuda.synchronize()


def compare(candidates, x, rounds, seconds):
    """Time models in turns.

    Args:
        candidates (dict[tuple, Candidate]): By config and form.
        x (Tensor): The input.
        rounds (int): How often each is timed.
        seconds (float): How long, at least.

    Returns:
        dict[tuple, list[float]]: Images per second by config and form, one
        number per round.
    """
    for candidate in candidates.values():
        candidate.calibrate(x, seconds)
    speeds = {key: [] for key in candidates}
    for number in range(rounds):
        # Back and forth, so that none is always the first.
        for key in list(candidates)[::1 if number % 2 == 0 else -1]:
            speeds[key].append(candidates[key].speed(x))
    return speeds


def summarize(speeds, **facts):
    """Rows of the table.

    Args:
        speeds (dict[tuple, list[float]]): From :func:`compare`.
        **facts: What the rows have in common.

    Returns:
        list[dict]: A row per config and form.
    """
    first = {}
    one_form = len({form for _, form in speeds}) == 1
    rows = []
    for (config, form), rounds in speeds.items():
        reference = first.setdefault('' if one_form else config, rounds)
        ratios = [ours / theirs for ours, theirs in zip(rounds, reference)]
        rows.append(
            dict(
                config=config,
                form=form,
                **facts,
                images_per_second=median(rounds),
                ratio=dict(
                    min=min(ratios), median=median(ratios), max=max(ratios)),
                rounds=rounds))
    return rows


def markdown(rows):
    """A table of rows from :func:`summarize`.

    Args:
        rows (list[dict]): The rows.

    Returns:
        str: The table.
    """
    head = ('config', 'mode', 'batch', 'form', 'images/s', 'ratio', 'least',
            'greatest')
    return markdown_table(head,
                          [(row['config'], row['mode'], row['batch'],
                            row['form'], f'{row["images_per_second"]:.1f}',
                            *(f'{row["ratio"][name]:.3f}'
                              for name in ('median', 'min', 'max')))
                           for row in rows])


def main():
    """Time and print."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    # Random weights may make activations so small that they cost more time.
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    cfgs = {}
    for path in args.configs:
        cfg = Config.fromfile(path)
        if args.cfg_options:
            cfg.merge_from_dict(args.cfg_options)
        name = osp.splitext(osp.basename(path))[0]
        cfgs[path if name in cfgs else name] = cfg
    rows = []
    for mode in args.modes:
        forms = [f for f in args.forms if mode == 'eval' or f in TRAINABLE]
        candidates = {
            (name, form): Candidate(build(cfg, form), mode, args.device)
            for name, cfg in cfgs.items()
            for form in forms
        }
        for batch in args.batch:
            x = torch.randn(batch, 3, *args.size, device=args.device)
            rows += summarize(
                compare(candidates, x, args.rounds, args.seconds),
                mode=mode,
                batch=batch)
    machine = dict(
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        device=args.device
        if args.device == 'cpu' else torch.cuda.get_device_name(args.device),
        processor=platform.processor() or platform.machine(),
        size=list(args.size),
        seconds=args.seconds)
    print(markdown(rows))
    print(', '.join(f'{name} {value}' for name, value in machine.items()) +
          f', {args.rounds} rounds')
    if args.json:
        with open(args.json, 'w') as file:
            json.dump(dict(machine=machine, rows=rows), file, indent=1)


if __name__ == '__main__':
    main()
