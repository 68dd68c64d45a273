"""Pictures that are looked at many times, on disk."""
from __future__ import annotations
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Iterable

import torch
from torch import Tensor


class StoredBatches(Sequence):
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

    def __getitem__(self, number: Any) -> Tensor:
        return torch.load(self.files[number], weights_only=True)

    def __len__(self) -> int:
        """int: Number of batches."""
        return len(self.files)
