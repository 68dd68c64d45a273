"""gates.py, as a user runs it."""
import json

import cv2
import numpy as np
import pytest
import torch

from mmkdna.checkpoints.files import load_file, save_file
from mmkdna.launch.model import checkpoint_file, init_model
from tests.runs import CONFIGS, run_tool

TOOL = 'analysis_tools/gates'
NAME = 'resnet18-16ch-kdna-conv_1xb64-6e_cifar10'
CONFIG = CONFIGS / 'released' / f'{NAME}.py'
CHILD = 'backbone.layer2.0.conv2'


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'pictures').mkdir()
    for number in range(5):
        small = rng.integers(0, 255, (4, 4, 3), np.uint8)
        cv2.imwrite(
            str(tmp_path / 'pictures' / f'{number}.png'),
            cv2.resize(small, (40, 40)))
    # Short of training, so that no gate is as good as constant.
    checkpoint = load_file(checkpoint_file(f'mmkdna://{NAME}'))
    for key, value in checkpoint['state_dict'].items():
        if key.endswith('gate.fc2.weight'):
            value.mul_(30)
    save_file(checkpoint, tmp_path / 'trained.pth')
    return tmp_path


def test_a_table_a_picture_and_a_constant_gate_folded(folder):
    checkpoint = load_file(folder / 'trained.pth')
    weight = checkpoint['state_dict'][f'{CHILD}.adapter.gate.fc2.weight']
    weight.zero_()
    save_file(checkpoint, folder / 'trained.pth')
    said = run_tool(
        TOOL,
        CONFIG,
        'trained.pth',
        '--images=pictures',
        '--batch=2',
        '--out=deep/gates.svg',
        '--json=deep/gates.json',
        '--fold-constant=folded.pth',
        cwd=folder)
    assert f'1 of 8 gates are constant, with less than 0.01 from picture to ' \
        f'picture: {CHILD}' in said.replace('\n', ' ')
    assert 'folded.pth and folded.py have 1 gates less' in said
    found = json.loads((folder / 'deep/gates.json').read_text())
    assert found['num_pictures'] == 5 and len(found['gates']) == 8
    assert (folder / 'deep/gates.svg').read_text().startswith('<?xml')
    # A model of the config has them, and computes what the trained one does.
    trained = init_model(str(CONFIG), folder / 'trained.pth')
    folded = init_model(str(folder / 'folded.py'), folder / 'folded.pth')
    assert not hasattr(folded.get_submodule(CHILD).adapter, 'gate')
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(folded(x), trained(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options, error', [
    (['--fold-constant=folded.pth'], 'no gate is constant'),
    (['--fold-constant=folded.onnx'], 'a name that ends in .pth is expected'),
    (['--out=gates.txt'], 'a name that ends with one of .svg'),
    (['--batch=0'], 'positive numbers are expected'),
])
def test_what_cannot_be_is_refused(folder, options, error):
    said = run_tool(
        TOOL,
        CONFIG,
        'trained.pth',
        '--images=pictures',
        *options,
        cwd=folder,
        fails=True)
    assert error in said and 'Traceback' not in said
    assert {path.name for path in folder.iterdir()} == \
        {'pictures', 'trained.pth'}


def test_a_plain_network_has_no_gates(folder):
    name = 'resnet18-16ch-plain_1xb64-6e_cifar10'
    said = run_tool(
        TOOL,
        CONFIGS / 'released' / f'{name}.py',
        f'mmkdna://{name}',
        '--images=pictures',
        cwd=folder,
        fails=True)
    assert 'has no gate' in said and 'Traceback' not in said
