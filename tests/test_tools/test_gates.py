"""gates.py, as a user runs it."""
import json

import cv2
import numpy as np
import pytest
import torch

from mmkdna.checkpoints.files import load_file, save_file
from mmkdna.launch.model import checkpoint_file, init_model
from mmkdna.launch.pictures import Pictures
from tests.runs import CONFIGS, run_tool

TOOL = 'analysis_tools/gates'
NAME = 'resnet18-16ch-kdna-conv_1xb64-6e_cifar10'
CONFIG = CONFIGS / 'released' / f'{NAME}.py'
CHILD = 'backbone.layer2.0.conv2'


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'pictures').mkdir()
    for number in range(9):
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
    weight.mul_(0.02)
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
    assert ('1 of 8 gates are constant, with less than 0.01 from picture to '
            f'picture and 0.05 in every channel: {CHILD}. Folded into') in said
    assert 'folded.pth and folded.py have 1 gates less' in said
    found = json.loads((folder / 'deep/gates.json').read_text())
    assert found['num_pictures'] == 9 and len(found['gates']) == 8
    assert found['folding']['gates'] == [CHILD]
    assert (folder / 'deep/gates.svg').read_text().startswith('<?xml')
    # A model of the config has them, and computes what the trained one does.
    trained = init_model(str(CONFIG), folder / 'trained.pth')
    folded = init_model(str(folder / 'folded.py'), folder / 'folded.pth')
    assert not hasattr(folded.get_submodule(CHILD).adapter, 'gate')
    x, = Pictures(folder / 'pictures', trained, (32, 32), 9)
    with torch.no_grad():
        ours, theirs = folded(x), trained(x)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05)
    # What was said of that, as of each class.
    error = (ours - theirs).pow(2).mean() / theirs.var(0, correction=0).mean()
    assert found['folding']['error'] == pytest.approx(float(error), rel=1e-3)
    assert found['folding']['error'] > 0
    assert f'is {found["folding"]["error"]:.3g} of their variance' in said
    assert found['folding']['agreement'] == 1


def test_it_offers_to_fold_and_says_how_much_faster_that_is(folder):
    said = run_tool(
        TOOL,
        CONFIG,
        f'mmkdna://{NAME}',
        '--images=pictures',
        '--json=gates.json',
        cwd=folder)
    found = json.loads((folder / 'gates.json').read_text())['folding']
    speed = found['speed']
    assert 0 < speed['min'] <= speed['median'] <= speed['max']
    assert (f'make it {speed["median"]:.3f} ({speed["min"]:.3f} to '
            f'{speed["max"]:.3f}) times as fast') in said
    assert '--fold-constant DST.pth writes that model' in said


def test_too_few_pictures_say_nothing_of_what_is_constant(folder):
    for number in range(7):
        (folder / 'pictures' / f'{number}.png').rename(folder / 'pictures' /
                                                       f'{number}.txt')
    said = run_tool(
        TOOL,
        CONFIG,
        'trained.pth',
        '--images=pictures',
        cwd=folder,
        fails=True)
    assert 'it has 2 pictures, 8 or more are expected' in said
    assert 'Traceback' not in said


@pytest.mark.parametrize('name', [
    'retinanet_r18-half-plain_fpn_12e_shapes',
    'resnet18-16ch-plain_1xb64-6e_cifar10'
])
def test_the_checkpoint_of_another_network_is_refused(folder, name):
    """Also that of the plain network, from which the model could start."""
    said = run_tool(
        TOOL,
        CONFIG,
        f'mmkdna://{name}',
        '--images=pictures',
        cwd=folder,
        fails=True)
    assert f'mmkdna://{name} is given, the checkpoint of a model of' in said
    assert 'Traceback' not in said and 'constant' not in said


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
