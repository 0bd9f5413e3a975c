"""Batches beyond memory: a batch is encoded in chunks, and chunks are encoded again when their gradient comes.

Contrastive losses need all embeddings of a batch at once, but not all activations. Only the graphs of ``keep``
chunks stay; the others are dropped after the forward pass and made again on the way back, one at a time
(GradCache, Gao et al. 2021, by way of ``torch.utils.checkpoint``; keeping what fits is our design). The loss
sees plain embeddings, so every loss and Matryoshka work as they are. Values and gradients are those of the whole
batch: the random state and autocast settings of each chunk are replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from moonshelf.types import ProductBatch


def split(batch: ProductBatch, rows: int) -> Iterator[ProductBatch]:
    """Consecutive rows of a batch, at most ``rows`` a chunk, each with its own photos."""
    for start in range(0, batch.size, rows):
        stop = min(start + rows, batch.size)
        first, last = torch.searchsorted(
            batch.owner, torch.tensor([start, stop], device=batch.owner.device)
        ).tolist()
        yield ProductBatch(
            stop - start,
            batch.images[first:last],
            batch.owner[first:last] - start,
            batch.ids[start:stop],
            batch.mask[start:stop],
        )


def encode_in_chunks(
    encode: Callable[[ProductBatch], Tensor], batch: ProductBatch, *, rows: int = 0, keep: int = 0
) -> Tensor:
    """``encode(batch)``, holding the activations of ``keep + 1`` chunks at most.

    Args:
        encode: a tower; may draw random numbers (dropout).
        batch: of any size.
        rows: rows of a chunk; 0 encodes the batch whole.
        keep: chunks whose activations are held, so that they are not encoded twice: as many as memory allows.

    Returns:
        ``[batch.size, D]``, rows in order.

    Cost: one more forward pass for every chunk that is not kept: 1.33 times the work of plain training at
    ``keep=0`` when a backward pass costs two forward passes, 1.0 when all are kept.
    """
    if not rows or batch.size <= rows:
        return encode(batch)
    chunks = list(split(batch, rows))
    if not torch.is_grad_enabled():
        return torch.cat([encode(chunk) for chunk in chunks])

    def run(images: Tensor, owner: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        return encode(ProductBatch(len(mask), images, owner, ids, mask))

    # the last chunks are kept: their gradients are worked off first, which frees them before anything is made again
    first_kept = len(chunks) - min(keep, len(chunks))
    out = []
    for i, chunk in enumerate(chunks):
        tensors = (chunk.images, chunk.owner, chunk.ids, chunk.mask)
        out.append(run(*tensors) if i >= first_kept else checkpoint(run, *tensors, use_reentrant=False))
    return torch.cat(out)
