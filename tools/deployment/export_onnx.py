"""Export a model to ONNX, with dynamic batch and size and no custom op.

Usage: python tools/deployment/export_onnx.py CONFIG CHECKPOINT OUT.onnx

A classifier answers its logits, shape (N, classes), a segmentor its logits
before they are resized to the image, shape (N, classes, h, w), a detector the
feature maps of its backbone and neck. Inputs are images as the model's data
preprocessor leaves them, shape (N, 3, H, W). The graph is run in onnxruntime
and compared with torch before the file is written.
"""
import argparse
import inspect
import os
import sys
import tempfile

import torch
from mmengine.config import Config, DictAction
from torch import nn

from mmkdna import switch_to_deploy
from mmkdna.apis import init_model
from mmkdna.checkpoints.files import CheckpointError

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


def parse_args():
    """Read the command line."""
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
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def replace_pooling(module):
    """Replace adaptive pooling to more than one value, in place.

    Args:
        module (nn.Module): Any module.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.AdaptiveAvgPool2d):
            size = child.output_size
            size = (size, size) if isinstance(size, int) else tuple(size)
            if size != (1, 1):
                setattr(module, name, AdaptiveAvgPool(size))
        else:
            replace_pooling(child)


def export(model, path, size, opset):
    """Write a graph.

    Args:
        model (Exported): The model, in eval mode.
        path (str): Where to.
        size (tuple[int]): Size to trace with.
        opset (int): Version of the operator set.
    """
    inputs = torch.zeros(2, 3, *size)
    with torch.no_grad():
        outputs = model(inputs)
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
        input_names=['input'],
        output_names=names,
        dynamic_axes=dict(input={
            0: 'batch',
            2: 'h',
            3: 'w'
        }, **axes),
        **legacy)


def largest_error(model, path, size):
    """Compare a graph in onnxruntime with the model in torch.

    Args:
        model (Exported): The model.
        path (str): The graph.
        size (tuple[int]): Size it was traced with.

    Returns:
        float: The largest error of an output, relative to its largest value,
        at batch 1, 2 and 3 and at two sizes.
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
            for ours, theirs in zip(expected, got):
                error = (ours - torch.from_numpy(theirs)).abs().max()
                worst = max(worst, float(error / ours.abs().max()))
    return worst


def main():
    """Export."""
    args = parse_args()
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        sys.exit(f'{error.name} is needed to export and to check what was '
                 'exported: pip install \'mmkdna[deploy]\'')
    folder = os.path.dirname(os.path.abspath(args.out))
    if not os.path.isdir(folder):
        sys.exit(f'{args.out} is given to write to, but there is no such '
                 'folder')
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    try:
        model = init_model(cfg, args.checkpoint)
    except (CheckpointError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f'{args.checkpoint} is given, the checkpoint of a model of '
                 f'{args.config} is expected: {error}')
    # In eval mode itself as well: torch exports in that mode, and then sets
    # every module back to that of the outermost.
    model = Exported(switch_to_deploy(model)).eval()
    replace_pooling(model)
    with tempfile.TemporaryDirectory(dir=folder) as part:
        path = os.path.join(part, 'model.onnx')
        export(model, path, args.size, args.opset)
        error = largest_error(model, path, args.size)
        if not error <= TOLERANCE:
            sys.exit(f'The graph deviates from torch by {error:.1e} of the '
                     f'largest value, at most {TOLERANCE:.0e} is expected: '
                     'nothing was written')
        os.replace(path, args.out)
    print(f'{args.out}: batch {BATCHES} and two sizes agree with torch, '
          f'largest error {error:.1e} of the largest value')


if __name__ == '__main__':
    main()
