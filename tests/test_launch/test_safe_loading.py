"""What mmengine loads for a tool is read, from wherever, and never run."""
import functools
import http.server
import json
import os
import threading
from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import load_checkpoint
from torch import nn

from mmkdna.checkpoints.files import CheckpointError
from mmkdna.launch.config import read_config
from mmkdna.launch.resuming import find_newest
from mmkdna.launch.runner import build_runner
from mmkdna.launch.safe_loading import safe_loading
from tests.runs import run_tool
from tests.test_checkpoints.crafted import (runs_where_getattr_is_allowed,
                                            save_program)

pytest.importorskip('mmpretrain')


class Payload:
    """A pickle of it makes a folder when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ('made', )


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder and the address at which a web server offers its files."""
    folder = tmp_path / 'served'
    folder.mkdir()
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Of proxies and of what is downloaded, nothing is that of the user.
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    yield folder, f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def make_zoo(tmp_path, url):
    """Name what is served to mmengine, as open-mmlab://NAME."""
    home = tmp_path / 'mmengine'
    home.mkdir(exist_ok=True)
    (home / 'open_mmlab.json').write_text(json.dumps(dict(zoo=url)))


# That a file is refused before anything is built is in test_train.py.
@pytest.mark.parametrize('scheme', ['http', 'open-mmlab'])
@pytest.mark.parametrize('key', ['load_from', 'init_cfg', 'resume', 'test'])
def test_nothing_is_run(classifier, served, scheme, key):
    folder, address = served
    bad = folder / f'bad-{scheme}-{key}.pth'
    torch.save(dict(state_dict={}, meta=Payload()), bad)
    make_zoo(classifier, f'{address}/{bad.name}')
    path = f'{address}/{bad.name}' if scheme == 'http' else 'open-mmlab://zoo'
    options = {
        'load_from': ['--cfg-options', f'load_from={path}'],
        'init_cfg': [
            '--cfg-options', 'model.backbone.init_cfg.type=Pretrained',
            f'model.backbone.init_cfg.checkpoint={path}'
        ],
        'resume': ['--resume', path],
        'test': [path]
    }
    tool = 'test' if key == 'test' else 'train'
    out = run_tool(tool, 'tiny.py', *options[key], cwd=classifier, fails=True)
    assert not (classifier / 'made').exists()
    assert 'Traceback' not in out
    message = out.strip().splitlines()[-1]
    for part in (path, 'mkdir', 'none of it has been run'):
        assert part in message


@pytest.mark.parametrize('safe', [True, False])
def test_the_config_in_a_checkpoint(classifier, safe):
    """Mmengine runs the one that mmcv 1 left in what it resumes from."""
    cfg = read_config('tiny.py')
    cfg.launcher, cfg.work_dir = 'none', 'work'
    runner = build_runner(cfg, ('train', ))
    torch.save(
        dict(
            state_dict=runner.model.state_dict(),
            optimizer=runner.optim_wrapper.state_dict(),
            message_hub=runner.message_hub.state_dict(),
            meta=dict(
                epoch=0,
                iter=0,
                seed=0,
                config='__import__("os").mkdir("made")')), 'bad.pth')
    with safe_loading() if safe else nullcontext():
        runner.resume('bad.pth')
    assert (classifier / 'made').exists() != safe


def test_what_last_checkpoint_names(classifier):
    """It is passed over by --resume, and so is a part of its folder."""
    work_dir = classifier / 'work'
    (work_dir / 'epoch_2.pth').mkdir(parents=True)
    for path in ('other.pth', 'epoch_1.pth', 'epoch_2.pth/rank0.pth'):
        torch.save(dict(state_dict={}, meta=Payload()), work_dir / path)
    cfg = Config(dict(work_dir=str(work_dir)))
    for named in ('other.pth', 'epoch_1.pth', 'epoch_2.pth'):
        (work_dir / 'last_checkpoint').write_text(str(work_dir / named))
        found, said = find_newest(cfg)
        assert found is None and 'mkdir' in ' '.join(said)
        assert any(named in line for line in said)
    assert not (classifier / 'made').exists()


def test_the_payload_would_run(classifier, served):
    folder, address = served
    torch.save(dict(state_dict={}, meta=Payload()), folder / 'bad.pth')
    CheckpointLoader.load_checkpoint(f'{address}/bad.pth')
    assert (classifier / 'made').is_dir()


@pytest.mark.skipif(
    not hasattr(torch.serialization, 'safe_globals'),
    reason='this torch cannot be told what to allow')
def test_what_mmengine_allows_is_not_allowed(classifier):
    """It passes for the state of a training, but a rival reader runs it."""
    save_program('bad.pth',
                 runs_where_getattr_is_allowed('import os; os.mkdir("made")'))
    with safe_loading():
        with pytest.raises(CheckpointError, match='bad.pth is not read'):
            CheckpointLoader.load_checkpoint('bad.pth')
    assert not (classifier / 'made').exists()
    CheckpointLoader.load_checkpoint('bad.pth')
    assert (classifier / 'made').exists()


def test_what_is_good_is_loaded(tmp_path, served):
    folder, address = served
    model = nn.Linear(2, 3)
    buffer = HistoryBuffer([0.5], [1])
    torch.save(
        dict(
            state_dict=model.state_dict(),
            message_hub=dict(log_scalars=dict(loss=buffer))),
        folder / 'good.pth')
    make_zoo(tmp_path, f'{address}/good.pth')
    for path in (f'{address}/good.pth', 'open-mmlab://zoo',
                 str(folder / 'good.pth')):
        other = nn.Linear(2, 3)
        with safe_loading():
            loaded = load_checkpoint(other, path, map_location='cpu')
        assert torch.equal(other.weight, model.weight)
        history = loaded['message_hub']['log_scalars']['loss']
        assert history.mean() == 0.5


def test_from_an_object_store(tmp_path, monkeypatch):
    """The loader of s3:// hands torch.load bytes in memory."""
    torch.save(dict(state_dict={}, meta=Payload()), tmp_path / 'bad.pth')
    data = (tmp_path / 'bad.pth').read_bytes()
    monkeypatch.chdir(tmp_path)

    class Store:

        def get(self, filepath):
            assert filepath == 's3://bucket/bad.pth'
            return data

    monkeypatch.setattr('mmengine.runner.checkpoint.get_file_backend',
                        lambda *args, **kwargs: Store())
    with safe_loading():
        with pytest.raises(CheckpointError, match='s3://bucket/bad.pth is gi'):
            CheckpointLoader.load_checkpoint('s3://bucket/bad.pth')
    assert not (tmp_path / 'made').exists()


def test_afterwards_all_is_as_before():
    before = CheckpointLoader.load_checkpoint, torch.load
    with safe_loading():
        assert CheckpointLoader.load_checkpoint != before[0]
    assert (CheckpointLoader.load_checkpoint, torch.load) == before
