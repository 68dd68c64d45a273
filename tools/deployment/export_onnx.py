"""Export a model to ONNX, with dynamic batch and size and no custom op.

Usage: python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx

A classifier answers its logits, shape (N, classes), a segmentor its logits
before they are resized to the image, shape (N, classes, h, w), a detector the
feature maps of its backbone and neck. Inputs are images as the model's data
preprocessor leaves them, shape (N, 3, H, W). The graph is run in onnxruntime
and compared with torch before the file is written. With --keep-sharing the
file has no kernels of children: the graph computes them from those of their
parents, which onnxruntime does once, when it loads the file.
"""
import argparse
import inspect
import os
import sys
import tempfile

import torch
from torch import nn

from mmkdna import switch_to_deploy
from mmkdna.deploy import check_sharing, fold_gates
from mmkdna.launch.arguments import add_cfg_options
from mmkdna.launch.command import command
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import load_trained
from mmkdna.launch.outputs import check_output

# What an exported graph has to reproduce: batches and, relative to the size
# it was traced with, sizes.
BATCHES = (1, 2, 3)
TOLERANCE = 1e-4


class AdaptiveAvgPool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` in operations that ONNX has for any size.

    Along each axis it is a matrix product: output i averages the inputs from
    ``floor(i * size / out)`` to ``ceil((i + 1) * size / out)``.

    Args:
        output_size (tuple[int]): Rows and columns of the output.
    """

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def forward(self, x):
        """
        Args:
            x (Tensor): Shape (N, C, H, W).

        Returns:
            Tensor: Shape (N, C, *output_size).
        """
        rows, columns = (self._averages(size, out)
                         for size, out in zip(x.shape[2:], self.output_size))
        return rows.to(x) @ x @ columns.to(x).t()

    @staticmethod
    def _averages(size, out):
        inputs = torch.arange(size)[None]
        steps = torch.arange(out)[:, None]
        first = torch.div(steps * size, out, rounding_mode='floor')
        last = torch.div(
            (steps + 1) * size + out - 1, out, rounding_mode='floor')
        inside = ((inputs >= first) & (inputs < last)).float()
        return inside / inside.sum(1, keepdim=True)


class Exported(nn.Module):
    """What of a model goes into the graph.

    Args:
        model (nn.Module): A classifier, segmentor or detector.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.dense = not (hasattr(model, 'decode_head')
                          or hasattr(model, 'head'))

    def forward(self, x):
        """
        Args:
            x (Tensor): Shape (N, 3, H, W).

        Returns:
            tuple[Tensor]: The outputs.
        """
        if self.dense:
            return tuple(self.model.extract_feat(x))
        out = self.model(x, mode='tensor')
        return (out, ) if torch.is_tensor(out) else tuple(out)


def get_parser() -> argparse.ArgumentParser:
    """The arguments of export_onnx.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of the model')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('out', help='file to write, *.onnx')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(224, 224),
        metavar=('H', 'W'),
        help='size to trace with; any other will do as well afterwards')
    parser.add_argument('--opset', type=int, default=17)
    parser.add_argument(
        '--keep-sharing',
        action='store_true',
        help='leave the kernels of children out of the file, and have the '
        'graph compute them')
    add_cfg_options(parser)
    return parser


def replace_resizing(module):
    """Replace what the exporter would tie to the traced size, in place.

    That is adaptive pooling to more than one value, and mmseg's ``Upsample``
    by a factor, which computes the size in Python.

    Args:
        module (nn.Module): Any module.
    """
    # Whatever has one has imported it.
    upsample = getattr(sys.modules.get('mmseg.models.utils'), 'Upsample', ())
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size = child.output_size
            size = (size, size) if isinstance(size, int) else tuple(size)
            if size != (1, 1):
                setattr(module, name, AdaptiveAvgPool(size))
        elif isinstance(child, upsample) and not child.size:
            setattr(
                module, name,
                nn.Upsample(
                    scale_factor=child.scale_factor,
                    mode=child.mode,
                    align_corners=child.align_corners,
                    recompute_scale_factor=True))
        else:
            replace_resizing(child)


def export(model, path, size, opset, keep_sharing=False):
    """Write a graph.

    Args:
        model (Exported): The model, in eval mode.
        path (str): Where to.
        size (tuple[int]): Size to trace with.
        opset (int): Version of the operator set.
        keep_sharing (bool): Whether what can be computed from weights alone
            is computed in the graph, instead of now. Defaults to False.
    """
    inputs = torch.zeros(2, 3, *size)
    try:
        with torch.no_grad():
            outputs = model(inputs)
    except RuntimeError as error:
        raise CommandError(
            '--size {} {} is given, but the model takes no image of that '
            'size: many models, such as YOLOX and RTMDet, need multiples '
            'of 32: {}'.format(*size, error)) from error
    names = [f'output{i}' for i in range(len(outputs))]
    axes = {
        name: {
            0: 'batch',
            **({
                2: f'{name}_h',
                3: f'{name}_w'
            } if out.ndim == 4 else {})
        }
        for name, out in zip(names, outputs)
    }
    # The exporter that both stacks have.
    legacy = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        legacy['dynamo'] = False
    torch.onnx.export(
        model,
        inputs,
        path,
        opset_version=opset,
        # That would fold norms as well, into a second kernel of each parent.
        do_constant_folding=not keep_sharing,
        input_names=['input'],
        output_names=names,
        dynamic_axes=dict(input={
            0: 'batch',
            2: 'h',
            3: 'w'
        }, **axes),
        **legacy)


def deviation(expected, got):
    """How far the outputs of a graph are from those of torch.

    Args:
        expected (Sequence[Tensor]): What torch answers.
        got (Sequence[Tensor]): What the graph answers.

    Returns:
        float: The largest error, relative to the largest value of its output.

    Raises:
        ValueError: If shapes differ or a value is not finite.
    """
    shapes = [[tuple(out.shape) for out in outs] for outs in (expected, got)]
    if shapes[0] != shapes[1]:
        raise ValueError(f'The graph answers shapes {shapes[1]}, those of '
                         f'torch are expected, {shapes[0]}')
    worst = 0.
    for ours, theirs in zip(expected, got):
        for source, out in (('torch', ours), ('The graph', theirs)):
            if not out.isfinite().all():
                raise ValueError(
                    f'{source} answers values that are not finite, logits or '
                    'features are expected: look whether the weights are')
        largest = ours.abs().max().clamp(min=torch.finfo(ours.dtype).tiny)
        worst = max(worst, float((ours - theirs).abs().max() / largest))
    return worst


def largest_error(model, path, size):
    """Compare a graph in onnxruntime with the model in torch.

    Args:
        model (Exported): The model.
        path (str): The graph.
        size (tuple[int]): Size it was traced with.

    Returns:
        float: The largest error of an output, relative to its largest value,
        at batch 1, 2 and 3 and at two sizes.

    Raises:
        ValueError: See :func:`deviation`.
    """
    import onnxruntime
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider'])
    sizes = (tuple(size), (size[0] + 32, size[1] + 64))
    worst = 0.
    for batch in BATCHES:
        for height, width in sizes:
            inputs = torch.randn(batch, 3, height, width)
            with torch.no_grad():
                expected = model(inputs)
            got = session.run(None, dict(input=inputs.numpy()))
            worst = max(worst,
                        deviation(expected, list(map(torch.from_numpy, got))))
    return worst


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Export."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise CommandError(
            f'{error.name} is needed to export and to check what was '
            'exported: pip install \'mmkdna[deploy]\'') from error
    folder = os.path.dirname(os.path.abspath(args.out))
    if not os.path.isdir(folder):
        raise CommandError(
            f'{args.out} is given to write to, but there is no such '
            'folder')
    cfg = read_config(args.config, args.cfg_options)
    check_output(args.out, args.config, args.checkpoint)
    model = load_trained(cfg, args.config, args.checkpoint)
    if args.keep_sharing:
        try:
            check_sharing(model)
        except ValueError as error:
            raise CommandError(f'--keep-sharing is given, but {error}. '
                               'Nothing is written') from error
        fold_gates(model)
    else:
        switch_to_deploy(model)
    # In eval mode itself as well: torch exports in that mode, and then sets
    # every module back to that of the outermost.
    model = Exported(model).eval()
    replace_resizing(model)
    with tempfile.TemporaryDirectory(dir=folder) as part:
        path = os.path.join(part, 'model.onnx')
        export(model, path, args.size, args.opset, args.keep_sharing)
        try:
            error = largest_error(model, path, args.size)
        except ValueError as refusal:
            raise CommandError(f'{refusal}; nothing was written') from refusal
        if not error <= TOLERANCE:
            raise CommandError(
                f'The graph deviates from torch by {error:.1e} of the '
                f'largest value, at most {TOLERANCE:.0e} is expected: '
                'nothing was written')
        os.replace(path, args.out)
    print(f'{args.out}: batch {BATCHES} and two sizes agree with torch, '
          f'largest error {error:.1e} of the largest value')


if __name__ == '__main__':
    main()
