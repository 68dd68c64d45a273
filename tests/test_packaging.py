"""An sdist and a wheel of a clean checkout, in an environment of its own."""
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest
import torch
import yaml

import mmkdna
from tests.runs import ROOT, free_port, logged
from tests.test_tools.conftest import make_classes

CONFIGS = dict(
    mmdet='shapes/retinanet_r18-half-kdna-conv_fpn_12e_shapes',
    mmseg='shapes/fpn_r18-half-kdna_1xb16-700_shapes-128x128',
    mmpretrain='mobilenet_v2/kdna-mobilenet-v2-0.5x_8xb32_in1k')
LOADER = 'dict(batch_size=2, num_workers=0, persistent_workers=False'
SMALL = ('--num-train', '4', '--num-val', '1', '--size', '64')
# Two steps and a validation each.
SHORT = dict(
    mmdet=f'''
_base_ = 'mmkdna::{CONFIGS["mmdet"]}.py'
train_dataloader = {LOADER})
train_cfg = dict(max_epochs=1, val_interval=1)
default_hooks = dict(logger=dict(interval=1))
''',
    mmseg=f'''
_base_ = 'mmkdna::{CONFIGS["mmseg"]}.py'
train_dataloader = {LOADER})
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
''',
    mmpretrain=f'''
_base_ = 'mmkdna::{CONFIGS["mmpretrain"]}.py'
model = dict(head=dict(num_classes=2, topk=(1, )))
data_preprocessor = dict(num_classes=2)
train_dataloader = {LOADER}, dataset=dict(
    _delete_=True, type='CustomDataset', data_root='data/classes',
    pipeline={{{{_base_.train_pipeline}}}}))
val_dataloader = {LOADER}, dataset=dict(
    _delete_=True, type='CustomDataset', data_root='data/classes',
    pipeline={{{{_base_.test_pipeline}}}}))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
''')
ASK = '''
import sys
from pathlib import Path

from mmkdna.checkpoints.names import read_models, resolve
from mmengine.hub import get_config

print('models', len(read_models()))
for name in sys.argv[1:]:
    print('config', get_config(f'mmkdna::{name}.py').filename)
resolve(Path(name).name)
'''

# The blocks of the README that show a released model in use.
BLOCKS = re.findall(r'^```python\n([^`]*Inferencer[^`]*)^```$',
                    (ROOT / 'README.md').read_text(), re.MULTILINE)
# What leads to a network, and what to weights that do not come with it.
AROUND = re.compile('.*_proxy|PYTHONPATH|MMKDNA_WEIGHTS', re.IGNORECASE)


def run(*command, cwd, fails=False):
    """Run a command that finds no checkout by PYTHONPATH, and no network."""
    env = {k: v for k, v in os.environ.items() if not AROUND.fullmatch(k)}
    env['OMP_NUM_THREADS'] = '1'
    done = subprocess.run([str(part) for part in command],
                          cwd=cwd,
                          env=env,
                          text=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def tracked():
    """The files git knows."""
    if not (ROOT / '.git').exists() or not shutil.which('git'):
        pytest.skip(f'{ROOT} is no git checkout')
    listed = run('git', 'ls-files', '-z', cwd=ROOT).split('\0')
    return [name for name in listed if name]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """An sdist, a wheel of it, and one of the checkout."""
    folder = tmp_path_factory.mktemp('built')
    checkout = folder / 'checkout'
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
    build = 'from setuptools import build_meta; build_meta.build_sdist("..")'
    run(sys.executable, '-c', build, cwd=checkout)
    sdist, = folder.glob('*.tar.gz')
    wheels = []
    for name, source in (('of_checkout', checkout), ('of_sdist', sdist)):
        run(sys.executable,
            '-m',
            'pip',
            'wheel',
            '--no-deps',
            '--no-build-isolation',
            '--wheel-dir',
            name,
            source,
            cwd=folder)
        wheels += (folder / name).glob('*.whl')
    return [sdist, *wheels]


def test_installs_into_a_finished_environment(built, tmp_path):
    """By ``pip install mmkdna`` alone, which compiles and replaces nothing."""
    others = tmp_path / 'others'
    others.mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if 'mmkdna' not in entry.name:
            (others / entry.name).symlink_to(entry)
    venv.create(tmp_path / 'environment', symlinks=True)
    python = tmp_path / 'environment' / 'bin' / 'python'
    site, = tmp_path.glob('environment/lib/python*/site-packages')
    (site / 'others.pth').write_text(str(others))

    def installed():
        listed = run(
            python,
            '-m',
            'pip',
            'list',
            '--format=json',
            '--disable-pip-version-check',
            cwd=site)
        return {
            entry['name']: entry['version']
            for entry in json.loads(listed.splitlines()[-1])
        }

    before, files = installed(), sorted(others.iterdir())
    assert {'torch', 'scipy'} <= set(before)
    out = run(
        python, '-m', 'pip', 'install', '--no-index', built[-1], cwd=tmp_path)
    assert 'Building' not in out and 'Uninstalling' not in out
    after = installed()
    assert after.pop('mmkdna') == mmkdna.__version__
    assert after == before
    assert sorted(others.iterdir()) == files
    assert {entry.name.partition('-')[0]
            for entry in site.iterdir()} == {'mmkdna', 'others.pth'}
    where = 'import mmkdna, mmcv; print(mmkdna.__file__)'
    *_, found = run(python, '-c', where, cwd=tmp_path).splitlines()
    assert found.startswith(str(site / 'mmkdna'))


@pytest.fixture(scope='module')
def python(built, tmp_path_factory):
    """The python of an environment with the wheel.

    All else it has from the environment of the tests.
    """
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, symlinks=True)
    python = folder / 'bin' / 'python'
    site, = folder.glob('lib/python*/site-packages')
    (site / 'others.pth').write_text(str(Path(torch.__file__).parents[1]))
    run(python,
        '-m',
        'pip',
        'install',
        '--no-deps',
        '--no-index',
        '--ignore-installed',
        built[-1],
        cwd=folder)
    return python


@pytest.fixture(scope='module')
def mim(python):
    """Where the configs and tools are installed."""
    folder, = python.parents[1].glob('lib/python*/site-packages/mmkdna/.mim')
    return folder


def test_contents(built):
    expected = {'mmkdna/.mim/model-index.yml', 'mmkdna/py.typed'}
    for name in tracked():
        if name.startswith('mmkdna/') and name.endswith('.py'):
            expected.add(name)
        # What is of use in a checkout only stays there.
        if (name.startswith(('configs/', 'tools/', 'weights/'))
                and name not in ('tools/lint.sh', 'tools/install_mmcv.sh',
                                 'tools/misc/update_zoo.py')):
            expected.add(f'mmkdna/.mim/{name}')
    sdist, *wheels = built
    for wheel in wheels:
        names = zipfile.ZipFile(wheel).namelist()
        assert {name
                for name in names if '.dist-info/' not in name} == expected
    with tarfile.open(sdist) as archive:
        files = [member for member in archive if not member.isdir()]
    assert all(member.isfile() for member in files)
    names = {member.name.partition('/')[2] for member in files}
    assert {name for name in names if name.startswith('mmkdna/')} == expected
    assert {'README.md', 'LICENSE', 'setup.py'} <= names
    assert not any(name.startswith('tests/') for name in names)


def test_what_mim_reads(mim):
    index = yaml.safe_load((mim / 'model-index.yml').read_text())
    models = []
    for metafile in index['Import']:
        models += yaml.safe_load((mim / metafile).read_text())['Models']
    assert models
    for model in models:
        assert (mim / model['Config']).is_file()
    for script in mim.glob('tools/*.sh'):
        assert os.access(script, os.X_OK)


def test_looks_up_configs_and_weights(python, mim, tmp_path):
    configs = [CONFIGS[host] for host in CONFIGS if find_spec(host)]
    out = run(python, '-c', ASK, *configs, cwd=tmp_path, fails=True)
    number = sum(
        len(yaml.safe_load(path.read_text())['Models'])
        for path in mim.glob('configs/*/metafile.yml'))
    assert f'models {number}\n' in out
    for name in configs:
        assert f'config {mim}/configs/{name}.py\n' in out
    assert 'no weights were released' in out
    assert f'train it by configs/{configs[-1]}.py' in out


def test_the_readme_shows_each_inferencer():
    assert [
        host for host in CONFIGS
        if not any(f'{host}.' in block for block in BLOCKS)
    ] == []
    assert all(len(block.splitlines()) == 3 for block in BLOCKS)


@pytest.mark.parametrize('block', BLOCKS)
def test_the_readme_draws_a_prediction(block, python, mim, tmp_path):
    """By the wheel alone, in a process of its own."""
    for host in CONFIGS:
        if f'{host}.' in block:
            pytest.importorskip(host)
    pytest.importorskip('pycocotools')  # encodes the masks
    make_shapes = mim / 'tools' / 'dataset_converters' / 'make_shapes.py'
    run(python, make_shapes, *SMALL[:-2], cwd=tmp_path)
    picture = tmp_path / 'data' / 'shapes' / 'images' / 'validation'
    shutil.copy(picture / '000000.jpg', tmp_path / 'picture.jpg')
    said = run(python, '-c', block, cwd=tmp_path)
    assert f'{mim}/weights/' in said
    drawn, = (
        file for file in tmp_path.glob('pictures/**/*')
        if file.suffix in ('.jpg', '.png') and 'pred' not in file.parts)
    given, drawn = (
        cv2.imread(str(file)).astype(int)
        for file in (picture / '000000.jpg', drawn))
    # More than what is lost in writing a JPEG again.
    assert (abs(given - drawn) > 60).mean() > 0.01


@pytest.mark.parametrize('host', list(SHORT))
def test_trains(host, python, mim, tmp_path):
    pytest.importorskip(host)
    (tmp_path / 'short.py').write_text(SHORT[host])
    options = []
    if host == 'mmpretrain':
        make_classes(tmp_path / 'data' / 'classes')
        options = ['--cfg-options', 'train_dataloader.batch_size=4']
    else:
        make_shapes = mim / 'tools' / 'dataset_converters' / 'make_shapes.py'
        run(python, make_shapes, *SMALL, cwd=tmp_path)
    run(python, mim / 'tools' / 'train.py', 'short.py', *options, cwd=tmp_path)
    work_dir = tmp_path / 'work_dirs' / 'short'
    assert list(logged(work_dir)) == [1, 2]
    assert list(work_dir.glob('*_[12].pth'))


@pytest.mark.slow
def test_trains_in_processes(python, mim, tmp_path):
    pytest.importorskip('mmpretrain')
    make_classes(tmp_path / 'data' / 'classes')
    (tmp_path / 'short.py').write_text(SHORT['mmpretrain'])
    run('env',
        f'PATH={python.parent}:{os.environ["PATH"]}',
        f'PORT={free_port()}',
        mim / 'tools' / 'dist_train.sh',
        'short.py',
        '2',
        cwd=tmp_path)
    assert list(logged(tmp_path / 'work_dirs' / 'short')) == [1, 2]
