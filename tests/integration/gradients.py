"""Gradients of two images, in one process or, under torchrun, in two.

Run by ``torchrun --standalone --nproc_per_node=2 gradients.py OUT.pth``.

An average over processes equals a batch in one process only where no image
sees another one and both have the same number of targets. So nothing here
takes statistics over images: the detector is trained as its config says, with
norm_eval, and the classifier with GN throughout, its gates included; and the
detector's two images have different pixels, but the same boxes.
"""
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from torch import distributed

from mmkdna.launch.distributed import start_gloo

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
GN = dict(type='GN', num_groups=8)
SIZE = 64


def load_detector():
    """The config of a RetinaNet R18-kdna."""
    cfg = Config.fromfile(CONFIGS / 'retinanet' /
                          'retinanet_r18-kdna_fpn_1x_coco.py')
    cfg.model.backbone.init_cfg = None
    return cfg


def load_classifier():
    """The config of a ResNet-18-kdna with GN."""
    cfg = Config.fromfile(CONFIGS / 'resnet' / 'kdna-resnet18_8xb32_in1k.py')
    cfg.model.backbone.update(
        norm_cfg=GN, conv_cfg=dict(type='KernelDNA', norm_cfg=GN))
    return cfg


def detection_samples(number):
    """Annotations: the same for every image."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    samples = []
    for _ in range(number):
        shape = (SIZE, SIZE)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape,
                ori_shape=shape,
                pad_shape=shape,
                batch_input_shape=shape,
                scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[4., 4., 40., 40.], [20., 10., 60., 50.]]),
            labels=torch.tensor([3, 7]))
        samples.append(sample)
    return samples


def classification_samples(number):
    """A label per image."""
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_label(i) for i in range(number)]


TASKS = dict(
    detector=(load_detector, detection_samples),
    classifier=(load_classifier, classification_samples))


def gradients(task, rank=0, world_size=1):
    """The gradients after two steps on two images.

    Two, because DDP complains about an unused parameter at the second.

    Args:
        task (str): 'detector' or 'classifier'.
        rank (int): Number of this process. Defaults to 0.
        world_size (int): Of so many. Defaults to 1.

    Returns:
        dict[str, Tensor | None]: By parameter, if it is trained.
    """
    load, make_samples = TASKS[task]
    cfg = load()
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        model.train()
        # What starts at 0, the last norm of a block for one, hides the rest.
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        # Sums over images are formed in another order.
        model.double()
        images = torch.randn(2, 3, SIZE, SIZE).double()[rank::world_size]
        samples = make_samples(2)[rank::world_size]
        wrapped = model
        if world_size > 1:
            wrapped = MMDistributedDataParallel(
                model, broadcast_buffers=False, find_unused_parameters=False)
        for _ in range(2):
            model.zero_grad()
            losses = wrapped(images, samples, mode='loss')
            model.parse_losses(losses)[0].backward()
    return {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def main(out):
    """Save the gradients of all tasks, as they are on the first process."""
    start_gloo()
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    found = {task: gradients(task, rank, world_size) for task in TASKS}
    if rank == 0:
        torch.save(found, out)


if __name__ == '__main__':
    import mmkdna  # noqa: F401
    main(sys.argv[1])
