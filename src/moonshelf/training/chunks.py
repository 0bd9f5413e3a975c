"""Batches beyond memory: a batch is encoded in chunks, and chunks are encoded again when their gradient comes.

Contrastive losses need all embeddings of a batch at once, but not all activations. Only the graphs that fit a budget
stay; the other chunks are encoded without one and again on the way back, one at a time (GradCache, Gao et al. 2021;
keeping what fits, and chunks of texts of like length, are our design). The loss sees plain embeddings, so every
loss and Matryoshka work as they are. Values and gradients are those of the whole batch: the random state and
autocast settings of each chunk are replayed.

``torch.utils.checkpoint`` would do the same; its first pass builds graphs under hooks, which made a step of a small
BERT a fifth slower than this one (docs/LOG.md, E22).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from moonshelf.types import ProductBatch

WIDTH_STEP = (
    4  # finer than whole batches are padded to: with steps of 8 half of what trimming saves is lost (E22)
)


def split(batch: ProductBatch, rows: int) -> list[Tensor]:
    """Row numbers of each chunk, at most ``rows`` a chunk; texts of like length lie together, the longest last.

    A chunk is as wide as its longest text, so a batch of mixed titles has less to compute than padded as a whole.
    """
    order = torch.argsort(batch.mask.sum(1), stable=True)
    return [chosen.sort().values for chosen in torch.split(order, rows)]


def take(batch: ProductBatch, rows: Tensor) -> ProductBatch:
    """The rows (ascending numbers) of a batch with their photos, their texts no wider than the longest of them."""
    place = torch.full((batch.size,), -1, device=batch.owner.device)
    place[rows] = torch.arange(len(rows), device=place.device)
    owner = place[batch.owner]
    there = owner >= 0
    mask = batch.mask[rows]
    used = mask.any(0).nonzero()
    longest = int(used[-1]) + 1 if len(used) else 0
    width = (
        -(-longest // WIDTH_STEP) * WIDTH_STEP
    )  # few shapes, as in ``collate``; a slice ends with the batch
    return ProductBatch(
        len(rows), batch.images[there], owner[there], batch.ids[rows, :width], mask[:, :width]
    )


def encode_in_chunks(
    encode: Callable[[ProductBatch], Tensor], batch: ProductBatch, *, rows: int = 0, budget: int = 0
) -> Tensor:
    """``encode(batch)``, holding the activations of one chunk and of those that fit the budget.

    Args:
        encode: a tower; may draw random numbers (dropout).
        batch: of any size.
        rows: rows of a chunk; 0 encodes the batch whole.
        budget: bytes of activations that are held, so that their chunks are not encoded twice; the chunks of the
            longest texts come first, as they save most.

    Returns:
        ``[batch.size, D]``, rows in order. Gradients reach parameters by ``backward()``; ``torch.autograd.grad`` does
        not see those of chunks that are made again.

    Cost: one more forward pass for every chunk that is not held: 1.33 times the work of plain training without a
    budget when a backward pass costs two forward passes, 1.0 when all are held. Memory: the budget and two chunks.
    """
    if not rows or batch.size <= rows:
        return encode(batch)
    chunks = split(batch, rows)[::-1]
    anchor = torch.zeros((), requires_grad=True)  # what makes the outputs of the first pass part of a graph
    parts: list[Tensor] = []
    held = latest = 0
    for chosen in chunks:
        if not torch.is_grad_enabled():
            parts.append(encode(take(batch, chosen)))
        elif budget and held + latest <= budget:  # the one before is about as large as this one
            saved = _Saved()
            with saved:
                parts.append(encode(take(batch, chosen)))
            latest = saved.bytes
            held += latest
        else:
            parts.append(_Again.apply(anchor, encode, batch, chosen))  # type: ignore[no-untyped-call]
    return torch.cat(parts)[torch.argsort(torch.cat(chunks))]


class _Saved(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that graphs hold on to, each tensor once, without those that are there anyway (leaves)."""

    def __init__(self) -> None:
        self.bytes, seen = 0, set[int]()

        def pack(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            if not value.is_leaf or not value.requires_grad:
                new = storage.data_ptr() not in seen
                seen.add(storage.data_ptr())
                self.bytes += storage.nbytes() if new else 0
            return value

        super().__init__(pack, lambda value: value)


class _Again(torch.autograd.Function):
    """``encode(take(batch, rows))`` without a graph; then with one, and the same random state and autocast."""

    @staticmethod
    def forward(ctx, anchor, encode, batch, rows):  # type: ignore[no-untyped-def]
        device = batch.ids.device
        ctx.again = lambda: encode(
            take(batch, rows)
        )  # the pixels of a chunk are cut out twice, not held twice
        ctx.gpus = [device.index or torch.cuda.current_device()] if device.type == "cuda" else []
        ctx.state = torch.get_rng_state(), [torch.cuda.get_rng_state(i) for i in ctx.gpus]
        ctx.autocast = {
            "device_type": device.type,
            "dtype": torch.get_autocast_dtype(device.type),
            "enabled": torch.is_autocast_enabled(device.type),
        }
        return ctx.again()

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        with torch.random.fork_rng(ctx.gpus), torch.enable_grad(), torch.autocast(**ctx.autocast):
            torch.set_rng_state(ctx.state[0])
            for gpu, state in zip(ctx.gpus, ctx.state[1], strict=True):
                torch.cuda.set_rng_state(state, gpu)
            rows = ctx.again()
        torch.autograd.backward(rows, gradient)  # adds to the gradients of the tower's parameters
        return None, None, None, None
