"""A folder of pictures, read batch by batch."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmkdna.launch.errors import CommandError
from mmkdna.launch.pictures import Pictures, find_pictures, picture_size


class Model:
    """Gives pictures back as they come."""

    def data_preprocessor(self, data, training):
        assert not training
        return dict(inputs=torch.stack(data['inputs']))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, (height, width) in {
            'a.png': (20, 40),
            'deep/er/b.JPG': (30, 30),
            'c.jpg': (7, 5)
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 255, (height, width, 3), np.uint8)
        cv2.imwrite(str(path), picture)
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


def test_all_folders_are_looked_through(folder):
    assert [path.name
            for path in find_pictures(folder)] == ['a.png', 'c.jpg', 'b.JPG']


def test_batches_have_one_size_and_the_last_what_is_left(folder):
    batches = Pictures(folder, Model(), (10, 12), 2)
    assert len(batches) == 2
    # As often as wanted.
    for _ in range(2):
        assert [tuple(batch.shape) for batch in batches] == [(2, 3, 10, 12),
                                                             (1, 3, 10, 12)]


def test_the_middle_is_taken_of_a_picture_that_is_not_distorted(folder):
    picture = cv2.imread(str(folder / 'a.png'))
    batch = next(iter(Pictures(folder, Model(), (20, 20), 1)))
    assert np.array_equal(batch[0].permute(1, 2, 0).numpy(), picture[:, 10:30])


def test_no_folder(tmp_path):
    with pytest.raises(
            CommandError,
            match='nowhere is given as folder of pictures, but '
            'there is no such folder'):
        find_pictures(tmp_path / 'nowhere')


def test_no_picture(tmp_path):
    (tmp_path / 'notes.txt').write_text('no picture')
    with pytest.raises(CommandError, match='there is none in it'):
        find_pictures(tmp_path)


def test_too_few_pictures(folder):
    assert len(find_pictures(folder, 3)) == 3
    with pytest.raises(CommandError, match='has 3 pictures, 4 or more are'):
        find_pictures(folder, 4)


def test_the_size_that_is_given_comes_before_the_config():
    cfg = Config(dict(default_scope='mmpretrain'))
    assert picture_size(None, cfg, 'a.py') == (224, 224)
    assert picture_size([20, 30], cfg, 'a.py') == [20, 30]


@pytest.mark.parametrize('content', [b'', b'no picture at all'])
def test_a_broken_picture_is_named(folder, content):
    (folder / 'b.png').write_bytes(content)
    with pytest.raises(CommandError, match='b.png cannot be read as a pic'):
        list(Pictures(folder, Model(), (10, 12), 2))
