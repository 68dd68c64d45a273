"""Pictures that are looked at many times: on disk, and in several views."""
from __future__ import annotations
from pathlib import Path
from typing import Iterable, Protocol

import torch
from torch import Tensor, nn

# The least part of a side that a crop has.
LEAST = 0.5


class Batches(Protocol):
    """A number of batches of pictures, shape (N, 3, H, W) each."""

    def __len__(self) -> int:
        """int: Number of batches."""

    def __getitem__(self, number: int) -> Tensor:
        """Tensor: A batch; IndexError behind the last one."""


class StoredBatches:
    """Batches of pictures in files, of which one is in memory at a time.

    Args:
        batches (Iterable[Tensor]): The batches, written one after the other.
        folder (str | Path): Where to, a file for each.
    """

    def __init__(self, batches: Iterable[Tensor], folder: str | Path) -> None:
        self.files: list[Path] = []
        for number, batch in enumerate(batches):
            self.files.append(Path(folder, f'{number}.pt'))
            torch.save(batch.cpu(), self.files[-1])

    def __getitem__(self, number: int) -> Tensor:
        return torch.load(self.files[number], weights_only=True)

    def __len__(self) -> int:
        """int: Number of batches."""
        return len(self.files)


class Views:
    """Batches as they are, and then crops of them.

    A crop has half of each side or more, and its old size again; one of two is
    mirrored. It is the same each time it is looked at.

    Args:
        batches (Batches): Pictures.
        views (int): How often each batch is there, 1 for none but itself.
        seed (int): Of the crops.
    """

    def __init__(self, batches: Batches, views: int, seed: int) -> None:
        self.batches = batches
        self.views = views
        self.seed = seed

    def __getitem__(self, number: int) -> Tensor:
        if not 0 <= number < len(self):
            # Ends a loop over it.
            raise IndexError(f'{number} is none of the {len(self)} batches')
        batch = self.batches[number % len(self.batches)]
        if number < len(self.batches):
            return batch
        generator = torch.Generator()
        generator.manual_seed(self.seed * len(self) + number)
        return torch.cat([_crop(one, generator) for one in batch.split(1)])

    def __len__(self) -> int:
        """int: Number of batches."""
        return self.views * len(self.batches)


def _crop(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Cut a part out of a picture, and mirror it or not."""
    part, mirrored, *place = torch.rand(4, generator=generator).tolist()
    sides = picture.shape[-2:]
    cut = [
        max(round(side * (LEAST + (1 - LEAST) * part)), 1) for side in sides
    ]
    (top, left) = (round(where * (side - length))
                   for where, side, length in zip(place, sides, cut))
    crop = nn.functional.interpolate(
        picture[..., top:top + cut[0], left:left + cut[1]],
        sides,
        mode='bilinear')
    return crop.flip(-1) if mirrored < 0.5 else crop
