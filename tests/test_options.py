"""What a conv_cfg may say, and what it gets told otherwise."""
import re

import pytest

from mmkdna import KernelDNAConv2d, SharingOptions


def test_defaults():
    options = SharingOptions()
    assert options.children_per_parent == 1
    assert options.kernel_sizes is None
    assert options.min_channels == 0
    assert options.name_pattern is None
    assert options.stage_level == 1
    assert not options.grouped
    assert not options.shortcuts
    assert options.rd_ratio == 0.25
    assert set(options.modulation) == {'filter', 'spatial', 'channel'}
    assert options.norm_cfg == dict(type='BN')


def test_lists_of_a_config_equal_tuples():
    given = SharingOptions(
        kernel_sizes=[1, [3, 3]], modulation=['filter'], norm_cfg=None)
    assert given == SharingOptions(
        kernel_sizes=((1, 1), 3), modulation=('filter', ), norm_cfg=None)


def test_the_users_norm_cfg_is_copied():
    norm_cfg = dict(type='BN')
    options = SharingOptions(norm_cfg=norm_cfg)
    norm_cfg['type'] = 'GN'
    assert options.norm_cfg == dict(type='BN')


def test_unknown_option_is_named_beside_the_known_ones():
    with pytest.raises(TypeError) as error:
        KernelDNAConv2d(4, 4, 3, rd_ration=0.5, stage=1)
    message = str(error.value)
    assert 'rd_ration, stage is given' in message
    for name in SharingOptions.names():
        assert name in message
    assert 'correct the name or remove it' in message


@pytest.mark.parametrize('option, value, expected', [
    ('children_per_parent', 0, 'an int of 1 or more'),
    ('children_per_parent', 1.5, 'an int of 1 or more'),
    ('children_per_parent', 'all', 'an int of 1 or more'),
    ('min_channels', -1, 'an int of 0 or more'),
    ('min_channels', '64', 'an int of 0 or more'),
    ('kernel_sizes', (), 'a list of ints of 1 or more'),
    ('kernel_sizes', (0, ), 'a list of ints of 1 or more'),
    ('kernel_sizes', (3, -3), 'a list of ints of 1 or more'),
    ('kernel_sizes', (True, ), 'a list of ints of 1 or more'),
    ('kernel_sizes', ((1, 0), ), 'or of pairs of them'),
    ('kernel_sizes', ((3, 3, 3), ), 'or of pairs of them'),
    ('kernel_sizes', (3., ), 'a list of ints of 1 or more'),
    ('stage_level', -1, 'an int of 0 or more'),
    ('stage_level', None, 'an int of 0 or more'),
    ('rd_ratio', 0, 'a number above 0'),
    ('rd_ratio', -0.25, 'a number above 0'),
    ('rd_ratio', '1/4', 'a number above 0'),
    ('modulation', ('filters', ), "('filter', 'spatial', 'channel')"),
    ('norm_cfg', dict(type='LN'), "('BN', 'SyncBN', 'GN')"),
    ('ungated', (3, ), 'a list of names of convolutions'),
    ('links', {}, 'a dict of the names of children and parents'),
    ('links', ['a', 'b'], 'a dict of the names of children and parents'),
    ('links', dict(a=1), 'a dict of the names of children and parents'),
    ('links', {
        'layer(3': 'a'
    }, "regular expressions, unlike 'layer(3',"),
    ('links', dict(a='b', b='c'), 'no child that is a parent, as b,'),
    ('norm_cfg', dict(), "('BN', 'SyncBN', 'GN')"),
    ('name_pattern', 'layer(3', 'a regular expression'),
    ('name_pattern', 3, 'a regular expression'),
])
def test_impossible_value_is_told_with_what_is_expected(
        option, value, expected):
    with pytest.raises(ValueError, match='is expected') as error:
        KernelDNAConv2d(4, 4, 3, **{option: value})
    message = str(error.value)
    assert f'{option}={value!r} is given' in message
    assert expected in message


@pytest.mark.parametrize('option, value', [('kernel_sizes', 3),
                                           ('modulation', 'filter'),
                                           ('modulation', None)])
def test_missing_brackets_are_told(option, value):
    given = re.escape(f'{option}={value!r} is given')
    with pytest.raises(TypeError, match=f'{given}.*put it in brackets'):
        KernelDNAConv2d(4, 4, 3, **{option: value})


@pytest.mark.parametrize('option, value', [
    ('kernel_sizes', (1, )),
    ('min_channels', 8),
    ('name_pattern', 'layer3'),
    ('grouped', True),
    ('shortcuts', True),
    ('children_per_parent', None),
    ('stage_level', 0),
    ('share', False),
])
def test_links_decide_alone(option, value):
    with pytest.raises(ValueError, match=f'no {option}=.* beside it'):
        SharingOptions(links=dict(a='b'), **{option: value})
