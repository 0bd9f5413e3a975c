"""Chunked encoding against the whole batch, with and without dropout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from moonshelf.encoder import CompactEncoder, Item
from moonshelf.encoder.inputs import collate
from moonshelf.training.chunks import WIDTH_STEP, encode_in_chunks, split, take
from moonshelf.training.losses import Relation, circle_loss, info_nce, matryoshka, sigmoid_loss, two_sided
from moonshelf.types import ProductBatch


def batch_of(encoder: CompactEncoder, n: int) -> ProductBatch:
    """Rows with a text, a photo, or two photos and a text; texts of one to six words."""
    rng = np.random.default_rng(0)

    def photo() -> np.ndarray:
        return rng.integers(0, 256, (3, 64, 64), dtype=np.uint8)

    kinds = [
        lambda i: Item("red mug for tea and coffee"[: 4 + 4 * i]),
        lambda i: Item(None, (photo(),)),
        lambda i: Item("mug", (photo(), photo())),
    ]
    return encoder.collate([kinds[i % 3](i) for i in range(n)])


def test_a_split_batch_holds_every_row_once(encoder: CompactEncoder) -> None:
    batch = batch_of(encoder, 7)
    chunks = split(batch, 3)
    parts = [take(batch, rows) for rows in chunks]
    assert [p.size for p in parts] == [3, 3, 1]
    assert sorted(torch.cat(chunks).tolist()) == [*range(7)]
    assert sum(len(p.images) for p in parts) == len(batch.images)
    whole = encoder.embed(batch)
    for rows, part in zip(chunks, parts, strict=True):
        assert torch.allclose(whole[rows], encoder.embed(part), atol=1e-5)


def test_a_chunk_is_as_wide_as_its_longest_text(encoder: CompactEncoder) -> None:
    words = [1, 30, 2, 4, 28, 9, 1, 20, 26]
    batch = collate([Item(" ".join(["mug"] * n)) for n in words], max_tokens=64)
    lengths = batch.mask.sum(1).sort().values
    for rows, longest in zip(split(batch, 3), (2, 5, 8), strict=True):
        part = take(batch, rows)
        assert part.ids.shape[1] == -(-int(lengths[longest]) // WIDTH_STEP) * WIDTH_STEP
        assert torch.equal(part.ids.sum(1), batch.ids[rows].sum(1))
    assert take(batch, split(batch, 3)[0]).ids.shape[1] < batch.ids.shape[1]


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Relation], torch.Tensor]] = {
    "info_nce": lambda a, b, r: info_nce(a, b, r, 5.0),
    "tiled": lambda a, b, r: info_nce(a, b, r, 5.0, tiled=(2, 3), smoothing=0.1),
    "both ways": lambda a, b, r: torch.stack(two_sided(a, b, r, 5.0, guard=0.5)).sum(),
    "bank": lambda a, b, r: info_nce(
        a, b, Relation((len(a), 2 * len(b)), r.positive, r.excluded), 5.0, bank=b.detach().flip(1)
    ),
    "circle": lambda a, b, r: circle_loss(a, b, r, gamma=8.0),
    "sigmoid": lambda a, b, r: sigmoid_loss(a, b, r, 5.0, -2.0),
}


def gradients(
    encoder: CompactEncoder,
    batch: ProductBatch,
    rows: int,
    budget: int,
    drop: float = 0.0,
    name: str = "info_nce",
) -> list[torch.Tensor]:
    encoder.zero_grad(set_to_none=True)
    dropout = nn.Dropout(drop)
    torch.manual_seed(7)
    vectors = encode_in_chunks(lambda b: dropout(encoder(b)), batch, rows=rows, budget=budget)
    own = torch.eye(batch.size, dtype=torch.bool)
    relation = Relation.from_masks(own.roll(1, 1), ~own.roll(1, 1) & ~own)
    loss = matryoshka(lambda a, b: LOSSES[name](a, b, relation), (vectors, vectors), encoder.widths)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in encoder.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("budget", [0, 1, 10**9])
def test_gradients_are_those_of_the_whole_batch(encoder: CompactEncoder, budget: int, name: str) -> None:
    batch = batch_of(encoder, 7)
    plain, chunked = (gradients(encoder, batch, rows, budget, name=name) for rows in (0, 3))
    flat, other = (torch.cat([g.flatten() for g in found[1:]]) for found in (plain, chunked))
    assert float((flat - other).norm() / flat.norm()) < 1e-5
    assert chunked[0].item() == pytest.approx(plain[0].item(), rel=1e-5)


def test_dropout_is_replayed(encoder: CompactEncoder) -> None:
    batch = batch_of(encoder, 6)
    kept, again = (gradients(encoder, batch, 2, budget, drop=0.3) for budget in (10**9, 0))
    for a, b in zip(kept, again, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6 * float(a.abs().max()) + 1e-12)


def test_the_budget_is_what_graphs_hold(encoder: CompactEncoder) -> None:
    """As many of the six chunks are encoded twice as do not fit; a chunk holds what its activations take."""
    batch = batch_of(encoder, 12)
    calls: list[int] = []

    def count(part: ProductBatch) -> torch.Tensor:
        calls.append(part.size)
        return encoder(part)

    def runs(budget: int) -> int:
        calls.clear()
        encode_in_chunks(count, batch, rows=2, budget=budget).sum().backward()
        return len(calls)

    few = [runs(budget) for budget in (0, 1, 10**6, 10**7, 10**12)]
    assert few[0] == 12 and few[1] == 11 and few[-1] == 6
    assert few == sorted(few, reverse=True) and few[2] > 6
