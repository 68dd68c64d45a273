"""What a task says is pretrained starts from these weights."""
import pytest
import torch

from mmkdna.checkpoints.files import load_file
from mmkdna.comparison import TASKS, find_experiments
from mmkdna.launch.config import read_config
from mmkdna.launch.model import build_model
from tests.runs import real_data


@pytest.mark.hosts('mmdet', 'mmseg')
@pytest.mark.parametrize('task', ['bccd-pretrained', 'people', 'camvid'])
def test_every_weight_is_loaded(task):
    cfg = read_config(str(find_experiments(task, TASKS)['plain']))
    file = real_data('weights') / 'mobilenet_v2_imagenet_mmdet.pth'
    backbone = build_model(cfg).backbone
    backbone.init_weights()
    ours, theirs = backbone.state_dict(), load_file(file)['state_dict']
    for key, value in ours.items():
        if not key.endswith('num_batches_tracked'):
            assert torch.equal(value, theirs[key]), key
