"""What a user can do something about is said in one paragraph, or traced."""
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.runs import TOOLS, run_tool

NAMES = sorted(
    path.relative_to(TOOLS).with_suffix('').as_posix()
    for path in TOOLS.rglob('*.py'))
# What each tool is given that it cannot do, and what it says of that.
WRONG = {
    'analysis_tools/benchmark': (['none.py'], 'none.py is given'),
    'analysis_tools/compare': (['none'], 'none is given as task'),
    'analysis_tools/browse_dataset': (['none.py'], 'none.py is given'),
    'analysis_tools/gates': (['none.py', 'none.pth',
                              '--images=none'], 'none.py is given'),
    'analysis_tools/plan_sharing':
    (['none.py', 'none.pth', '--images=none',
      '--save=.3'], 'none.py is given'),
    'analysis_tools/similarity': (['none.py', 'none.pth',
                                   '--images=none'], 'none.py is given'),
    'analysis_tools/get_flops': (['none.py'], 'none.py is given'),
    'analysis_tools/sharing': (['none.py'], 'none.py is given'),
    'dataset_converters/make_shapes': (['.'], '. is given, but it exists'),
    'deployment/export_onnx': (['none.py', 'none.pth',
                                'out.onnx'], 'none.py is given'),
    'misc/print_config': (['none.py'], 'none.py is given'),
    'misc/update_zoo': (['none'], 'none is given as folder'),
    'model_converters/official_to_mmkdna': (['none.pth',
                                             'a'], 'none.pth is given'),
    'model_converters/plain_to_mmkdna': (['none.py', 'none.pth',
                                          'a'], 'none.py is given'),
    'model_converters/publish_model': (['none.pth',
                                        'out'], 'none.pth is given'),
    'model_converters/switch_to_deploy':
    (['none.py', 'none.pth', 'none/a.pth'], 'none/a.pth is given'),
    'test': (['none.py', 'none.pth'], 'none.py is given'),
    'train': (['none.py'], 'none.py is given'),
}


@pytest.mark.parametrize('name', NAMES)
def test_traceback(name, tmp_path):
    (tmp_path / 'here').touch()
    if name == 'demo':
        pytest.importorskip('mmdet')
        # It runs the others, and hands --traceback on.
        (tmp_path / 'data').mkdir()
        (tmp_path / 'data' / 'shapes').touch()
        args, said = [], 'data/shapes is given, but it exists'
    else:
        args, said = WRONG[name]
        if name.endswith('make_shapes') and not find_spec('pycocotools'):
            said = 'pycocotools, which encodes the masks, is not installed'
    short = run_tool(name, *args, cwd=tmp_path, fails=True)
    lines = [line for line in short.splitlines() if said in line]
    assert len(lines) == 1 and 'Traceback' not in short
    long = run_tool(name, *args, '--traceback', cwd=tmp_path, fails=True)
    assert 'Traceback (most recent call last)' in long
    # The last line of a traceback has the same words.
    assert f'CommandError: {lines[0]}' in long


def test_every_cause_is_shown(tmp_path):
    (tmp_path / 'bad.py').write_text('a = [')
    short = run_tool('train', 'bad.py', cwd=tmp_path, fails=True)
    long = run_tool('train', 'bad.py', '--traceback', cwd=tmp_path, fails=True)
    assert 'direct cause' not in short
    for part in ('SyntaxError: ', 'direct cause of the following exception',
                 'CommandError: bad.py is given'):
        assert part in long


def test_exit_status(tmp_path):
    for flags in ([], ['--traceback']):
        command = [sys.executable, str(TOOLS / 'train.py'), 'none.py', *flags]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == 1
        assert not done.stdout
