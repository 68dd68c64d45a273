"""Parameters and FLOPs of a model with KernelDNA."""
from __future__ import annotations
from copy import deepcopy
from typing import Any, Callable, NamedTuple, Sequence

import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..backbones.base import type_path
from ..conv import KernelDNAConv2d
from ..forward import forward_dense
from ..sharing import named_convs, sharing_table

# A plain forward of MMDetection shows its mask heads so many proposals.
NUM_MASKS = 100
aten = torch.ops.aten


class Cost(NamedTuple):
    """What a model costs, as :func:`model_cost` counts it.

    Attributes:
        parameters (int): Number of parameters of the whole model.
        flops (int): Number of FLOPs for one image, where a multiplication
            and the addition that follows it count as one.
        children (int): Number of convolutions that derive their kernel.
        plain_parameters (int): Number of parameters of the same network
            without sharing and without gates.
        plain_flops (int): Number of FLOPs of that network.
        shape (tuple[int]): Height and width of the image in pixels.
    """
    parameters: int
    flops: int
    children: int
    plain_parameters: int
    plain_flops: int
    shape: tuple[int, int]


def model_cost(model: nn.Module, shape: Sequence[int]) -> Cost:
    """Count the parameters and the FLOPs of a model.

    Nothing is computed: a copy of the model runs on the meta device, from the
    image to the outputs of its heads, without post-processing. RoI heads see
    as many proposals as the test config leaves, and mask heads 100. What
    counts is what :func:`mmengine.analysis.get_model_complexity_info` counts
    as well: convolutions, matrix products, norms, resizing and average
    pooling, but not the pooling of RoIs. What a training needs alone, such as
    auxiliary heads, has parameters but no FLOPs.

    The plain figures of a model after :func:`mmkdna.switch_to_deploy` are
    those of the model before.

    Args:
        model (nn.Module): A classifier, detector or segmentor, linked.
        shape (Sequence[int]): Height and width of the image in pixels.

    Returns:
        Cost: The figures of the model and of the plain network.

    Raises:
        NotImplementedError: If the model has an operation that the meta
            device has not, as deformable convolutions, or looks at values.
    """
    table = sharing_table(model)
    parameters = _num_parameters(model)
    plain_parameters = parameters + table.saved_parameters
    for conv in named_convs(model).values():
        # The table says nothing of gates that stay after switch_to_deploy.
        if conv.role == 'plain' and conv.adapter is not None:
            plain_parameters -= _num_parameters(conv.adapter)
    model = deepcopy(model).eval().to('meta')
    try:
        flops, of_gates = _count(model, shape)
    except RuntimeError as error:
        raise NotImplementedError(
            f'The FLOPs of this {type(model).__name__} cannot be counted, '
            'since something in it does not run on the meta device: '
            f'{str(error).splitlines()[0]}. mmengine.analysis.'
            'get_model_complexity_info counts on real images') from error
    return Cost(parameters, flops, table.children, plain_parameters,
                flops - of_gates, (shape[0], shape[1]))


def image_shape(cfg: Config) -> tuple[int, int]:
    """Find the size of image for which the FLOPs of a config are given.

    Args:
        cfg (Config): Config of mmdet, mmseg or mmpretrain.

    Returns:
        tuple[int]: Height and width in pixels: a segmentor's crop, and for
        the others what they test on. Where the test pipeline leaves it open,
        that is a classifier's crop in training, or 224x224, and 800x1280 for
        a detector; it is so, too, for a detector's 1333x800, as is usual for
        such figures.

    Raises:
        ValueError: If a segmentor has no crop.
    """
    scope = cfg.get('default_scope')
    if scope == 'mmseg':
        size = (cfg.model.get('data_preprocessor') or {}).get('size')
        if size is None:
            raise ValueError('this segmentor takes images of any size, as '
                             'its data_preprocessor has none')
        height, width = size
        return height, width
    scale: Any = (1333, 800)
    if scope == 'mmpretrain':
        scale = 224
        for step in _pipeline(cfg, 'train_dataloader'):
            if type_path(step['type'])[-1].endswith('Crop'):
                scale = step.get('crop_size') or step['scale']
    for step in _pipeline(cfg, 'test_dataloader'):
        name = type_path(step['type'])[-1]
        if name == 'Resize':
            scale = step.get('scale') or scale
        elif name.endswith('CenterCrop'):
            scale = step['crop_size']
    width, height = (scale, scale) if isinstance(scale, int) else scale
    if scope != 'mmdet':
        return height, width
    if (width, height) == (1333, 800):
        width = 1280
    return _padded(height), _padded(width)


def _num_parameters(module: nn.Module) -> int:
    """Count the parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def _padded(side: int) -> int:
    """Round a side up, as a detector's data preprocessor pads images."""
    return -(-side // 32) * 32


def _pipeline(cfg: Config, dataloader: str) -> list[dict]:
    """Find the pipeline of the innermost dataset, the first of several."""
    node = cfg.get(dataloader) or {}
    while node.get('dataset') or node.get('datasets'):
        node = node.get('dataset') or node['datasets'][0]
    return node.get('pipeline') or []


@torch.no_grad()
def _count(model: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Count the FLOPs of a model on the meta device, and of its gates."""
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    # FLOPs so far at the start of a gate, and FLOPs of each gate.
    started: list[int] = []
    of_gates: list[int] = []
    for conv in model.modules():
        if isinstance(conv, KernelDNAConv2d) and conv.adapter is not None:
            gate = conv.adapter.gate
            if gate is not None:
                gate.register_forward_pre_hook(
                    lambda *_: started.append(counter.get_total_flops()))
                gate.register_forward_hook(lambda *_: of_gates.append(
                    counter.get_total_flops() - started.pop()))
    with counter:
        forward_dense(model, torch.empty(1, 3, *shape, device='meta'))
        _forward_rois(model)
    # torch counts a multiplication and an addition as two.
    return counter.get_total_flops() // 2, sum(of_gates) // 2


def _forward_rois(model: Any) -> None:
    """Run RoI heads on features without values: pooling has no FLOPs."""
    roi_head = getattr(model, 'roi_head', None)
    if roi_head is None:
        return
    num_proposals = model.test_cfg.rpn.max_per_img
    for kind, num in (('bbox', num_proposals), ('mask', NUM_MASKS)):
        heads = getattr(roi_head, f'{kind}_head', None)
        if heads is None:
            continue
        extractors = getattr(roi_head, f'{kind}_roi_extractor')
        # A cascade has lists of them.
        if not isinstance(heads, nn.ModuleList):
            heads, extractors = [heads], [extractors]
        for head, extractor in zip(heads, extractors):
            size = extractor.roi_layers[0].output_size
            head(
                torch.empty(num, extractor.out_channels, *size, device='meta'))


def _per_input_value(operations: int) -> Callable[..., int]:
    """Make a formula of so many operations per value of the input."""
    return lambda shape, *_, **__: 2 * operations * torch.Size(shape).numel()


def _per_output_value(operations: int) -> Callable[..., int]:
    """Make a formula of so many operations per value of the output."""
    return lambda *_, out_shape, **__: (2 * operations * torch.Size(out_shape).
                                        numel())


def _global_pooling(shape: Sequence[int],
                    dim: Sequence[int] | None = None,
                    keepdim: bool = False,
                    **_: Any) -> int:
    """Count the pooling of a whole feature map, by torch's count of two."""
    # Adaptive pooling to 1x1 arrives as a mean that keeps its dimensions,
    # which that of a gate does not.
    return 2 * torch.Size(shape).numel() if keepdim else 0


# mmengine counts these beside convolutions and matrix products.
_FORMULAS: dict[Any, Callable[..., int]] = {
    aten.native_batch_norm: _per_input_value(2),
    aten.native_group_norm: _per_input_value(5),
    aten.native_layer_norm: _per_input_value(5),
    aten._adaptive_avg_pool2d: _per_input_value(1),
    aten.mean: _global_pooling,
    aten.upsample_nearest2d: _per_output_value(1),
    aten.upsample_bilinear2d: _per_output_value(4),
}
# torch takes some operations apart unless each overload is named as well.
_FORMULAS.update({
    getattr(op, name): formula
    for op, formula in list(_FORMULAS.items())
    for name in op.overloads()
})
