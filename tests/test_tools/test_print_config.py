"""A config is printed and saved whole."""
import sys

import pytest
from mmengine.config import Config

from tests.runs import CONFIGS, TOOLS, load_tool, run

CONFIG = str(CONFIGS / 'resnet' / 'kdna-resnet18_8xb32_in1k.py')


@pytest.fixture(autouse=True)
def host():
    pytest.importorskip('mmpretrain')


@pytest.mark.parametrize('name', ['new/whole.py', 'whole.yml'])
def test_saves_what_can_be_used_alone(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', [
        'print_config', CONFIG, '--save-path', name, '--cfg-options',
        'model.head.num_classes=3'
    ])
    load_tool('misc/print_config').main()
    expected = Config.fromfile(CONFIG)
    assert expected.model.head.num_classes == 1000
    expected.model.head.num_classes = 3
    assert Config.fromfile(name)._cfg_dict == expected._cfg_dict
    assert '_base_' not in (tmp_path / name).read_text()
    printed = tmp_path / 'printed.py'
    printed.write_text(capsys.readouterr().out)
    assert Config.fromfile(printed)._cfg_dict == expected._cfg_dict


def test_prints_nothing_else(tmp_path):
    (tmp_path / 'small.py').write_text('a = dict(b=1)')
    tool = TOOLS / 'misc' / 'print_config.py'
    out = run(
        'env',
        'PYTHONWARNINGS=ignore',
        sys.executable,
        tool,
        'small.py',
        cwd=tmp_path)
    assert out == 'a = dict(b=1)\n\n'


@pytest.mark.parametrize('args, said', [
    (['none.py'], ['none.py', 'there is no such file', 'configs']),
    ([CONFIG, '--save-path', 'c.json'], ['c.json', '.py, .yml']),
    ([CONFIG, '--cfg-options', 'a'], ['KEY=VALUE']),
])
def test_refuses(args, said, refuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refuse('misc/print_config', *args)
    for part in said:
        assert part in message
