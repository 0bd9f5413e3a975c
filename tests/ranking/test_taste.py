"""Lifts and similarities beyond the category against loops; what they tell that raw cosines do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_models import B, D, V, batch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.ranking.models.taste import STRENGTH, Taste

COLUMNS = np.random.default_rng(0).integers(0, [4, 3], size=(40, 2))
VECTORS = F.normalize(torch.randn(40, D, generator=torch.Generator().manual_seed(1)), dim=1).numpy()


def fetch(what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return VECTORS[what], what % 7 > 0


def still(vectors: Tensor) -> Tensor:
    return vectors


def fitted(group: int = 0, dim: int = D) -> Taste:
    taste = Taste((4, 3), dim, group)
    taste.fit(COLUMNS, np.arange(40).repeat(2)[:60], fetch if dim else None)
    return taste


@pytest.mark.parametrize("group", [0, -1])
def test_numbers_equal_a_loop(group: int) -> None:
    taste = fitted(group)
    columns = torch.from_numpy(np.random.default_rng(2).integers(0, [4, 3], size=(V, 2)))
    own = batch()
    columns[~own.product] = 0
    own = replace(own, item_columns=columns)
    found = taste(own, own.vectors, still).detach()
    assert found.shape == (B, 3)
    shares = [getattr(taste, f"share{f}").numpy() for f in (0, 1)]
    acts = np.arange(40).repeat(2)[:60]
    for f, size in ((0, 4), (1, 3)):
        counts = np.array([(COLUMNS[acts, f] == v).sum() for v in range(1, size)])
        assert shares[f][1:] == pytest.approx((counts + 1) / (counts + 1).sum(), rel=1e-5)
    for b in range(B):
        c = int(own.context[b])
        past = [int(p) for p, there in zip(own.past[c], own.past_there[c], strict=True) if there]
        t = int(own.target[b])
        for f in (0, 1):
            value = int(columns[t, f])
            known = [p for p in past if columns[p, f] > 0]
            q = shares[f][value]
            n_f = sum(int(columns[p, f]) == value for p in known)
            wanted = np.log((n_f + STRENGTH * q) / ((len(known) + STRENGTH) * q)) if value else 0.0
            assert float(found[b, f]) == pytest.approx(wanted, abs=1e-5)

        def beyond(p: int) -> Tensor:
            return F.normalize(own.vectors[p] - taste.means[columns[p, 0] if group == 0 else 0], dim=0)

        held = [p for p in past if own.product[p] and own.there[p]]
        total = sum(float(beyond(p) @ beyond(t)) for p in held) if own.there[t] else 0.0
        assert float(found[b, 2]) == pytest.approx(total / (len(held) + STRENGTH), abs=1e-5)


def test_means_are_of_categories_and_few_products_count_with_all() -> None:
    taste = fitted()
    there = np.arange(40) % 7 > 0
    whole = VECTORS[there].mean(0)
    for g in range(4):
        own = VECTORS[there & (COLUMNS[:, 0] == g)]
        assert taste.means[g].numpy() == pytest.approx((own.sum(0) + whole) / (len(own) + 1), abs=1e-6)
    bare = fitted(dim=0)
    assert bare.width == 2 and not len(bare.means)


def test_inside_a_category_only_what_lies_beyond_it_tells() -> None:
    """Two categories far apart, in each a liked and a disliked direction: raw cosines hardly differ, these do."""
    rng = np.random.default_rng(3)
    category = np.repeat([1, 2], 30)
    liked = np.tile([1.0, -1.0], 30)
    rows = rng.normal(0, 0.05, (60, 8))
    rows[np.arange(60), category] += 5.0
    rows[:, 7] += 0.5 * liked
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    taste = Taste((3,), 8, 0)
    taste.fit(category[:, None], np.arange(60), lambda what: (rows[what], np.ones(len(what), bool)))
    past = np.flatnonzero((category == 1) & (liked > 0))[:6]
    targets = np.flatnonzero(category == 2)[:8]
    vectors = torch.from_numpy(np.concatenate((np.zeros((1, 8)), rows))).float()
    n = len(targets)
    shown = replace(
        batch(),
        vectors=vectors, there=torch.arange(61) > 0, product=torch.arange(61) > 0, ids=torch.arange(61),
        item_columns=torch.from_numpy(np.concatenate(([0], category))[:, None]),
        target=torch.from_numpy(targets + 1), context=torch.zeros(n, dtype=torch.int64),
        past=torch.from_numpy(past + 1)[None], past_there=torch.ones(1, 6, dtype=torch.bool),
    )  # fmt: skip
    found = taste(shown, vectors, still)[:, 1].detach().numpy()
    assert found[liked[targets] > 0].min() > found[liked[targets] < 0].max() + 0.2
    raw = (rows[past] @ rows[targets].T).mean(0)
    assert np.ptp(raw) < 0.1  # next to nothing, where the other spans half of what it can
