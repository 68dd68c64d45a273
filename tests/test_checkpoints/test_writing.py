"""Files that are written as a whole or not at all."""
import os
import threading

import pytest

from mmkdna.checkpoints.writing import delete_unfinished, written_whole


def write(path, text='new'):
    with written_whole(path, 'w') as file:
        file.write(text)


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file'
    path.write_text('old')
    with pytest.raises(ZeroDivisionError):
        with written_whole(path, 'w') as file:
            file.write('ne')
            1 / 0
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


def test_a_link_stays_one(tmp_path):
    (tmp_path / 'target').write_text('old')
    (tmp_path / 'link').symlink_to('target')
    write(tmp_path / 'link')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'target').read_text() == 'new'


def test_what_is_no_file_is_not_replaced(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    writing = threading.Thread(target=write, args=(pipe, ))
    writing.start()
    assert pipe.read_text() == 'new'
    writing.join()
    assert pipe.is_fifo()


def test_deletes_what_killed_processes_have_left(tmp_path):
    (tmp_path / 'inner').mkdir()
    gone = 2**22 + 1  # more than a process can have
    for name, stays in {
            f'.epoch_1.pth.{gone}.unfinished': False,
            f'.last_checkpoint.{gone}.unfinished': False,
            f'inner/.rank0.pth.{gone}.unfinished': False,
            f'.epoch_2.pth.{os.getpid()}.unfinished': True,
            '.notes.unfinished': True,
            f'.epoch_3.pth.{gone}': True,
    }.items():
        (tmp_path / name).touch()
        delete_unfinished(tmp_path)
        assert (tmp_path / name).exists() == stays, name
