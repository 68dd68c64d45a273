"""Modules of any nesting, from descriptions that JSON can hold.

Usage: python -m tests.nested < DESCRIPTIONS

prints who derives from whom in each of a list of them.
"""
import json
import sys

from torch import nn

from mmkdna import KernelDNAConv2d, link_kernels


def build(description):
    """Build a module and link it, units inside it first.

    Args:
        description (list): ['conv', channels, kernel size], ['again', number],
            which is the convolution of that number once more, if there are as
            many, or 'sequential', 'list' or 'unit', and the parts of it.

    Returns:
        tuple[nn.Module, list[set]]: The module, and the convolutions of each
        unit inside it.
    """
    convs, units = [], []

    def make(kind, *rest):
        if kind == 'conv':
            channels, size = rest
            convs.append(KernelDNAConv2d(channels, channels, size))
            return convs[-1]
        if kind == 'again':
            return convs[rest[0] % len(convs)] if convs else nn.Identity()
        parts = [make(*part) for part in rest]
        module = nn.ModuleList(parts) if kind == 'list' else nn.Sequential(
            *parts)
        if kind == 'unit':
            link_kernels(module)
            units.append(convs_of(module))
        return module

    module = nn.Sequential(make(*description))
    link_kernels(module)
    return module, units


def convs_of(module):
    return {m for m in module.modules() if isinstance(m, KernelDNAConv2d)}


def parents(module):
    """The name of the parent by the name of the child."""
    names = {conv: name for name, conv in module.named_modules()}
    return {
        name: names[conv.parent]
        for conv, name in names.items()
        if isinstance(conv, KernelDNAConv2d) and conv.parent is not None
    }


if __name__ == '__main__':
    print(
        json.dumps([parents(build(each)[0]) for each in json.load(sys.stdin)]))
