"""What a machine lacks for the set-up is said in seconds."""
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.runs import ROOT

SCRIPT = ROOT / 'requirements' / 'check_machine.py'
PYTHONS = Path.home() / '.pyenv' / 'versions'


def check(*args, stack='current', python=sys.executable, fails=True, **env):
    """Run the script for a stack.

    Returns:
        str: What it says.
    """
    done = subprocess.run(
        [str(python), str(SCRIPT), stack, *map(str, args)],
        env={
            **os.environ, 'PYTHONPATH': '',
            **env
        },
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT)
    assert done.returncode == (1 if fails else 0), done.stdout
    assert 'Traceback' not in done.stdout
    return done.stdout


@pytest.fixture
def tools_only(tmp_path):
    """A PATH with all that there is but compilers."""
    folder = tmp_path / 'path'
    folder.mkdir()
    (folder / 'ls').symlink_to(shutil.which('ls'))
    return str(folder)


def test_a_machine_that_has_all(tmp_path):
    for needed in ('c++', 'g++'):
        if not shutil.which(needed):
            pytest.skip(f'there is no {needed} here')
    if shutil.disk_usage(tmp_path).free < 10e9:
        pytest.skip('there is too little room here')
    assert check(tmp_path / 'a' / '.venv', fails=False) == ''
    # Of the environment of the tests, torch and torchvision belong together.
    assert check(fails=False) == ''


def test_stacks():
    """Those that the script knows are those that can be installed."""
    stacks = sorted(path.name for path in SCRIPT.parent.glob('stacks/*'))
    said = check(stack='none')
    assert said.strip() == ("the first argument is 'none', one of "
                            f'{", ".join(stacks)} is expected')
    files = {path.name for path in SCRIPT.parent.glob('stacks/current/*')}
    for stack in stacks:
        folder = SCRIPT.parent / 'stacks' / stack
        assert {path.name for path in folder.iterdir()} == files


@pytest.mark.parametrize('version', ['2.7', '3.6', '3.7', '3.8', '3.9'])
def test_an_old_python(version, tmp_path):
    found = [*PYTHONS.glob(f'{version}.*/bin/python'), shutil.which(
        f'python{version}')]  # yapf: disable
    if not found[0]:
        pytest.skip(f'there is no Python {version} here')
    said = check(tmp_path, python=found[0])
    for part in (f'{found[0]} is Python {version}, but 3.10 or newer',
                 'PYTHON='):
        assert part in said
    said = check(tmp_path, stack='classic', python=found[0], CXX='/none/g++')
    assert ('but 3.8 to 3.11 is' in said) == (version < '3.8')


def test_a_new_python(tmp_path):
    """Newer than the torch of the classic stack was built for."""
    found = [*PYTHONS.glob('3.1[2-9].*/bin/python')]
    if not found:
        pytest.skip('there is no Python newer than 3.11 here')
    said = check(tmp_path, stack='classic', python=found[0])
    assert 'but 3.8 to 3.11 is expected' in said
    assert 'is expected' not in check(python=found[0], CXX='/none/g++')


def test_no_compiler(tools_only, tmp_path):
    said = check(tmp_path, PATH=tools_only)
    assert 'There is no C++ compiler c++' in said
    assert 'apt install g++' in said
    said = check(tmp_path, CXX='/none/g++')
    assert 'There is no C++ compiler /none/g++' in said
    # Without ops there is nothing to compile.
    assert check(tmp_path, stack='light', CXX='/none/g++', fails=False) == ''


def test_a_compiler_without_the_headers_of_python(tmp_path):
    """One whose folder of headers is another one, as without python3-dev."""
    if not shutil.which('c++'):
        pytest.skip('there is no c++ here')
    home = copy_of_python(tmp_path / 'python')
    said = check(tmp_path, python=home / 'bin' / 'python3')
    assert 'Python.h' in said and '-dev)' in said


def copy_of_python(folder, without=()):
    """A Python of links to this one's parts, and without some of them."""
    name = f'python{sys.version_info[0]}.{sys.version_info[1]}'
    (folder / 'bin').mkdir(parents=True)
    shutil.copy2(Path(sys.executable).resolve(), folder / 'bin' / 'python3')
    (folder / 'lib' / name).mkdir(parents=True)
    for part in Path(sysconfig.get_paths()['stdlib']).iterdir():
        if part.name not in ('site-packages', *without):
            (folder / 'lib' / name / part.name).symlink_to(part)
    return folder


def test_no_venv(tmp_path):
    """As Debian's python3 is without python3-venv."""
    home = copy_of_python(tmp_path / 'python', without=['ensurepip'])
    said = check(tmp_path, python=home / 'bin' / 'python3')
    assert 'no module ensurepip' in said
    assert f'apt install python3.{sys.version_info[1]}-venv' in said


def test_a_full_disk(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location('check_machine', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.check_disk(tmp_path / 'a' / 'b') is None
    monkeypatch.setattr(module, 'GIGABYTES', 10**9)
    said = module.check_disk(tmp_path / 'a' / 'b')
    assert said.startswith(f'{tmp_path} has ') and 'make room' in said


def distribution(folder, name, version, *requires):
    """What pip leaves of a distribution."""
    info = folder / f'{name}-{version}.dist-info'
    info.mkdir(parents=True)
    lines = ['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}']
    lines += [f'Requires-Dist: {line}' for line in requires]
    (info / 'METADATA').write_text('\n'.join(lines) + '\n')


def test_a_torch_without_its_torchvision(tmp_path):
    """In environments of nothing but the records of what is installed."""
    if not shutil.which('c++'):
        pytest.skip('there is no c++ here')

    def said(fails=True):
        done = subprocess.run([sys.executable, '-S',
                               str(SCRIPT), 'current'],
                              env=dict(os.environ, PYTHONPATH=str(tmp_path)),
                              text=True,
                              stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert (done.returncode != 0) == fails, done.stdout
        return done.stdout

    assert 'has no torch, ' in said()
    distribution(tmp_path, 'torch', '2.11.0+cpu')
    assert 'not the torchvision that belongs to it' in said()
    distribution(tmp_path, 'torchvision', '0.25.0', 'numpy', 'torch==2.10.0')
    assert 'torchvision 0.25.0, which belongs to torch 2.10.0' in said()
    shutil.rmtree(tmp_path / 'torchvision-0.25.0.dist-info')
    distribution(tmp_path, 'torchvision', '0.26.0', 'torch==2.11.0')
    assert said(fails=False) == ''
