"""Linear CKA between layers, over minibatches."""
from __future__ import annotations
from typing import Sequence

import torch
from torch import Tensor

# Of fewer pictures the estimator knows nothing.
MIN_BATCH = 4


class MinibatchCKA:
    r"""Linear centered kernel alignment of all pairs of layers.

    With the Gram matrices :math:`K` and :math:`L` of two layers over the
    :math:`n` pictures of a batch, their diagonals set to zero,

    .. math::
        \text{HSIC}_1 = \frac{1}{n (n - 3)} \left[\text{tr}(KL)
        + \frac{1^T K 1 \cdot 1^T L 1}{(n - 1) (n - 2)}
        - \frac{2}{n - 2} 1^T K L 1\right]

    is summed over batches, and the CKA is the sum of the two layers over the
    geometric mean of the sums of each with itself. The estimator is unbiased,
    so that layers that have nothing in common come out around 0, also a bit
    below. Source: arXiv 2010.15327.

    What is kept is a number for each pair, however many pictures there are.

    Args:
        num_layers (int): How many layers there are.
    """

    def __init__(self, num_layers: int) -> None:
        self._sums = torch.zeros(num_layers, num_layers, dtype=torch.float64)

    def add(self, grams: Sequence[Tensor]) -> None:
        """Add a batch.

        Args:
            grams (Sequence[Tensor]): Of each layer, from :func:`gram`, shape
                (N, N).

        Raises:
            ValueError: If the batch has fewer than 4 pictures.
        """
        kernels = torch.stack(list(grams)).double()
        num = kernels.shape[1]
        if num < MIN_BATCH:
            raise ValueError(f'a batch of {num} pictures is given, '
                             f'{MIN_BATCH} or more are expected')
        kernels.diagonal(dim1=1, dim2=2).zero_()
        rows = kernels.sum(2)
        totals = rows.sum(1)
        traces = kernels.flatten(1) @ kernels.flatten(1).t()
        self._sums += (traces + torch.outer(totals, totals) /
                       ((num - 1) *
                        (num - 2)) - 2 * rows @ rows.t() / (num - 2)) / (
                            num * (num - 3))

    def value(self) -> Tensor:
        """Compute the CKA of all pairs.

        Returns:
            Tensor: Shape (L, L), symmetric, 1 on the diagonal; nan for a layer
            that is the same for all pictures.
        """
        own = self._sums.diagonal().clamp(min=0).sqrt()
        value = self._sums / torch.outer(own, own)
        return value.masked_fill(value.isinf(), float('nan'))


def gram(features: Tensor) -> Tensor:
    """Compare the pictures of a batch by what a layer makes of them.

    The mean over pictures is taken away before, which changes nothing in
    HSIC_1 but keeps the products small.

    Args:
        features (Tensor): Shape (N, ...).

    Returns:
        Tensor: Inner products of the features, shape (N, N).
    """
    flat = features.flatten(1)
    if not flat.numel():
        return flat.new_zeros(len(flat), len(flat))
    # What rounding leaves of equal features is no difference.
    rounding = 4 * torch.finfo(flat.dtype).eps * flat.abs().max()
    flat = flat - flat.mean(0)
    flat = flat.where(flat.abs() > rounding, 0)
    return flat @ flat.t()
