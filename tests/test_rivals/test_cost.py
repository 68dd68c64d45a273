"""Parameters and FLOPs of the rivals: by hand, and those of docs/rivals.md."""

import pytest
from mmengine.registry import MODELS

from mmkdna.analysis.cost import model_cost
from mmkdna.analysis.tables import markdown_table
from mmkdna.rivals import LAYER_SETS
from tests.runs import ROOT
from tests.test_rivals.test_layer_sets import NETWORKS

FEATURES = dict(resnet18=512, resnet50=2048, mobilenet_v2=1280)
# The set of layers on which all types can be compared.
COMMON = dict(
    resnet18=dict(name_pattern='^layer'),
    resnet50=dict(name_pattern='^layer'),
    mobilenet_v2=dict(name_pattern='^layer', kernel_sizes=(1, )),
)
# What leads into a stage has the cells of the stage before.
EARLIER = dict(
    resnet18=r'\.0\.conv1', resnet50=None, mobilenet_v2=r'\.0\.conv\.0')
TYPES = {
    'plain': None,
    'KernelDNA': dict(type='KernelDNA'),
    'SEConv': dict(type='SEConv'),
    'CondConv, 8 experts': dict(type='CondConv'),
    'DyConv, 4 experts': dict(type='DyConv'),
    'ODConv, 1 kernel': dict(type='ODConv'),
    'ODConv, 4 kernels': dict(type='ODConv', num_experts=4),
    'KernelWarehouse, ratio 1': dict(type='KernelWarehouse'),
    'KernelWarehouse, ratio 4': dict(type='KernelWarehouse', ratio=4),
}


def cost(network, conv_cfg):
    """Of a classifier of 1000 classes, at 224x224."""
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(NETWORKS[network], conv_cfg=conv_cfg),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=1000,
                in_channels=FEATURES[network])))
    return model_cost(model, (224, 224))


def cell(network, conv_cfg):
    """What stands in a table: parameters in millions, and FLOPs in
    billions."""
    found = cost(network, conv_cfg)
    return f'{found.parameters / 1e6:.2f} / {found.flops / 1e9:.3f}'


def common_row(name):
    cells = []
    for network, layers in COMMON.items():
        conv_cfg = TYPES[name] and dict(layers, **TYPES[name])
        if name.startswith('KernelWarehouse'):
            conv_cfg['earlier_pattern'] = EARLIER[network]
        cells.append(cell(network, conv_cfg))
    return name, *cells


def authors_row(name):
    conv_cfg = TYPES[name]
    sets = LAYER_SETS[conv_cfg['type']]
    return name, *(
        cell(network, dict(sets[network], **conv_cfg)) for network in NETWORKS)


@pytest.mark.parametrize('name', TYPES)
def test_the_page_has_the_common_set(name):
    assert_on_page(common_row(name))


@pytest.mark.parametrize('name', [
    name for name, conv_cfg in TYPES.items()
    if conv_cfg and conv_cfg['type'] in LAYER_SETS
])
def test_the_page_has_the_sets_of_the_authors(name):
    assert_on_page(authors_row(name))


def assert_on_page(row):
    page = (ROOT / 'docs' / 'rivals.md').read_text().splitlines()
    assert markdown_table(row, []).splitlines()[0] in page


@pytest.mark.parametrize('name', TYPES)
def test_what_a_convolution_adds_by_hand(name):
    """Routing and assembly are counted, factors on maps and kernels not."""
    conv_cfg = TYPES[name]
    if conv_cfg is None or name == 'KernelDNA':
        pytest.skip('nothing is mixed')
    backbone = dict(
        type='mmpretrain.ResNet',
        depth=18,
        base_channels=32,
        conv_cfg=dict(conv_cfg, name_pattern=r'^layer2\.1\.conv2'))
    plain = dict(backbone, conv_cfg=None)
    ours, theirs = (
        model_cost(
            MODELS.build(
                dict(
                    type='mmpretrain.ImageClassifier',
                    backbone=found,
                    neck=dict(type='mmpretrain.GlobalAveragePooling'),
                    head=dict(
                        type='mmpretrain.LinearClsHead',
                        num_classes=2,
                        in_channels=256))), (64, 64))
        for found in (backbone, plain))
    # A 3x3 convolution of 64 channels.
    width, kernel = 64, 64 * 64 * 9
    number = conv_cfg.get('num_experts') or dict(
        CondConv=8, DyConv=4).get(conv_cfg['type'], 1)
    if conv_cfg['type'] == 'SEConv':
        expected = 2 * width * (width // 16)
    elif conv_cfg['type'] == 'CondConv':
        expected = width * number + number * kernel
    elif conv_cfg['type'] == 'DyConv':
        hidden = width // 4
        expected = width * hidden + hidden * number + number * kernel
    elif conv_cfg['type'] == 'ODConv':
        # Its norm counts two operations a value.
        expected = width * 16 + 2 * 16 + 16 * (2 * width + 9)
        if number > 1:
            expected += 16 * number + number * kernel
    else:
        mixtures, cells = 9, 9 * conv_cfg.get('ratio', 1)
        expected = width * 16 + 2 * 16 + 16 * mixtures * (cells + 1)
        expected += mixtures * cells * width * width
    assert ours.flops - theirs.flops == expected
