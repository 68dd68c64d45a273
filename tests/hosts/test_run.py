"""What make test-hosts counts, on tests that stand for a host's."""
import subprocess
import sys

import pytest

from tests.hosts import run
from tests.runs import ROOT

SCRIPT = ROOT / 'tests' / 'hosts' / 'run.py'
# As in a host's repository.
FILE = 'tests/test_models/test_backbones/test_resnet.py'
NAME = 'test_backbones::test_resnet'
OF_PYTEST = '''
from unittest import TestCase

import pytest


def test_passes():
    pass


def test_fails():
    assert 1 == 2, 'one\\ntwo'


@pytest.mark.parametrize('a', ['b.c'])
def test_skips(a):
    pytest.skip('for a reason')


class TestOfClass(TestCase):

    def test_passes(self):
        pass
'''
OF_HOST = '''
from pathlib import Path

import mmpretrain
import pytest
from mmpretrain.models import ResNet
from mmpretrain.models.backbones.resnet import BasicBlock
from mmpretrain.registry import MODELS
from torch import nn


def test_of_what_is_installed():
    here = Path(__file__).parents[3]
    assert here not in Path(mmpretrain.__file__).parents
    assert (here / 'configs/resnet/resnet18_8xb32_in1k.py').is_file()


def test_frozen():
    with pytest.raises(KeyError):
        ResNet(20)
    model = ResNet(18, frozen_stages=1, base_channels=8, stem_channels=8)
    model.train()
    assert not any(p.requires_grad for p in model.layer1.parameters())
    assert all(p.requires_grad for p in model.layer2.parameters())


def test_the_only_norms():
    model = MODELS.build(dict(type='mmpretrain.ResNet', depth=18))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20


def test_block():
    assert type(BasicBlock(8, 8).conv1).__name__ in ('Conv2d',
                                                     'KernelDNAConv2d')


def test_weights():
    ResNet(18, init_cfg=dict(
        type='Pretrained', checkpoint='torchvision://resnet18')).init_weights()


def test_fails_anyway():
    assert False
'''


def write(folder, text):
    """A checkout with one file of tests."""
    for part in ('tests', 'tests/test_models', 'tests/test_models/'
                 'test_backbones'):
        (folder / part).mkdir(parents=True)
        (folder / part / '__init__.py').touch()
    (folder / FILE).write_text(text)


def test_report(tmp_path):
    write(tmp_path, OF_PYTEST)
    (tmp_path / FILE).with_name('test_none.py').write_text('import none')
    subprocess.run([
        sys.executable, '-m', 'pytest', *run.REPORTING,
        '--junitxml=report.xml', 'tests'
    ], cwd=tmp_path, stdout=subprocess.PIPE)  # yapf: disable
    outcomes = run.read_report(tmp_path / 'report.xml')
    assert outcomes.pop('test_backbones::test_none').result == 'failed'
    assert outcomes == {
        f'{NAME}::test_passes': run.Outcome('passed', '', None),
        f'{NAME}::test_fails': run.Outcome('failed', 'AssertionError: one',
                                           None),
        f'{NAME}::test_skips[b.c]': run.Outcome('skipped', 'for a reason',
                                                None),
        f'{NAME}::TestOfClass::test_passes': run.Outcome('passed', '', None)
    }


def test_only_what_passes_as_it_is_counts():
    passed, failed = (
        run.Outcome(result, '', None) for result in ('passed', 'failed'))
    shared, alone = (run.Outcome('passed', '', n) for n in (3, 0))
    broken = run.Outcome('failed', 'why', 1)
    stock = {
        'test_a::a': passed,
        'test_a::b': passed,
        'test_a::c': failed,
        'test_b::a': passed,
        'test_b::b': passed,
        'test_b::c': run.Outcome('skipped', '', None)
    }
    ours = {
        'test_a::a': shared,
        'test_a::b': broken,
        'test_a::c': broken,
        'test_b::a': alone,
        'test_b::c': passed
    }
    rows, failures = run.compare(stock, dict(ours=ours))
    assert rows == dict(a=[3, 0, 2, 1, 1], b=[3, 1, 2, 1, 0])
    assert failures == [('ours', 'test_a::b', 'why'),
                        ('ours', 'test_b::b', 'the test did not run')]


@pytest.mark.parametrize('args, said', [
    (['none'], 'none is given as host, one of mmdet, mmpretrain, mmseg is'),
    (['--checkout=none=a'], 'none is given as host'),
    (['--checkout=mmpretrain=nowhere'], 'no folder tests/test_models in it'),
])
def test_wrong_arguments(args, said, monkeypatch):
    if 'nowhere' in args[0]:
        pytest.importorskip('mmpretrain')
    monkeypatch.setattr(sys, 'argv', ['run.py', *args])
    with pytest.raises(SystemExit, match=said):
        run.main()


@pytest.mark.slow
def test_a_checkout(tmp_path):
    pytest.importorskip('mmpretrain')
    write(tmp_path, OF_HOST)
    done = subprocess.run([
        sys.executable, SCRIPT, 'mmpretrain',
        f'--checkout=mmpretrain={tmp_path}'
    ], text=True, stdout=subprocess.PIPE)  # yapf: disable
    row = '| mmpretrain | backbones | 6 | 0 | 5 | 4 | 3 | 5 | 4 |'
    assert row in done.stdout
    assert f'KernelDNA: {NAME}::test_the_only_norms: ' in done.stdout
    assert done.returncode == 1
