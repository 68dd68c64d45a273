"""A folder of pictures, read batch by batch, without labels."""
from __future__ import annotations
from pathlib import Path
from typing import Any, Iterator, Sequence

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from ..analysis.cost import image_shape
from ..forward import forward_dense
from .errors import CommandError, describe

# In lower case.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm')


class Pictures:
    """Batches of a folder's pictures, as a model gets them.

    A picture is resized so that it covers the wanted size, and its middle is
    taken; so all are of one size, and none is distorted. They are read again
    in each iteration, so that memory does not grow with their number.

    Args:
        folder (str | Path): The folder; its folders are looked through, too.
        model (nn.Module): A model of a host library, whose data preprocessor
            normalizes the pictures.
        size (Sequence[int]): Height and width in pixels.
        batch_size (int): Pictures in a batch; the last may have fewer.
        files (Sequence[Path], optional): Those of the folder that count.
            Defaults to None, all of :func:`find_pictures`.

    Raises:
        CommandError: If the folder has no pictures.
    """

    def __init__(self,
                 folder: str | Path,
                 model: Any,
                 size: Sequence[int],
                 batch_size: int,
                 files: Sequence[Path] | None = None) -> None:
        self.files = find_pictures(folder) if files is None else list(files)
        self.model = model
        self.size = tuple(size)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """int: Number of batches."""
        return -(-len(self.files) // self.batch_size)

    def __getitem__(self, number: int) -> Tensor:
        if not 0 <= number < len(self):
            raise IndexError(f'batch {number} of {len(self)}')
        start = number * self.batch_size
        pictures = [
            self._read(file)
            for file in self.files[start:start + self.batch_size]
        ]
        data = dict(inputs=pictures, data_samples=None)
        return self.model.data_preprocessor(data, False)['inputs']

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(len(self)):
            yield self[number]

    def _read(self, file: Path) -> Tensor:
        """Read a picture, shape (3, H, W), uint8, in the order BGR."""
        try:
            picture = mmcv.imread(file)
        except Exception as error:
            raise CommandError(f'{file} cannot be read as a picture: {error}: '
                               'take it out of the folder') from error
        if picture is None:
            raise CommandError(f'{file} cannot be read as a picture: take it '
                               'out of the folder')
        height, width = self.size
        factor = max(height / picture.shape[0], width / picture.shape[1])
        # Rounded up, so that it covers the size.
        picture = mmcv.imresize(
            picture, (max(width, int(np.ceil(picture.shape[1] * factor))),
                      max(height, int(np.ceil(picture.shape[0] * factor)))))
        top = (picture.shape[0] - height) // 2
        left = (picture.shape[1] - width) // 2
        picture = picture[top:top + height, left:left + width]
        return torch.from_numpy(
            np.ascontiguousarray(picture.transpose(2, 0, 1)))


def picture_size(size: Sequence[int] | None, cfg: Config,
                 config: str) -> Sequence[int]:
    """Find the size of the pictures that a model is run on.

    Args:
        size (Sequence[int], optional): The --size that was given.
        cfg (Config): The model's config.
        config (str): Its file.

    Returns:
        Sequence[int]: Height and width in pixels.

    Raises:
        CommandError: If none was given, and the config has none.
    """
    try:
        return size or image_shape(cfg)
    except ValueError as error:
        raise CommandError(
            f'{config} is given, but {error}: give --size') from error


@torch.no_grad()
def check_run(pictures: Pictures, config: str) -> None:
    """End a command whose model does not run on its pictures.

    Args:
        pictures (Pictures): The pictures, with the model.
        config (str): The file of the model's config.

    Raises:
        CommandError: If it does not run on the first of them.
    """
    first = pictures[0][:1]
    try:
        forward_dense(pictures.model, first)
    except Exception as error:
        raise CommandError(
            f'{config} is given, but its model does not run on pictures of '
            f'{pictures.size}, see --size: {describe(error)}') from error


def find_pictures(folder: str | Path, fewest: int = 1) -> list[Path]:
    """Find the pictures in a folder.

    Args:
        folder (str | Path): The folder; its folders are looked through, too.
        fewest (int): How many there have to be. Defaults to 1.

    Returns:
        list[Path]: Those with a suffix of a picture, sorted.

    Raises:
        CommandError: If there is no such folder, or too few in it.
    """
    if not Path(folder).is_dir():
        raise CommandError(f'{folder} is given as folder of pictures, but '
                           'there is no such folder')
    files = sorted(
        path for path in Path(folder).rglob('*')
        if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise CommandError(
            f'{folder} is given as folder of pictures, but there is none in '
            f'it: files of {", ".join(SUFFIXES)} are expected')
    if len(files) < fewest:
        raise CommandError(f'{folder} is given as folder of pictures, but it '
                           f'has {len(files)} pictures, {fewest} or more are '
                           'expected')
    return files
