"""No tool makes anything of weights that are NaN or infinite."""
import pytest
import torch
from mmengine.config import Config

from mmkdna.deploy import plain_config
from mmkdna.launch.model import build_model
from mmkdna.official import mmkdna_to_official
from tests.runs import CONFIGS

pytest.importorskip('mmpretrain')
RESNET18 = str(CONFIGS / 'resnet' / 'kdna-resnet18_8xb32_in1k.py')


def save(state_dict, key, value):
    first = next(k for k in state_dict if k.endswith(key))
    state_dict[first].view(-1)[0] = float(value)
    torch.save(dict(state_dict=state_dict), 'bad.pth')
    return first


def check(message, key):
    for part in ('bad.pth', 'NaN or infinite', f'state_dict.{key} has 1 of'):
        assert part in message


@pytest.mark.parametrize('tool, args', [
    ('switch_to_deploy', ['tiny.py', 'bad.pth', 'out.pth']),
    ('publish_model', ['bad.pth', 'out', '--config', 'tiny.py']),
    ('../deployment/export_onnx',
     ['tiny.py', 'bad.pth', 'out.onnx', '--size', '32', '32']),
])
@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_of_a_trained_model(classifier, refuse, tool, args, value):
    state = build_model(Config.fromfile('tiny.py')).state_dict()
    key = save(state, 'conv2.weight', value)
    check(refuse(f'model_converters/{tool}', *args), key)


@pytest.mark.parametrize('tool, output', [('gates', 'gates.json'),
                                          ('similarity', 'all.json')])
def test_of_what_a_trained_model_computes(classifier, refuse, tool, output):
    """Its weights are finite, and look so when they are read."""
    state = build_model(Config.fromfile('tiny.py')).state_dict()
    state['backbone.layer2.0.conv1.weight'].fill_(3e38)
    torch.save(dict(state_dict=state), 'bad.pth')
    message = refuse(f'analysis_tools/{tool}', 'tiny.py', 'bad.pth',
                     '--images=data', '--batch=4', '--size', '32', '32',
                     f'--json={output}')
    for part in ('bad.pth', 'given, but backbone.layer2.0.conv1, of type',
                 'is the first whose output has values that are no finite'):
        assert part in message


def test_of_a_plain_model(classifier, refuse):
    cfg = plain_config(Config.fromfile('tiny.py'))
    key = save(build_model(cfg).state_dict(), 'running_var', 'nan')
    check(
        refuse('model_converters/plain_to_mmkdna', 'tiny.py', 'bad.pth',
               'out.pth'), key)


@pytest.mark.parametrize('reverse', [False, True])
def test_of_the_authors(classifier, refuse, reverse):
    state = build_model(Config.fromfile(RESNET18)).state_dict()
    if not reverse:
        state = mmkdna_to_official(state)
    key = save(state, 'conv1.weight', 'nan')
    check(
        refuse('model_converters/official_to_mmkdna', 'bad.pth', 'out.pth',
               *['--reverse'] * reverse), key)


def test_what_comes_of_a_conversion(classifier, refuse):
    """A variance below zero is a number, but what is folded of it is none."""
    state = build_model(Config.fromfile('tiny.py')).state_dict()
    save(state, 'gate.norm.running_var', '-1')
    message = refuse('model_converters/switch_to_deploy', 'tiny.py', 'bad.pth',
                     'out.pth')
    for part in ('out.pth is not written', 'adapter.gate.fc1.weight has '):
        assert part in message
