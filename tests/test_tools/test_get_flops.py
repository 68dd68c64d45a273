"""tools/analysis_tools/get_flops.py and sharing.py, as a user runs them."""
import json

import pytest
import yaml

from tests.runs import CONFIGS, ROOT, run_tool

pytest.importorskip('mmpretrain')
RESNET18 = CONFIGS / 'resnet' / 'kdna-resnet18_8xb32_in1k.py'
PLAIN = CONFIGS / 'resnet' / 'kdna-resnet18-plain_8xb32_in1k.py'
PSPNET = (
    CONFIGS / 'pspnet' / 'pspnet_r18-kdna-d8_4xb2-80k_cityscapes-512x1024.py')
WRONG = ['--cfg-options', 'model.backbone.type=KernelDNANet']
NO_SIZE = ['--cfg-options', 'model.data_preprocessor.size=None']


def test_compares_configs(tmp_path):
    out = run_tool(
        'analysis_tools/get_flops',
        RESNET18,
        PLAIN,
        '--json',
        'new/flops.json',
        cwd=tmp_path)
    ours, plain = [
        line.split(' | ') for line in out.splitlines()
        if line.startswith('| kdna')
    ]
    assert ours[1:] == [
        '224x224', '9.24 M', '17.59 M', '47.5%', '2.28 G', '2.28 G', '6 |'
    ]
    assert plain[2:5] == ['17.59 M', '17.59 M', '0.0%']
    figures, _ = json.loads((tmp_path / 'new' / 'flops.json').read_text())
    models = yaml.safe_load(
        (ROOT / 'configs' / 'resnet' / 'metafile.yml').read_text())['Models']
    model, = (m for m in models if m['Name'] == RESNET18.stem)
    assert figures['parameters'] == model['Metadata']['Parameters'] == 9240798
    assert figures['flops'] == model['Metadata']['FLOPs']
    assert figures['children'] == 6


def test_another_size_and_options(tmp_path):
    out = run_tool(
        'analysis_tools/get_flops',
        RESNET18,
        '--shape',
        448,
        224,
        '--cfg-options',
        'model.backbone.sharing_stages=(4,)',
        cwd=tmp_path)
    row = out.splitlines()[-1].split(' | ')
    assert row[1] == '448x224'
    assert float(row[5].split()[0]) == pytest.approx(2 * 2.28, abs=0.02)
    assert row[7] == '3 |'


def test_draws(tmp_path):
    out = run_tool(
        'analysis_tools/sharing',
        RESNET18,
        '--out',
        'new/graph.svg',
        cwd=tmp_path)
    assert '6 children' in out
    assert 'ImageClassifier: 6 of ' in (tmp_path / 'new' /
                                        'graph.svg').read_text()


def test_deformable_convolutions_are_not_counted(tmp_path, monkeypatch,
                                                 refuse):
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    (tmp_path /
     'vfnet.py').write_text("_base_ = 'mmdet::vfnet/vfnet_r50_fpn_1x_coco.py'")
    message = refuse('analysis_tools/get_flops', 'vfnet.py')
    for part in ('vfnet.py', 'this VFNet', 'get_model_complexity_info'):
        assert part in message


@pytest.mark.parametrize('tool, args, said', [
    ('get_flops', ['none.py'], ['none.py', 'no such file', 'configs']),
    ('get_flops', [RESNET18, '--shape', '0', '5'], ['[0, 5]', 'positive']),
    pytest.param(
        'get_flops', [PSPNET, *NO_SIZE], [str(PSPNET), 'give --shape'],
        marks=pytest.mark.hosts('mmseg')),
    ('get_flops', [RESNET18, *WRONG], ['cannot be built', 'KernelDNANet']),
    ('sharing', [RESNET18, *WRONG], ['cannot be built', 'KernelDNANet']),
    ('sharing', ['none.py'], ['none.py', 'no such file', 'configs']),
    ('sharing', [RESNET18, '--out', 'graph.txt'], ['graph.txt', '.svg']),
])  # yapf: disable
def test_refuses(tmp_path, monkeypatch, refuse, tool, args, said):
    monkeypatch.chdir(tmp_path)
    message = refuse(f'analysis_tools/{tool}', *map(str, args))
    for part in said:
        assert part in message
