"""What several test files need: small modules, and who shares in them."""
import pytest
import torch
from mmengine.structures import PixelData
from mmengine.utils import digit_version
from torch import nn

from mmkdna import KernelDNAConv2d, link_kernels
from mmkdna.hosts import HOSTS, missing_host

# Of the host libraries, those that this stack has.
INSTALLED = tuple(host for host in HOSTS if not missing_host(host))
# Marks what compiles a model in one piece.
compiles = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.5'),
    reason='torch.compile of torch 2.1 breaks at attributes of modules')


def make_module(convs, **options):
    """An unlinked module with KernelDNA convolutions of given names.

    Args:
        convs (dict[str, tuple]): Name to (in, out, kernel size) and, as a
            last item, a dict of further arguments.
        **options: Of all of them.
    """
    root = nn.Module()
    for name, arguments in convs.items():
        further = {}
        if isinstance(arguments[-1], dict):
            *arguments, further = arguments
        *path, last = name.split('.')
        module = root
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.add_module(last,
                          KernelDNAConv2d(*arguments, **further, **options))
    return root


def make_kin(number=2, channels=8, kernel_size=3, **options):
    """A linked sequence of convolutions of one shape in one stage."""
    padding = kernel_size // 2
    convs = [
        KernelDNAConv2d(
            channels, channels, kernel_size, padding=padding, **options)
        for _ in range(number)
    ]
    module = nn.Sequential(nn.Sequential(*convs))
    link_kernels(module)
    return module


def kernel_dna(module):
    """The KernelDNA convolutions of a module by name."""
    return {
        name: conv
        for name, conv in module.named_modules()
        if isinstance(conv, KernelDNAConv2d)
    }


def children_of(module):
    """The children of a module by name."""
    return {
        name: conv
        for name, conv in kernel_dna(module).items() if conv.role == 'child'
    }


def pattern(module):
    """Roles in order: S a child (son), F a parent (father), - plain."""
    letters = dict(child='S', parent='F', plain='-')
    return ' '.join(letters[conv.role] for conv in kernel_dna(module).values())


def randomize(module):
    """Give every parameter and statistic a value that leaves a trace."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
        for name, buffer in module.named_buffers():
            if name.endswith('running_mean'):
                buffer.normal_()
            elif name.endswith('running_var'):
                buffer.uniform_(0.5, 2)
    return module


def relative_error(value, reference):
    """Norm of the difference by that of the reference, or by 1 if smaller.

    Gradients through a batch norm over two values all but cancel.
    """
    value, reference = value.detach().double(), reference.detach().double()
    return float((value - reference).norm() / max(reference.norm(), 1))


def make_images(host, number=1, with_mask=True, size=64):
    """Random images with labels, as a host library's dataloader gives them.

    Args:
        host (str): 'mmdet', 'mmseg' or 'mmpretrain'.
        number (int): How many. Defaults to 1.
        with_mask (bool): Whether a detector's samples have masks. Defaults to
            True.
        size (int): Sides of the images in pixels; a detector's are 96.
            Defaults to 64.

    Returns:
        dict: Inputs and data samples.
    """
    if host == 'mmdet':
        from mmdet.testing import demo_mm_inputs
        return demo_mm_inputs(
            number, [[3, 96, 96]] * number,
            num_items=[3] * number,
            num_classes=2,
            with_mask=with_mask)
    size = (size, size)
    samples = []
    for _ in range(number):
        if host == 'mmseg':
            from mmseg.structures import SegDataSample
            samples.append(
                SegDataSample(
                    gt_sem_seg=PixelData(data=torch.randint(0, 2, (1, *size))),
                    metainfo=dict(
                        img_shape=size, ori_shape=size, pad_shape=size)))
        else:
            from mmpretrain.structures import DataSample
            samples.append(DataSample().set_gt_label(1))
    images = torch.randint(0, 255, (number, 3, *size), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)
