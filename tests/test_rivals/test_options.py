"""What the conv_cfg of a rival may say, and what it gets told otherwise."""
import pytest
import torch
from torch import nn

from mmkdna import link_kernels
from mmkdna.rivals import CONV_TYPES
from tests.test_rivals.cases import make

KINDS = ('CondConv', 'DyConv', 'ODConv', 'SEConv', 'KernelWarehouse')


@pytest.mark.parametrize('kind, options', [
    ('CondConv', dict(num_experts=8, routing='conv')),
    ('DyConv', dict(num_experts=4, reduction=4, temperature=30)),
    ('ODConv', dict(num_experts=1, reduction=16, temperature=30)),
    ('SEConv', dict(reduction=16)),
    ('KernelWarehouse',
     dict(ratio=1, cell_divisor=1, stage_level=1, earlier_pattern=None)),
])
def test_defaults(kind, options):
    given = CONV_TYPES[kind](4, 4, 3).options
    choice = ('kernel_sizes', 'min_channels', 'name_pattern', 'grouped',
              'shortcuts')
    assert set(given.names()) == {*options, *choice}
    for name, value in options.items():
        assert getattr(given, name) == value


@pytest.mark.parametrize('kind', KINDS)
def test_unknown_option_is_named_beside_the_known_ones(kind):
    with pytest.raises(TypeError) as error:
        CONV_TYPES[kind](4, 4, 3, rd_ratio=0.5)
    message = str(error.value)
    assert message.startswith(f'{kind}: rd_ratio is given')
    for name in CONV_TYPES[kind].options_type.names():
        assert name in message
    assert 'correct the name or remove it' in message


@pytest.mark.parametrize('kind, option, value, expected', [
    ('CondConv', 'num_experts', 0, 'an int of 1 or more'),
    ('CondConv', 'routing', 'layer', "one of ('conv', 'block')"),
    ('DyConv', 'num_experts', 0, 'an int of 1 or more'),
    ('DyConv', 'reduction', 0.25, 'an int of 1 or more'),
    ('DyConv', 'temperature', 0, 'a number above 0'),
    ('ODConv', 'num_experts', '4x', 'an int of 1 or more'),
    ('ODConv', 'reduction', 0.0625, 'an int of 1 or more'),
    ('ODConv', 'temperature', None, 'a number above 0'),
    ('SEConv', 'reduction', 0, 'an int of 1 or more'),
    ('SEConv', 'min_channels', -1, 'an int of 0 or more'),
    ('SEConv', 'kernel_sizes', (0, ), 'a list of ints of 1 or more'),
    ('KernelWarehouse', 'ratio', 1.5, 'a number below 1 or an int'),
    ('KernelWarehouse', 'cell_divisor', 0, 'an int of 1 or more'),
    ('KernelWarehouse', 'stage_level', -1, 'an int of 0 or more'),
])
def test_impossible_value_is_told_with_what_is_expected(
        kind, option, value, expected):
    with pytest.raises(ValueError, match='is expected') as error:
        CONV_TYPES[kind](4, 4, 3, **{option: value})
    message = str(error.value)
    assert message.startswith(f'{kind}: {option}={value!r} is given')
    assert expected in message


@pytest.mark.parametrize('kind', KINDS)
def test_a_pattern_that_matches_nothing(kind):
    unit = nn.Sequential(CONV_TYPES[kind](4, 4, 3, name_pattern='layer5'))
    with pytest.raises(ValueError, match=f"{kind}: name_pattern='layer5'"):
        link_kernels(unit)
    assert not unit[0].linked


@pytest.mark.parametrize('kind', ['CondConv', 'DyConv', 'ODConv'])
def test_efficient_conv_bn_eval_is_refused(kind):
    conv, = make(kind, dict(kernel_size=3))[0]
    x = torch.randn(2, 8, 7, 7).double()
    with pytest.raises(RuntimeError, match='efficient_conv_bn_eval'):
        conv._conv_forward(x, conv.weight, None)
