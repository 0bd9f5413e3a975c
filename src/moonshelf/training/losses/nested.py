"""Matryoshka: any loss, over nested prefixes of the vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def matryoshka(loss: Callable[..., Tensor], vectors: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    """Weighted mean of ``loss(*prefixes)`` over nested widths (Kusupati et al. 2022): prefixes become good vectors.

    Each width counts in proportion to its length (256: 1, 128: 1/2, ...), so that short prefixes do not hold
    the full vector back; with equal weights recall@1 of the full vector fell by 8 points (docs/LOG.md, E5).

    ``loss`` gives a number, or several in a row: each is averaged on its own.

    Args:
        loss: takes the vectors, cut, in the order given.
        vectors: each ``[*, D]``, unnormalised.
        widths: lengths at which they are cut.
    """
    parts = [width * loss(*(v[:, :width] for v in vectors)) for width in widths]
    return torch.stack(parts).sum(0) / sum(widths)
