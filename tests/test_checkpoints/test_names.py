"""Weights by name: the released file is found, and no other is taken."""
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.runner import CheckpointLoader

from mmkdna.checkpoints.files import CheckpointError, load_file
from mmkdna.checkpoints.names import hash_of, read_models, resolve
from mmkdna.launch.model import init_model
from tests.runs import ROOT, free_port

# The smallest of the released weights.
NAME = 'resnet18-16ch-kdna-conv_1xb64-6e_cifar10'
RELEASED = ROOT / read_models()[NAME]['Weights']


def release(folder):
    """A copy of a released file.

    Returns:
        Path: The copy.
    """
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(RELEASED, folder))


def release_payload(folder, checkpoint):
    """A file that runs something if it is unpickled, under its own hash.

    Returns:
        Path: The file.
    """
    folder.mkdir(exist_ok=True)
    path = folder / 'unnamed'
    torch.save(checkpoint, path)
    return path.rename(folder / f'{NAME}_20260101-{hash_of(path)[:8]}.pth')


def write_index(folder, weights=None, **others):
    """A model-index.yml with one metafile.

    Args:
        folder (Path): Where.
        weights (str, optional): Of the model called ``NAME``.
        **others (str): Further names, and their weights.

    Returns:
        str: Path of the model-index.yml.
    """
    models = [dict(Name=NAME, Config='configs/tiny/tiny.py', Weights=weights)]
    models += [dict(Name=name, Weights=url) for name, url in others.items()]
    if weights is None:
        del models[0]['Weights']
    (folder / 'configs').mkdir(parents=True, exist_ok=True)
    (folder / 'configs' / 'metafile.yml').write_text(
        yaml.safe_dump(dict(Models=models)))
    index = folder / 'model-index.yml'
    index.write_text('Import:\n  - configs/metafile.yml\n')
    return str(index)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """No mirror, an empty cache and no way around this machine."""
    monkeypatch.delenv('MMKDNA_WEIGHTS', raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')


@pytest.fixture
def cache(tmp_path):
    """Lists what the cache holds."""
    folder = tmp_path / 'torch' / 'hub' / 'checkpoints'
    return lambda: [path.name for path in folder.glob('*')]


@pytest.fixture
def server(tmp_path):
    """Serves a folder; has ``url``, ``requests`` and ``send_half``."""

    class Handler(http.server.SimpleHTTPRequestHandler):

        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path / 'server'))

        def do_GET(self):
            server.requests.append(self.path)
            super().do_GET()

        def copyfile(self, source, outputfile):
            data = source.read()
            # The header says how much was to come.
            outputfile.write(data[:len(data) //
                                  2] if server.send_half else data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.url = f'http://127.0.0.1:{server.server_address[1]}'
    server.requests = []
    server.send_half = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_mirror_comes_first(tmp_path, monkeypatch, server, cache):
    file = release(tmp_path / 'mirror')
    index = write_index(tmp_path, f'{server.url}/v1/{file.name}')
    monkeypatch.setenv('MMKDNA_WEIGHTS', str(tmp_path / 'mirror'))
    assert resolve(NAME, index) == str(file)
    assert not server.requests and not cache()


@pytest.mark.parametrize('mirror', [False, True])
def test_download_once(tmp_path, monkeypatch, server, cache, mirror):
    file = release(tmp_path / 'server')
    index = write_index(tmp_path, f'{server.url}/{file.name}?download=1')
    if mirror:
        # It has other files, but not this one.
        release(tmp_path / 'mirror').rename(tmp_path / 'mirror' / 'other.pth')
        monkeypatch.setenv('MMKDNA_WEIGHTS', str(tmp_path / 'mirror'))
    found = Path(resolve(NAME, index))
    assert found.read_bytes() == file.read_bytes()
    assert cache() == [file.name] == [found.name]
    assert resolve(NAME, index) == str(found)
    assert server.requests == [f'/{file.name}?download=1']


def test_truncated_download(tmp_path, server, cache):
    file = release(tmp_path / 'server')
    index = write_index(tmp_path, f'{server.url}/{file.name}')
    server.send_half = True
    with pytest.raises(CheckpointError) as error:
        resolve(NAME, index)
    assert file.name in str(error.value)
    assert not cache()
    # It did no lasting harm.
    server.send_half = False
    assert hash_of(resolve(NAME, index)) == hash_of(file)


def test_wrong_file_in_cache(tmp_path, server, cache):
    file = release(tmp_path / 'server')
    index = write_index(tmp_path, f'{server.url}/{file.name}')
    cached = Path(resolve(NAME, index))
    cached.write_bytes(cached.read_bytes()[:-1])
    found = hash_of(cached)
    with pytest.raises(CheckpointError) as error:
        resolve(NAME, index)
    for part in (str(cached), file.stem[-8:], found, 'deleted'):
        assert part in str(error.value)
    assert not cache()
    assert hash_of(resolve(NAME, index)) == hash_of(file)


def test_wrong_file_in_mirror(tmp_path, monkeypatch, cache):
    file = release(tmp_path / 'mirror')
    index = write_index(tmp_path, f'https://example.invalid/{file.name}')
    monkeypatch.setenv('MMKDNA_WEIGHTS', str(tmp_path / 'mirror'))
    data = bytearray(file.read_bytes())
    # Half way is the data of a tensor, in which torch notices nothing.
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError) as error:
        resolve(NAME, index)
    for part in (str(file), file.stem[-8:], hash_of(file), 'Copy it'):
        assert part in str(error.value)
    # It is the user's, and stays.
    assert file.read_bytes() == data
    assert not cache()


def test_cannot_be_downloaded(tmp_path, server, cache):
    (tmp_path / 'server').mkdir()
    file = f'{NAME}_20260101-0123abcd.pth'
    for url, reason in ((f'{server.url}/{file}', '404'),
                        ('http://127.0.0.1:9/' + file, 'refused')):
        with pytest.raises(
                CheckpointError, match=f'{reason}.*MMKDNA_WEIGHTS') as error:
            resolve(NAME, write_index(tmp_path, url))
        assert url in str(error.value)
    assert not cache()


def test_beside_the_index(tmp_path, cache):
    """In a checkout and in an installation, the folder weights is there."""
    file = release(tmp_path / 'weights')
    index = write_index(tmp_path, f'weights/{file.name}')
    assert resolve(NAME, index) == str(file)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match='Install mmkdna again') as error:
        resolve(NAME, index)
    for part in (str(file), RELEASED.stem[-8:], hash_of(file)):
        assert part in str(error.value)
    file.unlink()
    with pytest.raises(CheckpointError, match='MMKDNA_WEIGHTS') as error:
        resolve(NAME, index)
    for part in (str(file), 'metafile.yml', 'install mmkdna again'):
        assert part in str(error.value)
    assert not cache()


def test_a_mirror_comes_before_it(tmp_path, monkeypatch):
    file = release(tmp_path / 'mirror')
    monkeypatch.setenv('MMKDNA_WEIGHTS', str(tmp_path / 'mirror'))
    assert resolve(NAME) == str(file)
    monkeypatch.delenv('MMKDNA_WEIGHTS')
    assert resolve(NAME) == str(RELEASED)


def test_unknown_name(tmp_path):
    index = write_index(tmp_path, other='https://x/o_20260101-0a.pth')
    with pytest.raises(CheckpointError) as error:
        resolve(NAME.replace('xb64', 'xb4'), index)
    assert f'Closest: {NAME}.' in str(error.value)
    assert 'Models with weights: other.' in str(error.value)
    with pytest.raises(CheckpointError) as error:
        resolve('../../etc', index)
    assert 'Closest' not in str(error.value)


def test_name_without_weights(tmp_path):
    index = write_index(tmp_path, None)
    with pytest.raises(CheckpointError) as error:
        resolve(NAME, index)
    for part in (NAME, 'metafile.yml', 'No model has released weights',
                 'configs/tiny/tiny.py'):
        assert part in str(error.value)


def test_weights_without_hash(tmp_path):
    index = write_index(tmp_path, 'https://example.invalid/tiny.pth')
    with pytest.raises(CheckpointError, match='tiny.pth.*YYYYMMDD-HASH'):
        resolve(NAME, index)


def test_mirror_that_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('MMKDNA_WEIGHTS', str(tmp_path / 'typo'))
    index = write_index(tmp_path, 'https://x/a_20260101-0123abcd.pth')
    with pytest.raises(CheckpointError, match='MMKDNA_WEIGHTS=.*typo'):
        resolve(NAME, index)


@pytest.mark.parametrize('weights', [
    '../elsewhere/{}', 'a/../../elsewhere/{}', '{folder}/elsewhere/{}',
    'file://{folder}/elsewhere/{}', 'ftp://127.0.0.1/{}'
])
def test_paths_stay_inside(tmp_path, cache, weights):
    """Also to a file that is what its name says."""
    file = release(tmp_path / 'elsewhere')
    index = write_index(tmp_path / 'index',
                        weights.format(file.name, folder=tmp_path))
    with pytest.raises(CheckpointError, match='is expected|in it'):
        resolve(NAME, index)
    with pytest.raises(CheckpointError, match='no metafile has a model'):
        resolve(weights.format(file.name, folder=tmp_path), index)
    inside = release(tmp_path / 'index')
    write_index(tmp_path / 'index', f'a/../{inside.name}')
    (tmp_path / 'index' / 'a').mkdir()
    assert resolve(NAME, index).endswith(inside.name)


@pytest.mark.parametrize('entry', ['../metafile.yml', '/metafile.yml', '7'])
def test_metafiles_stay_inside(tmp_path, entry):
    (tmp_path / 'index.yml').write_text(f'Import: [{entry}]')
    with pytest.raises(CheckpointError, match='leads out of|is no path'):
        read_models(str(tmp_path / 'index.yml'))


def test_metafiles_run_nothing(tmp_path):
    ran = tmp_path / 'ran'
    index = write_index(tmp_path)
    (tmp_path / 'configs' / 'metafile.yml'
     ).write_text(f'Models: !!python/object/apply:os.mkdir ["{ran}"]')
    with pytest.raises(CheckpointError, match='metafile.yml is expected to'):
        read_models(index)
    assert not ran.exists()
    yaml.unsafe_load((tmp_path / 'configs' / 'metafile.yml').read_text())
    assert ran.exists()


def test_own_metafiles():
    """Those of this checkout are read, and name their configs."""
    models = read_models()
    assert models
    for name, model in models.items():
        assert (ROOT / model['Config']).is_file()
        assert Path(model['Config']).stem == name
    with pytest.raises(CheckpointError, match='no metafile has a model'):
        CheckpointLoader.load_checkpoint('mmkdna://no-such-model')


class Payload:

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


LOAD = f'''
import sys
import mmkdna, torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint

cfg = Config.fromfile(sys.argv[1])
by_name = dict(type='Pretrained', checkpoint='mmkdna://{NAME}')
scope = dict(_scope_='mmpretrain')
model = MODELS.build(dict(cfg.model, **scope))
load_checkpoint(model, by_name['checkpoint'], strict=True)
# As a start, with a prefix.
backbone = MODELS.build(dict(
    cfg.model.backbone, init_cfg=dict(by_name, prefix='backbone.'), **scope))
backbone.init_weights()
for ours, theirs in zip(backbone.parameters(), model.backbone.parameters()):
    assert torch.equal(ours, theirs)
torch.save(model.state_dict(), sys.argv[2])
'''


@pytest.fixture
def installed(tmp_path):
    """A copy of the package; returns how to start a program beside it."""
    site = tmp_path / 'site'
    shutil.copytree(
        ROOT / 'mmkdna',
        site / 'mmkdna',
        ignore=shutil.ignore_patterns('__pycache__', '.mim'))

    def start(program, *args, **env):
        return subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', program, *args],
            cwd=tmp_path,
            env=dict(
                os.environ, PYTHONPATH=str(site), OMP_NUM_THREADS='1', **env),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)

    start.site = site
    return start


def test_mmengine_loads_by_name(tmp_path, installed):
    file = release(tmp_path / 'mirror')
    write_index(installed.site / 'mmkdna' / '.mim',
                f'https://example.invalid/{file.name}')
    pytest.importorskip('mmpretrain')
    config = str(ROOT / read_models()[NAME]['Config'])
    loaded = str(tmp_path / 'loaded.pth')
    process = installed(
        LOAD, config, loaded, MMKDNA_WEIGHTS=str(tmp_path / 'mirror'))
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert str(file) in out
    weights = load_file(loaded)
    expected = init_model(config, file).state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)


# What happens to each of two names, on every rank there is.
TRY = f'''
import os
import mmkdna, torch
from mmengine.runner import CheckpointLoader
from mmkdna.checkpoints.files import CheckpointError

if 'RANK' in os.environ:
    torch.distributed.init_process_group('gloo')
for name in ('{NAME}', 'second'):
    try:
        CheckpointLoader.load_checkpoint(f'mmkdna://{{name}}')
        print(name, 'is loaded')
    except CheckpointError as error:
        print(name, 'is refused:', error)
'''


def test_wrong_file_never_runs(tmp_path, installed):
    ran = tmp_path / 'ran'
    mirror = tmp_path / 'mirror'
    file = release_payload(mirror, dict(state_dict={}, a=Payload(ran)))
    wrong = mirror / 'second_20260101-00000000.pth'
    shutil.copy(file, wrong)
    write_index(
        installed.site / 'mmkdna' / '.mim',
        f'https://example.invalid/{file.name}',
        second=f'https://example.invalid/{wrong.name}')
    out, _ = installed(TRY, MMKDNA_WEIGHTS=str(mirror)).communicate()
    assert f'{NAME} is refused: {file} is not read' in out
    assert f'second is refused: {wrong} is not the file' in out
    assert not ran.exists()
    torch.load(wrong, weights_only=False)
    assert ran.exists()


def test_one_rank_downloads(tmp_path, installed, server, cache):
    file = release(tmp_path / 'server')
    write_index(
        installed.site / 'mmkdna' / '.mim',
        f'{server.url}/{file.name}',
        second=f'{server.url}/second_20260101-0123abcd.pth')
    port = str(free_port())
    ranks = [
        installed(
            TRY,
            RANK=str(rank),
            WORLD_SIZE='2',
            MASTER_ADDR='127.0.0.1',
            MASTER_PORT=port,
            GLOO_SOCKET_IFNAME='lo') for rank in range(2)
    ]
    for rank in ranks:
        out, _ = rank.communicate(timeout=300)
        assert f'{NAME} is loaded' in out, out
        # None waits for ever for the one that has failed.
        assert 'second is refused' in out and '404' in out, out
    assert server.requests.count(f'/{file.name}') == 1
    assert cache() == [file.name]
