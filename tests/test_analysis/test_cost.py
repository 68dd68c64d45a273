"""Parameters and FLOPs, against mmengine's own count on real tensors."""
import pytest
import torch
from mmcv.transforms import Resize
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import nn

from mmkdna import switch_to_deploy
from mmkdna.analysis import image_shape, model_cost
from mmkdna.deploy import deploy_config, plain_config
from mmkdna.launch.model import init_model
from tests.runs import CONFIGS

SIZE = (64, 96)


def read(name, **options):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict({
        f'model.{key}': value
        for key, value in options.items()
    })
    return cfg


class Forward(nn.Module):
    """What a detector with RoI heads does, on given proposals."""

    def __init__(self, model, num_proposals):
        super().__init__()
        self.model = model
        corners = torch.rand(num_proposals, 2) * 30
        self.proposals = InstanceData(
            bboxes=torch.cat([corners, corners + 30], 1))

    def forward(self, x):
        features = self.model.extract_feat(x)
        # What is not returned is not traced.
        scores, boxes = self.model.rpn_head(features)
        return (*scores, *boxes,
                *self.model.roi_head.forward(features, [self.proposals]))


@pytest.mark.parametrize('name', [
    'resnet/kdna-resnet18_8xb32_in1k.py',
    'mobilenet_v2/kdna-mobilenet-v2-0.5x_8xb32_in1k.py',
    'upernet/upernet_r18-kdna_4xb4-80k_ade20k-512x512.py',
    'retinanet/retinanet_r50-kdna_kdna-fpn_1x_coco.py',
    'fcos/fcos_r18-kdna_fpn_gn-head_1x_coco.py',
    'mask_rcnn/mask-rcnn_r50-kdna_kdna-fpn_1x_coco.py',
])
def test_flops_are_those_mmengine_counts(name):
    model = init_model(read(name))
    forward = model
    if hasattr(model, 'roi_head'):
        forward = Forward(model, 1000)
    counted = get_model_complexity_info(
        forward,
        inputs=(torch.rand(1, 3, *SIZE), ),
        show_table=False,
        show_arch=False)
    cost = model_cost(model, SIZE)
    assert cost.flops == counted['flops']
    assert cost.parameters == counted['params']
    assert cost.shape == SIZE


@pytest.mark.parametrize('name', [
    'resnet/kdna-resnet50_8xb32_in1k.py',
    'mobilenet_v2/kdna-mobilenet-v2_8xb32_in1k.py',
    'faster_rcnn/faster-rcnn_r18-kdna_fpn_1x_coco.py'
])
def test_plain_figures_are_those_of_the_plain_network(name):
    ours = model_cost(init_model(read(name)), SIZE)
    plain = model_cost(
        init_model(read(name, **{'backbone.sharing_stages': ()})), SIZE)
    assert (ours.plain_parameters, ours.plain_flops) == plain[:2] == plain[3:5]
    assert ours.parameters < plain.parameters
    assert ours.flops > plain.flops
    assert (ours.children > 0, plain.children) == (True, 0)


RESNET18 = 'resnet/kdna-resnet18_8xb32_in1k.py'


@pytest.mark.parametrize('name, conv_cfg', [
    (RESNET18, dict()),
    (RESNET18, dict(share=False)),
    (RESNET18, dict(norm_cfg=dict(type='GN', num_groups=2))),
    (RESNET18, dict(modulation=('filter', ))),
    ('mask_rcnn/mask-rcnn_r50-kdna_kdna-fpn_1x_coco.py', dict()),
])
def test_the_plain_figures_of_a_deployed_model_are_those_of_the_trained(
        name, conv_cfg):
    cfg = read(
        name, **{
            f'backbone.conv_cfg.{key}': value
            for key, value in dict(conv_cfg, type='KernelDNA').items()
        })
    trained = init_model(cfg)
    before = model_cost(trained, SIZE)
    plain = model_cost(init_model(plain_config(cfg)), SIZE)
    for deployed in (init_model(deploy_config(cfg)),
                     switch_to_deploy(trained)):
        after = model_cost(deployed, SIZE)
        assert after[3:5] == before[3:5] == plain[:2] == plain[3:5]
        assert (after.children, plain.children) == (0, 0)
        assert after.parameters == sum(p.numel()
                                       for p in deployed.parameters())


def test_the_paper_s_networks():
    """MACs at 224x224 as the authors' own code has them."""
    for name, macs in (('resnet/kdna-resnet18',
                        2.283), ('resnet/kdna-resnet50', 4.331),
                       ('mobilenet_v2/kdna-mobilenet-v2', 0.315),
                       ('mobilenet_v2/kdna-mobilenet-v2-0.5x', 0.105)):
        cfg = read(f'{name}_8xb32_in1k.py')
        cost = model_cost(init_model(cfg), image_shape(cfg))
        assert cost.flops / 1e9 == pytest.approx(macs, rel=0.005)


def test_the_model_stays_as_it_is():
    model = init_model(read('resnet/kdna-resnet18_8xb32_in1k.py')).train()
    state = {key: id(value) for key, value in model.named_parameters()}
    model_cost(model, SIZE)
    assert {key: id(v) for key, v in model.named_parameters()} == state
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in model.modules())


def test_what_looks_at_values_is_not_counted():

    class Model(nn.Module):

        def forward(self, x, data_samples, mode):
            return x * float(x.mean())

    with pytest.raises(NotImplementedError) as error:
        model_cost(Model(), SIZE)
    for part in ('this Model', 'meta device', 'get_model_complexity_info'):
        assert part in str(error.value)


@pytest.mark.parametrize('name, shape', [
    ('resnet/kdna-resnet18_8xb32_in1k.py', (224, 224)),
    ('pspnet/pspnet_r18-kdna-d8_4xb2-80k_cityscapes-512x1024.py', (512, 1024)),
    ('retinanet/retinanet_r18-kdna_fpn_1x_coco.py', (800, 1280)),
    ('yolox/yolox_s-kdna-conv_8xb8-300e_coco.py', (640, 640)),
    ('atss/atss_mobilenet-v2-kdna_fpn_4e_bccd.py', (192, 256)),
])
def test_image_shape(name, shape):
    assert image_shape(read(name)) == shape


def test_image_shape_of_the_dataset_that_is_tested():
    cfg = read('yolox/yolox_s-kdna-conv_8xb8-300e_coco.py')
    step, = (
        s for s in cfg.test_dataloader.dataset.pipeline if s.type == 'Resize')
    for kind in ('mmdet.Resize', Resize):
        step.update(type=kind, scale=(400, 300))
        assert image_shape(cfg) == (320, 416)
    cfg.test_dataloader.dataset = dict(
        type='RepeatDataset', dataset=cfg.test_dataloader.dataset)
    assert image_shape(cfg) == (320, 416)
    cfg.test_dataloader = None
    assert image_shape(cfg) == (800, 1280)


@pytest.mark.parametrize('steps, shape', [
    ([dict(type='Resize', scale=384)], (384, 384)),
    ([
        dict(type='ResizeEdge', scale=438),
        dict(type='CenterCrop', crop_size=384)
    ], (384, 384)),
    ([dict(type='mmpretrain.EfficientNetCenterCrop', crop_size=(64, 32))],
     (32, 64)),
    ([dict(type='ResizeEdge', scale=256)], (224, 224)),
])
def test_image_shape_of_a_classifier(steps, shape):
    cfg = read('resnet/kdna-resnet18_8xb32_in1k.py')
    cfg.test_dataloader.dataset.pipeline = steps
    assert image_shape(cfg) == shape


def test_image_shape_of_a_classifier_of_small_pictures():
    cfg = read('comparison/cifar10/kdna.py')
    assert image_shape(cfg) == (32, 32)
    cfg.train_dataloader = None
    assert image_shape(cfg) == (224, 224)


def test_a_segmentor_without_a_crop_has_no_image_shape():
    cfg = read('pspnet/pspnet_r18-kdna-d8_4xb2-80k_cityscapes-512x1024.py')
    cfg.model.data_preprocessor.size = None
    with pytest.raises(ValueError, match='any size'):
        image_shape(cfg)
