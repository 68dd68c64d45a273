"""A training does not begin from the weights of another network, unnoticed."""
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

from mmkdna.comparison import TASKS, find_experiments
from mmkdna.deploy import plain_config
from mmkdna.launch.config import read_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.fit_check import check_fit
from mmkdna.launch.model import build_model
from tests.runs import real_data
from tests.utils import randomize


def check(cfg):
    check_fit(cfg, build_model(cfg))


def refused(cfg):
    with pytest.raises(CommandError) as error:
        check(cfg)
    return str(error.value)


@pytest.fixture
def weights(classifier):
    """Config of a tiny classifier that shares, and weights of a plain one."""
    pytest.importorskip('mmpretrain')
    cfg = Config.fromfile('tiny.py')
    cfg.launcher = 'none'
    model = randomize(build_model(plain_config(cfg)))
    torch.save(dict(state_dict=model.state_dict()), 'plain.pth')
    torch.save(model.backbone.state_dict(), 'backbone.pth')
    return cfg


def start_from(cfg, path, **options):
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=path, **options)
    return cfg


def test_weights_of_the_network(weights):
    weights.load_from = 'plain.pth'
    check(weights)
    # Other classes leave the head random; the rest fits.
    weights.model.head.num_classes = 7
    check(weights)
    weights.load_from = None
    check(start_from(weights, 'plain.pth', prefix='backbone.'))
    check(start_from(weights, 'backbone.pth'))
    # A list of initialisers, of which one is a file.
    weights.model.backbone.init_cfg = [
        dict(type='Kaiming', layer='Conv2d'), weights.model.backbone.init_cfg
    ]
    check(weights)


def test_a_part_of_them(weights):
    """Few of many tensors are fine, where it is all there are."""
    state = torch.load('backbone.pth')
    first = {key: state[key] for key in list(state)[:4]}
    torch.save(first, 'first.pth')
    check(start_from(weights, 'first.pth'))
    torch.save({key: value.half() for key, value in state.items()}, 'half.pth')
    check(start_from(weights, 'half.pth'))


def test_weights_of_another(weights, monkeypatch):
    """By init_cfg without the prefix, and by load_from without it."""
    said = refused(start_from(weights, 'plain.pth'))
    for part in ('plain.pth', 'model.backbone.init_cfg', 'only 0 ',
                 'backbone.conv1.weight', 'the names of its library'):
        assert part in said
    del weights.model.backbone.init_cfg
    weights.load_from = 'backbone.pth'
    said = refused(weights)
    for part in ('backbone.pth', 'load_from', 'backbone.conv1.weight'):
        assert part in said
    # Of a distributed run, one process says it.
    weights.launcher = 'pytorch'
    monkeypatch.setenv('RANK', '1')
    check(weights)
    monkeypatch.setenv('RANK', '0')
    refused(weights)
    # Of a training that goes on, everything is there.
    weights.resume = True
    check(weights)


def test_a_prefix_that_is_none(weights):
    said = refused(start_from(weights, 'plain.pth', prefix='encoder.'))
    for part in ('plain.pth', 'model.backbone.init_cfg', 'encoder.'):
        assert part in said


NO_RUN = Config(dict(launcher='none'))


class Renaming(BaseModule):
    """A backbone with an init_weights of its own, as Swin Transformer has."""

    def __init__(self, prefix, **kwargs):
        super().__init__(**kwargs)
        self.prefix = prefix
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4)))

    def init_weights(self):
        state = torch.load(self.init_cfg['checkpoint'])
        self.load_state_dict(
            {
                self.prefix + key: value
                for key, value in state.items()
            },
            strict=False)


def test_a_class_that_renames_them(tmp_path):
    """What it takes counts, whatever the names are in the file."""
    path = str(tmp_path / 'renamed.pth')
    init_cfg = dict(type='Pretrained', checkpoint=path)
    torch.save(randomize(Renaming('')).layers.state_dict(), path)
    check_fit(NO_RUN, Renaming('layers.', init_cfg=init_cfg))
    with pytest.raises(CommandError, match='model.init_cfg.* only 0 '):
        check_fit(NO_RUN, Renaming('blocks.', init_cfg=init_cfg))


def test_nothing_is_left(weights, refuse):
    """Where there is nothing to go on from either, as --resume may find."""
    said = refuse('train', 'tiny.py', '--resume', '--cfg-options',
                  'load_from=backbone.pth')
    assert 'backbone.pth is given as load_from' in said


def test_names_of_another_library():
    """MobileNetV2 of mmseg takes 5 of the tensors of mmdet's."""
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet')
    real_data('weights')
    cfg = read_config(str(find_experiments('camvid', TASKS)['plain']))
    cfg.launcher = 'none'
    check(cfg)
    cfg.model.backbone.type = 'MobileNetV2'
    said = refused(cfg)
    for part in ('mobilenet_v2_imagenet_mmdet.pth', 'of its 260 tensors',
                 'only 5 ', 'MobileNetV2'):
        assert part in said
