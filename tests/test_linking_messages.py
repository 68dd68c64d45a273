"""What linking says where options do not work out."""
import warnings

import pytest
from mmengine.registry import MODELS
from torch import nn

from mmkdna import SharingOptions, link_kernels, sharing_table
from tests.utils import make_module, pattern

SAME = (8, 8, 3)


def linked(convs, **options):
    module = make_module(convs, **options)
    link_kernels(module)
    return module


def numbered(number, stage='layer1'):
    return {f'{stage}.{i}': SAME for i in range(number)}


def test_a_pattern_that_matches_nothing_shows_what_there_is():
    names = {f'layer{i}.0.conv1': SAME for i in range(7)}
    module = make_module(names, name_pattern='layer_3')
    with pytest.raises(ValueError) as error:
        link_kernels(module)
    message = str(error.value)
    assert "name_pattern='layer_3' is given" in message
    assert 'none of the 7 convolutions' in message
    assert 'layer4.0.conv1, ...' in message
    assert 'correct the pattern, or set conv_cfg only where' in message
    assert pattern(module) == '- - - - - - -'


def test_nothing_is_linked_where_rd_ratio_leaves_no_channel():
    module = make_module(
        {
            **{
                f'layer1.{i}': (16, 16, 3)
                for i in range(2)
            },
            **{
                f'layer2.{i}': SAME
                for i in range(2)
            }
        },
        rd_ratio=0.1)
    keys = list(module.state_dict())
    with pytest.raises(ValueError, match='rd_ratio=0.1 is given'):
        link_kernels(module)
    assert pattern(module) == '- - - -'
    assert list(module.state_dict()) == keys
    static = linked(numbered(2), rd_ratio=0.1, modulation=('filter', ))
    assert pattern(static) == 'S F'


def test_nothing_is_linked_where_a_norm_does_not_fit():
    norm_cfg = dict(type='GN', num_groups=4)
    convs = {f'layer1.{i}': (32, 32, 3) for i in range(2)}
    # 6 channels between the linear layers, which 4 groups do not divide.
    convs.update({f'layer2.{i}': (24, 24, 3) for i in range(2)})
    module = make_module(convs, norm_cfg=norm_cfg)
    keys = list(module.state_dict())
    with pytest.raises(ValueError) as error:
        link_kernels(module)
    message = str(error.value)
    assert message.startswith('layer2.0: KernelDNA: norm_cfg=')
    assert 'reduces to 6 channels' in message
    assert pattern(module) == '- - - -'
    assert list(module.state_dict()) == keys


@pytest.mark.parametrize('norm_cfg', [
    dict(type='GN'),
    dict(type='BN', no_such_option=1),
])
def test_a_norm_that_cannot_be_made_is_named(norm_cfg):
    with pytest.raises(ValueError, match='layer1.0: KernelDNA: norm_cfg='):
        linked(numbered(2), norm_cfg=norm_cfg)


def test_norms_written_in_another_order_make_kin():
    module = make_module(numbered(2))
    first, second = module.layer1.children()
    for conv, keys in ((first, ('type', 'eps')), (second, ('eps', 'type'))):
        values = dict(type='BN', eps=1e-3)
        conv.options = SharingOptions(norm_cfg={k: values[k] for k in keys})
    link_kernels(module)
    assert pattern(module) == 'S F'
    module = make_module(numbered(2))
    first, second = module.layer1.children()
    second.options = SharingOptions(norm_cfg=dict(type='BN', eps=1e-3))
    link_kernels(module)
    assert pattern(module) == '- -'


def test_a_parent_outside_of_the_module_is_an_error():
    module = linked({'layer1.0': SAME, 'layer1.1': SAME})
    part = nn.Sequential(module.layer1._modules['0'])
    for function in (link_kernels, sharing_table):
        with pytest.raises(ValueError) as error:
            function(part)
        message = str(error.value)
        assert "0 of a Sequential is a child of 'layer1.1'" in message
        assert 'pass the whole backbone, neck or head' in message


def warnings_of(module):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        link_kernels(module)
    return [str(w.message) for w in caught]


@pytest.mark.parametrize('options, blamed, innocent', [
    (dict(kernel_sizes=(5, )), 'kernel_sizes=((5, 5),)', 'min_channels'),
    (dict(min_channels=9), 'min_channels=9', 'stage_level'),
    (dict(name_pattern=r'\.0$'), "name_pattern='\\\\.0$'", 'stage_level'),
    (dict(stage_level=2), 'stage_level=2', 'min_channels'),
    (dict(stage_level=2, min_channels=8), 'stage_level=2', 'min_channels'),
    (dict(min_channels=9, rd_ratio=0.5), 'min_channels=9', 'rd_ratio'),
    (dict(min_channels=9,
          stage_level=2), 'min_channels=9, stage_level=2', 'name_pattern'),
])
def test_a_warning_names_the_option_that_left_nothing(options, blamed,
                                                      innocent):
    module = make_module({
        'a.0.0': SAME,
        'a.1.0': SAME,
        'b.0.0': SAME
    } if 'stage_level' in options else numbered(2), **options)
    message, = warnings_of(module)
    assert f'because of {blamed}:' in message
    assert innocent not in message
    assert 'none shares its kernel' in message
    assert 'run as plain' in message


def test_no_warning_where_no_option_is_to_blame():
    assert warnings_of(make_module(numbered(1))) == []
    assert warnings_of(make_module({'s.0': SAME, 's.1': (8, 8, 5)})) == []
    lonely = make_module(numbered(1), min_channels=99, stage_level=2)
    assert warnings_of(lonely) == []
    assert warnings_of(make_module(numbered(2), min_channels=4)) == []


POINTWISE = {f'layer1.{i}': (8, 8, 1) for i in range(2)}
DEPTHWISE = {f'layer1.d{i}': (8, 8, 3, dict(groups=8)) for i in range(2)}
SHORTCUT = {'layer1.0.conv1': SAME, 'layer1.0.downsample.0': SAME}


@pytest.mark.parametrize('convs, said', [
    (POINTWISE, 'kernel_sizes=(1,)'),
    (DEPTHWISE, 'grouped=True'),
    (SHORTCUT, 'shortcuts=True'),
    ({
        **POINTWISE,
        **DEPTHWISE
    }, 'kernel_sizes=(1, 3) or grouped=True'),
    ({
        'layer1.0.conv1': (8, 8, 1),
        'layer1.1.downsample.0': (8, 8, 1)
    }, 'kernel_sizes=(1,) with shortcuts=True'),
])
def test_a_warning_names_the_option_by_which_some_would_share(convs, said):
    message, = warnings_of(make_module(convs))
    assert f'in conv_cfg {said} would let some share' in message
    assert f'of {len(convs)} convolutions none shares' in message
    assert 'run as plain' in message


def test_a_stock_mobilenet_says_why_it_does_not_share():
    backbone = dict(
        type='mmpretrain.MobileNetV2',
        widen_factor=0.25,
        conv_cfg=dict(type='KernelDNA'))
    with pytest.warns(UserWarning, match=r'kernel_sizes=\(1, 3\)'):
        MODELS.build(backbone)
    backbone['conv_cfg'] = dict(type='KernelDNA', kernel_sizes=(1, 3))
    with warnings.catch_warnings():
        warnings.filterwarnings('error', message='KernelDNA')
        model = MODELS.build(backbone)
    assert sharing_table(model).children > 0
