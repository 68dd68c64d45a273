"""Which checkpoint a training goes on from."""
import os

import pytest
import torch
from mmengine.config import Config

from mmkdna.launch.resuming import find_newest


@pytest.fixture
def saved(tmp_path):
    """A config, and a function that saves a checkpoint of an epoch."""
    cfg = Config(dict(work_dir=str(tmp_path)))

    def save(name, time, data=None):
        path = tmp_path / name
        if data is None:
            torch.save(dict(state_dict=dict(a=torch.zeros(1))), path)
        else:
            path.write_bytes(data)
        os.utime(path, (time, time))
        return str(path)

    save.cfg, save.folder = cfg, tmp_path
    return save


def test_takes_the_newest_whole_one(saved):
    assert find_newest(saved.cfg) == (None, [])
    old = saved('epoch_12.pth', 10)  # of an earlier run
    second = saved('epoch_2.pth', 20)
    third = saved('epoch_3.pth', 30, b'half')
    saved('best_acc_epoch_3.pth', 40)
    last = saved.folder / 'last_checkpoint'

    path, said = find_newest(saved.cfg)
    assert path == second
    message, = said
    assert message.startswith(f'{third} is passed over by --resume: {third} ')
    last.write_text('')
    path, said = find_newest(saved.cfg)
    assert path == second
    assert 'last_checkpoint is passed over' in said[0] and len(said) == 2
    # All times are the same in a copy, or worse.
    for name in (old, second, third):
        os.utime(name, (50, 50))
    last.write_text('/moved/epoch_2.pth')
    path, said = find_newest(saved.cfg)
    assert path == second
    assert 'it names \'/moved/epoch_2.pth\', but there is no such' in said[0]
    # Cut, it may name a folder; and a machine that goes down leaves zeros.
    for time, name in ((10, old), (20, second), (30, third)):
        os.utime(name, (time, time))
    for text in (str(saved.folder), second[:-5], '\0' * len(second)):
        last.write_text(text)
        path, said = find_newest(saved.cfg)
        assert path == second
        assert 'there is no such checkpoint' in said[0] and len(said) == 2
    last.unlink()
    last.mkdir()
    path, said = find_newest(saved.cfg)
    assert path == second
    assert 'last_checkpoint is passed over' in said[0]
    last.rmdir()
    last.write_text('s3://bucket/epoch_7.pth')
    assert find_newest(saved.cfg) == ('s3://bucket/epoch_7.pth', [])


def test_takes_one_that_was_saved_but_not_named(saved):
    saved('epoch_2.pth', 20)
    third = saved('epoch_3.pth', 30)
    (saved.folder / 'last_checkpoint').write_text(saved('epoch_2.pth', 20))
    assert find_newest(saved.cfg) == (third, [])


def test_other_names_and_folders(saved):
    out = saved.folder / 'out' / saved.folder.name
    out.mkdir(parents=True)
    path = out / 'step-7.pth'
    torch.save({}, path)
    saved.cfg.default_hooks = dict(
        checkpoint=dict(
            out_dir=str(saved.folder / 'out'), filename_tmpl='step-{}.pth'))
    assert find_newest(saved.cfg) == (str(path), [])


def test_a_checkpoint_that_is_a_folder(saved, monkeypatch):
    """Each process of FSDP saves a part, and may be killed before it."""
    for epoch, ranks in ((1, 2), (2, 1)):
        (saved.folder / f'epoch_{epoch}.pth').mkdir()
        for rank in range(ranks):
            saved(f'epoch_{epoch}.pth/rank{rank}.pth', epoch)
        os.utime(saved.folder / f'epoch_{epoch}.pth', (epoch, epoch))
    (saved.folder / 'last_checkpoint').write_text(
        str(saved.folder / 'epoch_2.pth'))
    monkeypatch.setenv('WORLD_SIZE', '2')
    path, said = find_newest(saved.cfg)
    assert path == str(saved.folder / 'epoch_1.pth')
    assert 'rank1.pth' in said[0] and len(said) == 1
