"""similarity.py, as a user runs it."""
import json
import re

import cv2
import numpy as np
import pytest

from tests.runs import CONFIGS, run_tool

TOOL = 'analysis_tools/similarity'
NAME = 'resnet18-16ch-plain_1xb64-6e_cifar10'
CONFIG = CONFIGS / 'released' / f'{NAME}.py'


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / 'pictures').mkdir()
    for number in range(9):
        small = rng.integers(0, 255, (4, 4, 3), np.uint8)
        cv2.imwrite(
            str(tmp_path / 'pictures' / f'{number}.png'),
            cv2.resize(small, (40, 40)))
    return tmp_path


def test_a_page_and_every_figure(folder):
    said = run_tool(
        TOOL,
        CONFIG,
        f'mmkdna://{NAME}',
        '--images=pictures',
        '--batch=4',
        '--out=deep/page.html',
        '--json=deep/all.json',
        cwd=folder)
    found = json.loads((folder / 'deep/all.json').read_text())
    assert found['num_pictures'] == 8
    # All that runs, in order, and alike to itself.
    assert found['names'][0] == 'backbone.conv1' and len(found['names']) == 20
    assert found['cka'][3][3] == pytest.approx(1)
    assert {'conv', 'other', 'stage', 'cosine', 'distance',
            'noise'} == set(found['pairs'][0])
    page = (folder / 'deep/page.html').read_text()
    # Pictures are inside, and nothing is fetched.
    assert page.count('src="data:image/png;base64,') == 3
    assert not re.search('https?://', page)
    assert 'on 8 pictures of 32x32' in page
    assert 'Most alike is' in page and 'Most alike is' in said


@pytest.mark.parametrize('options, error', [
    (['--batch=3'], '--batch 3 and --size None are given, 4 or more'),
    (['--batch=10'], 'has 9 pictures, --batch 10 or more are expected'),
    (['--out=pictures'], 'pictures is given to write to, but it is a folder'),
])
def test_what_cannot_be_is_refused(folder, options, error):
    said = run_tool(
        TOOL,
        CONFIG,
        f'mmkdna://{NAME}',
        '--images=pictures',
        *options,
        cwd=folder,
        fails=True)
    assert error in said and 'Traceback' not in said
    assert [path.name for path in folder.iterdir()] == ['pictures']


def test_the_checkpoint_of_another_network_is_refused(folder):
    said = run_tool(
        TOOL,
        CONFIG,
        'mmkdna://retinanet_r18-half-plain_fpn_12e_shapes',
        '--images=pictures',
        cwd=folder,
        fails=True)
    assert 'is given, the checkpoint of a model of' in said
    assert 'Traceback' not in said
