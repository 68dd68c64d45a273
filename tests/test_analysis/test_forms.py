"""Each form of a model is what its name says."""
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmkdna import KernelDNAConv2d
from mmkdna.analysis.forms import FORMS, bring_into_form, form_config
from mmkdna.launch.model import init_model
from tests.test_deploy import CONFIG, DETECTOR
from tests.utils import children_of, kernel_dna

DETECTOR_CONFIG = dict(default_scope='mmdet', model=DETECTOR)


def build(cfg, form):
    return bring_into_form(init_model(form_config(cfg, form)), form)


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
