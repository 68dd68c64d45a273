"""A checkpoint of another form of the model is not tested."""
import copy

import pytest
import torch
from mmengine.config import Config

import mmkdna
from mmkdna.deploy import deploy_config, plain_config
from mmkdna.launch.errors import CommandError
from mmkdna.launch.form_check import check_form
from mmkdna.launch.model import build_model
from tests.utils import randomize, relative_error

pytest.importorskip('mmpretrain')
SAID = dict(
    plain=('that has no adapters', 'plain_to_mmkdna.py'),
    trained=('as it is trained', 'the config it was trained with'),
    deployed=('in the deploy form', 'switch_to_deploy.py has written beside'))
# What a deployed model derives itself, and what is the same network.
SAME = {('trained', 'deployed'), ('plain', 'deployed'), ('plain', 'own')}


@pytest.fixture(scope='module')
def images():
    return torch.rand(2, 3, 32, 32)


@pytest.fixture
def forms(classifier, images):
    """The configs of one model in its forms, their checkpoints and outputs."""
    trained = Config.fromfile('tiny.py')
    own = copy.deepcopy(trained)
    own.model.backbone.conv_cfg = dict(type='KernelDNA', share=False)
    configs = dict(
        trained=trained,
        deployed=deploy_config(trained),
        plain=plain_config(trained),
        own=own)
    outputs = {}
    for form, cfg in configs.items():
        model = randomize(build_model(cfg))
        if form == 'deployed':
            model = build_model(trained)
            model.load_state_dict(torch.load('trained.pth'))
            mmkdna.switch_to_deploy(model)
        torch.save(model.state_dict(), f'{form}.pth')
        with torch.no_grad():
            outputs[form] = model.eval()(images)
    return configs, outputs


@pytest.mark.parametrize('of', ['trained', 'deployed', 'plain', 'own'])
def test_each_for_each(forms, images, of):
    configs, outputs = forms
    for form, cfg in configs.items():
        model = build_model(cfg).eval()
        if of == form or (of, form) in SAME:
            check_form(cfg, model, f'{of}.pth')
            with torch.no_grad():
                assert relative_error(model(images)[0], outputs[of][0]) < 1e-4
            continue
        with pytest.raises(CommandError) as error:
            check_form(cfg, model, f'{of}.pth')
        given, expected = ('trained' if name == 'own' else name
                           for name in (of, form))
        said = [f'{of}.pth is given']
        if given != expected:
            said += [*SAID[given], SAID[expected][0]]
        for part in said:
            assert part in str(error.value)


def test_refused_before_anything_is_written(classifier, forms, refuse):
    """By the tool, of a file in the form that a parallel model leaves."""
    state = torch.load('deployed.pth')
    torch.save(
        dict(state_dict={f'module.{key}': state[key]
                         for key in state}), 'deployed.pth')
    message = refuse('test', 'tiny.py', 'deployed.pth')
    for part in ('tensors of the model are not in it',
                 'backbone.layer3.0.conv2.adapter.filter', 'switch_to_deploy'):
        assert part in message
    message = refuse('test', 'tiny.py', 'plain.pth', '--tta')
    assert '6 children would have kernels that are only like' in message


@pytest.mark.parametrize('change, said', [
    (lambda state: state.pop('head.fc.bias'), '1 of the .*: head.fc.bias'),
    (lambda state: state.update({'head.fc.bias': torch.zeros(3)}),
     'head.fc.bias.*Give the config it was trained with'),
    (lambda state: state.update({'head.fc.bias': 'a'}), 'head.fc.bias'),
    (lambda state: state.update({7: torch.zeros(3)}), 'a key is no text'),
])  # yapf: disable
def test_one_weight_is_wrong(forms, change, said):
    cfg = forms[0]['trained']
    state = torch.load('trained.pth')
    # Old checkpoints have no counters, and some have parts for training only.
    state.pop('backbone.bn1.num_batches_tracked')
    state['teacher.weight'] = torch.zeros(3)
    torch.save(state, 'trained.pth')
    check_form(cfg, build_model(cfg), 'trained.pth')
    change(state)
    torch.save(state, 'trained.pth')
    with pytest.raises(CommandError, match=said):
        check_form(cfg, build_model(cfg), 'trained.pth')
