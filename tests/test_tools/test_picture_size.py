"""Tools say when the size of the pictures is open, or does not fit."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmkdna.deploy import plain_config
from mmkdna.launch.model import build_model
from tests.runs import CONFIGS

pytestmark = pytest.mark.hosts('mmpretrain')
NAME = 'fpn_r18-half-kdna-conv_1xb16-350_shapes-128x128'
SEGMENTOR = f'''
_base_ = '{CONFIGS}/released/{NAME}.py'
model = dict(data_preprocessor=dict(size=None))
'''
ON_PICTURES = '--images=data', '--batch=4'
TOOLS = {
    'analysis_tools/gates': ('trained.pth', *ON_PICTURES),
    'analysis_tools/similarity': ('trained.pth', *ON_PICTURES),
    'analysis_tools/plan_sharing': ('plain.pth', '--save=0.1', *ON_PICTURES),
    'model_converters/plain_to_mmkdna':
    ('plain.pth', 'out.pth', '--reconstruct=data', '--batch=2'),
}


def write(text):
    """Write a config, and weights of its model and of the plain network."""
    Path('config.py').write_text(text)
    cfg = Config.fromfile('config.py')
    for name, one in (('trained', cfg), ('plain', plain_config(cfg))):
        torch.save(build_model(one).state_dict(), f'{name}.pth')


@pytest.mark.hosts('mmseg')
@pytest.mark.parametrize('tool', TOOLS)
def test_a_config_without_a_size(classifier, refuse, tool):
    write(SEGMENTOR)
    said = refuse(tool, 'config.py', *TOOLS[tool])
    assert said.startswith('config.py is given, but this segmentor takes')
    assert said.endswith(': give --size')


@pytest.mark.parametrize('tool', TOOLS)
def test_a_size_that_the_network_cannot_take(classifier, refuse, tool):
    # The linear layer reads rows, which are as long as it expects by chance.
    write(
        Path('tiny.py').read_text().replace(
            'dict(type=\'GlobalAveragePooling\')', 'None'))
    said = refuse(tool, 'config.py', *TOOLS[tool], '--size', '64', '64')
    assert ('config.py is given, but its model does not run on pictures of '
            '(64, 64), see --size: ') in said
