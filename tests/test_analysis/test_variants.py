"""Each variant of a model is what its name says."""
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmkdna import KernelDNAConv2d
from mmkdna.analysis.variants import FORMS, TRAINABLE, Variant
from mmkdna.launch.model import init_model
from mmkdna.rivals import ODConv2d
from tests.test_deploy import CONFIG, DETECTOR
from tests.utils import children_of, kernel_dna

DETECTOR_CONFIG = dict(default_scope='mmdet', model=DETECTOR)


def build(cfg, form):
    variant = Variant(form)
    return variant.finish(init_model(variant.config(cfg)))


@pytest.mark.parametrize(
    'cfg', [Config.fromstring(CONFIG, '.py'),
            Config(DETECTOR_CONFIG)],
    ids=['backbone', 'conv_cfg'])
def test_each_form_is_what_its_name_says(cfg):
    convs = set()
    for form in FORMS:
        model = build(cfg, form)
        assert not model.training
        assert bool(children_of(model)) == (form in ('trained', 'kept'))
        assert bool(kernel_dna(model)) == (not form.startswith('plain'))
        norms = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        assert norms == (not form.endswith('fused'))
        blocks = [len(getattr(model.backbone, f'layer{i}')) for i in (3, 4)]
        assert blocks == [3, 3]
        convs.add(sum(isinstance(m, nn.Conv2d) for m in model.modules()))
    assert len(convs) == 1


def test_a_plain_form_that_would_share_is_refused():

    @MODELS.register_module()
    class OwnConv(KernelDNAConv2d):
        pass

    try:
        text = CONFIG.replace('\'KernelDNAResNet\',',
                              '\'ResNet\', conv_cfg=dict(type=\'OwnConv\'),')
        cfg = Config.fromstring(text, '.py')
        assert children_of(build(cfg, 'trained'))
        for form in ('plain', 'plain-fused'):
            with pytest.raises(ValueError) as error:
                build(cfg, form)
            for part in ('plain form of this ImageClassifier',
                         'backbone.conv1', 'type=\'KernelDNA\''):
                assert part in str(error.value)
    finally:
        MODELS.module_dict.pop('OwnConv')


@pytest.mark.hosts('mmdet')
@pytest.mark.parametrize('kind', ['mmkdna.KernelDNA', KernelDNAConv2d])
def test_however_a_config_names_the_type(kind):
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(
                DETECTOR,
                backbone=dict(
                    type='mmdet.ResNet',
                    depth=18,
                    base_channels=8,
                    stem_channels=8,
                    conv_cfg=dict(type=kind)))))
    assert children_of(build(cfg, 'trained'))
    for form in ('plain', 'plain-fused'):
        model = build(cfg, form)
        assert not kernel_dna(model)
    assert not children_of(build(cfg, 'deployed'))


def test_another_conv_type():
    cfg = Config.fromstring(CONFIG, '.py')
    variant = Variant(conv_cfg=dict(type='ODConv', num_experts=4))
    model = variant.finish(init_model(variant.config(cfg)))
    convs = [m for m in model.modules() if isinstance(m, ODConv2d)]
    trained = build(cfg, 'trained')
    assert len(convs) == sum(conv.role != 'plain'
                             for conv in kernel_dna(trained).values())
    assert {len(conv.experts) for conv in convs} == {4}


def test_names():
    conv_cfg = dict(type='ODConv', num_experts=4, temperature=1)
    assert Variant('fused').name == 'fused'
    assert Variant('kept', compiled=True).name == 'kept, compiled'
    assert Variant(
        conv_cfg=conv_cfg).name == ('ODConv num_experts=4 temperature=1')
    assert conv_cfg['type'] == 'ODConv'


def test_what_is_trained():
    assert [form for form in FORMS if Variant(form).trainable] == [*TRAINABLE]
    assert Variant(conv_cfg=dict(type='ODConv')).trainable
