"""Graphs of export_onnx.py answer what torch does, at any batch and size."""
import math
import sys
from collections import Counter

import pytest
import torch
from mmengine.config import Config

from mmkdna.launch.model import init_model
from tests.runs import TOOLS, load_tool, run
from tests.test_deploy import (CONV, DETECTOR, RESNET, SEGMENTOR, answers,
                               error, perturb)

NEEDED = 'comes with the extra [deploy]'
onnx = pytest.importorskip('onnx', reason=f'onnx {NEEDED}')
onnxruntime = pytest.importorskip(
    'onnxruntime', reason=f'onnxruntime {NEEDED}')

SIZES = ((64, 64), (75, 106))


def classifier(in_channels, **backbone):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(RESNET, **dict(dict(out_indices=(3, )), **backbone)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=3,
            in_channels=in_channels))


def segmentor(head, **options):
    return dict(
        SEGMENTOR,
        decode_head=dict(
            type=f'mmseg.{head}',
            num_classes=3,
            in_channels=64,
            in_index=3,
            channels=8,
            conv_cfg=CONV,
            norm_cfg=dict(type='BN'),
            align_corners=False,
            **options))


MOBILENET = classifier(1280)
MOBILENET['backbone'] = dict(
    type='mmpretrain.KernelDNAMobileNetV2', widen_factor=0.25)


def hrnet(stage, branches, block='BASIC'):
    return dict(
        num_modules=1,
        num_branches=branches,
        block=block,
        num_blocks=(1, ) * branches,
        num_channels=(64, ) if stage == 1 else (4, 8, 16, 32)[:branches])


HRNET = segmentor('FCNHead')
HRNET['backbone'] = dict(
    type='mmseg.HRNet',
    conv_cfg=CONV,
    extra=dict(
        stage1=hrnet(1, 1, 'BOTTLENECK'),
        **{f'stage{i}': hrnet(i, i)
           for i in (2, 3, 4)}))
HRNET['decode_head'].update(
    in_channels=(4, 8, 16, 32),
    in_index=(0, 1, 2, 3),
    input_transform='resize_concat')
YOLOX = dict(
    type='mmdet.YOLOX',
    backbone=dict(
        type='mmdet.CSPDarknet',
        deepen_factor=0.33,
        widen_factor=0.125,
        conv_cfg=CONV),
    neck=dict(
        type='mmdet.YOLOXPAFPN',
        in_channels=[32, 64, 128],
        out_channels=32,
        num_csp_blocks=1),
    bbox_head=dict(type='mmdet.YOLOXHead', num_classes=2, in_channels=32))
# Config of the model, and the number of its outputs.
MODELS = dict(
    resnet18=(classifier(64), 1),
    resnet50=(classifier(256, depth=50), 1),
    group_norm=(classifier(
        64, conv_cfg=dict(CONV, norm_cfg=dict(type='GN', num_groups=1))), 1),
    mobilenet_v2=(MOBILENET, 1),
    fcn=(segmentor('FCNHead'), 1),
    pspnet=(segmentor('PSPHead', pool_scales=(1, 2, 3, 6)), 1),
    upernet=(SEGMENTOR, 1),
    hrnet=(HRNET, 1),
    retinanet=(DETECTOR, 5),
)


def write(folder, model, name='model'):
    """A config and a checkpoint, and the model they make."""
    config = folder / f'{name}.py'
    host = model['type'].split('.')[0]
    pytest.importorskip(host)
    Config(
        dict(
            custom_imports=dict(imports=['mmkdna']),
            default_scope=host,
            model=model)).dump(config)
    module = perturb(init_model(str(config)))
    torch.save(dict(state_dict=module.state_dict()), folder / f'{name}.pth')
    return module


def export(monkeypatch, *args):
    monkeypatch.setattr('sys.argv', ['export_onnx', *map(str, args)])
    load_tool('deployment/export_onnx').main()


def check(module, path, outputs, norms=0):
    """Compare a graph with the trained, linked model."""
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    # Nothing but what ONNX itself defines, and no norm of a gate.
    assert {opset.domain for opset in graph.opset_import} == {''}
    assert {node.domain for node in graph.graph.node} == {''}
    assert not graph.functions
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count('BatchNormalization') == norms and 'Conv' in kinds
    session = onnxruntime.InferenceSession(
        path, providers=['CPUExecutionProvider'])
    assert len(session.get_outputs()) == outputs
    for batch in (1, 2, 3):
        for size in SIZES:
            x = torch.randn(batch, 3, *size)
            got = session.run(None, dict(input=x.numpy()))
            if hasattr(module, 'bbox_head'):
                expected = answers(module.extract_feat, x)
            else:
                expected = answers(module, x)
            assert all(out.shape[0] == batch for out in got)
            got = torch.cat([torch.from_numpy(out).flatten() for out in got])
            assert error(got, expected) <= 1e-4


@pytest.mark.parametrize('name', MODELS)
def test_a_graph_answers_what_torch_does(name, tmp_path, monkeypatch, capsys):
    cfg, outputs = MODELS[name]
    module = write(tmp_path, cfg)
    export(monkeypatch, tmp_path / 'model.py', tmp_path / 'model.pth',
           tmp_path / 'out.onnx', '--size', 64, 64)
    said = capsys.readouterr().out
    assert 'out.onnx: batch (1, 2, 3) and two sizes agree' in said
    assert {p.name
            for p in tmp_path.iterdir()
            } == {'model.py', 'model.pth', 'out.onnx'}
    check(module, str(tmp_path / 'out.onnx'), outputs)


@pytest.mark.parametrize(
    'name', ['resnet18', 'group_norm', 'mobilenet_v2', 'upernet', 'retinanet'])
def test_a_graph_that_shares(name, tmp_path, monkeypatch):
    cfg, outputs = MODELS[name]
    module = write(tmp_path, cfg)
    args = (tmp_path / 'model.py', tmp_path / 'model.pth')
    for file, option in (('full', ()), ('small', ('--keep-sharing', ))):
        export(monkeypatch, *args, tmp_path / f'{file}.onnx', '--size', 64, 64,
               *option)
    small = tmp_path / 'small.onnx'
    # No norm of a gate, and those of convolutions as they are.
    norms = sum(
        isinstance(part, torch.nn.BatchNorm2d) and 'adapter' not in key
        for key, part in module.named_modules())
    check(module, str(small), outputs, norms)
    # No kernel of a child, and no kernel twice.
    graph = onnx.load(small).graph
    kernels = [math.prod(t.dims) for t in graph.initializer if len(t.dims) > 3]
    assert sum(kernels) == sum(
        p.numel() for key, p in module.named_parameters()
        if p.ndim == 4 and not key.startswith('bbox_head'))
    assert small.stat().st_size < (tmp_path / 'full.onnx').stat().st_size
    constants = {constant.name for constant in graph.initializer}
    assert not all(node.input[1] in constants
                   for node in graph.node if node.op_type == 'Conv')
    # Once it is loaded, every kernel is a constant, no norm is left, and
    # onnxruntime computes what it does without the option.
    kinds = []
    for file in ('full', 'small'):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / 'loaded.onnx')
        onnxruntime.InferenceSession(
            str(tmp_path / f'{file}.onnx'),
            options,
            providers=['CPUExecutionProvider'])
        loaded = onnx.load(tmp_path / 'loaded.onnx').graph
        constants = {constant.name for constant in loaded.initializer}
        assert all(node.input[1] in constants for node in loaded.node
                   if 'Conv' in node.op_type)
        kinds.append(Counter(node.op_type for node in loaded.node))
    assert kinds[0] == kinds[1] and 'BatchNormalization' not in kinds[1]


def test_a_process_of_its_own_exports(tmp_path):
    module = write(tmp_path, MODELS['resnet18'][0])
    run(sys.executable,
        TOOLS / 'deployment' / 'export_onnx.py',
        'model.py',
        'model.pth',
        'out.onnx',
        '--size',
        32,
        32,
        cwd=tmp_path)
    check(module, str(tmp_path / 'out.onnx'), 1)


@pytest.mark.parametrize('size, out', [((6, 6), (6, 6)), ((7, 11), (3, 2)),
                                       ((2, 3), (6, 6)), ((5, 4), (1, 3))])
def test_pooling_in_other_words(size, out):
    x = torch.randn(2, 3, *size).double()
    tool = load_tool('deployment/export_onnx')
    ours = tool.AdaptiveAvgPool(out)(x)
    theirs = torch.nn.functional.adaptive_avg_pool2d(x, out)
    torch.testing.assert_close(ours, theirs)


def test_a_difference_is_found():
    deviation = load_tool('deployment/export_onnx').deviation
    ours = torch.tensor([[1., -4.], [2., 0.]])
    assert deviation([ours, ours], [ours, ours + 0.1]) == \
        pytest.approx(0.1 / 4)
    assert deviation([0 * ours], [0 * ours]) == 0
    assert deviation([0 * ours], [0 * ours + 1e-6]) > 1
    for value in (float('nan'), float('inf')):
        wrong = ours.clone()
        wrong[0, 1] = value
        for pair in ([wrong, ours], [ours, wrong], [wrong, wrong]):
            with pytest.raises(ValueError, match='not finite'):
                deviation([ours, pair[0]], [ours, pair[1]])
    # Of these, each would be broadcast, or left out.
    for outs in ([ours[:1]], [ours[None]], [], [ours, ours]):
        with pytest.raises(ValueError, match='The graph answers shapes'):
            deviation([ours], outs)


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Run the tool, which ends with a message and writes nothing."""
    write(tmp_path, MODELS['resnet18'][0])

    def refused(*args, size=(32, 32)):
        before = sorted(tmp_path.rglob('*'))
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            export(monkeypatch, *args, '--size', *size)
        assert sorted(tmp_path.rglob('*')) == before
        return str(stopped.value.code)

    return refused


def test_a_checkpoint_of_another_depth_is_refused(tmp_path, refused):
    write(tmp_path, classifier(64, depth=34), 'deeper')
    message = refused('deeper.py', 'model.pth', 'out.onnx')
    assert 'layer1.2.conv1.weight' in message


def test_a_truncated_checkpoint_is_refused(tmp_path, refused):
    whole = (tmp_path / 'model.pth').read_bytes()
    (tmp_path / 'model.pth').write_bytes(whole[:len(whole) // 2])
    assert 'truncated' in refused('model.py', 'model.pth', 'out.onnx')


def test_a_missing_checkpoint_is_refused(refused):
    assert 'no such file' in refused('model.py', 'none.pth', 'out.onnx')


def test_sharing_that_is_not_there_is_not_kept(tmp_path, refused):
    write(tmp_path, classifier(64, sharing_stages=()), 'plain')
    message = refused('plain.py', 'plain.pth', 'out.onnx', '--keep-sharing')
    assert '--keep-sharing is given, but' in message
    assert 'no sharing to keep' in message


def test_a_missing_folder_is_refused(refused):
    assert 'no/such' in refused('model.py', 'model.pth', 'no/such/out.onnx')


def test_a_missing_package_is_named(monkeypatch, refused):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    message = refused('model.py', 'model.pth', 'out.onnx')
    assert 'onnxruntime' in message and 'mmkdna[deploy]' in message


def test_a_graph_that_deviates_is_not_written(monkeypatch, tmp_path, refused):
    tool = load_tool('deployment/export_onnx')
    monkeypatch.setattr(tool, 'largest_error', lambda *_: float('nan'))
    monkeypatch.setattr(sys.modules[__name__], 'load_tool', lambda _: tool)
    message = refused('model.py', 'model.pth', 'out.onnx')
    assert 'deviates from torch by nan' in message


def test_a_model_that_answers_nan_is_refused(tmp_path, refused):
    checkpoint = torch.load(tmp_path / 'model.pth')
    # Numbers, all of them, but too large for a sum.
    checkpoint['state_dict']['head.fc.weight'].fill_(3e38)
    torch.save(checkpoint, tmp_path / 'model.pth')
    message = refused('model.py', 'model.pth', 'out.onnx')
    assert 'torch answers values that are not finite' in message
    assert 'nothing was written' in message


def test_a_size_that_the_model_does_not_take_is_refused(tmp_path, refused):
    write(tmp_path, YOLOX, 'yolox')
    message = refused('yolox.py', 'yolox.pth', 'out.onnx', size=(97, 131))
    assert '--size 97 131' in message and 'multiples of 32' in message


def test_a_missing_config_is_refused(refused):
    assert 'none.py is given as config' in refused('none.py', 'model.pth',
                                                   'out.onnx')


def test_a_folder_is_not_written_over(tmp_path, refused):
    (tmp_path / 'out.onnx').mkdir()
    assert 'is a folder' in refused('model.py', 'model.pth', 'out.onnx')


def test_the_checkpoint_is_not_written_over(refused):
    message = refused('model.py', 'model.pth', './model.pth')
    assert 'would replace model.pth' in message
