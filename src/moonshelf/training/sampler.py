"""Which rows make a batch: pure functions of (seed, epoch), so a resumed run sees the same batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def step_seed(seed: int, stage: str, *numbers: int) -> int:
    """A 63-bit seed for one step of one stage; independent streams for different arguments."""
    words = [seed, *stage.encode(), *numbers]
    low, high = np.random.SeedSequence(words).generate_state(2, np.uint32)
    return int(low) | (int(high) & 0x7FFFFFFF) << 32


def epoch_order(n: int, take: int, seed: int, stage: str, epoch: int) -> np.ndarray:
    """``take`` of ``n`` rows in random order (all when ``take`` is 0), int64."""
    order = np.random.default_rng(step_seed(seed, stage, epoch)).permutation(n)
    return order[:take] if take else order


def cycle(n: int, first: int, count: int, seed: int, stage: str) -> np.ndarray:
    """Rows ``first .. first + count`` of an endless sequence of shuffled passes over ``n`` rows, int64."""
    at = np.arange(first, first + count)
    out = np.empty(count, dtype=np.int64)
    for epoch in np.unique(at // n).tolist():
        here = at // n == epoch
        out[here] = _order(n, seed, stage, epoch)[at[here] % n]
    return out


@lru_cache(maxsize=16)  # a pass lasts many steps
def _order(n: int, seed: int, stage: str, epoch: int) -> np.ndarray:
    return epoch_order(n, 0, seed, stage, epoch)


def grouped_batches(
    products: np.ndarray,
    categories: np.ndarray,
    order: np.ndarray,
    *,
    batch: int,
    per_product: int,
    same_category: bool,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Batches of pairs in which up to ``per_product`` queries share a product.

    Sharing lets a product be encoded once for several queries, and gives the queries positives among
    themselves. With ``same_category`` the groups of a batch come from one category while it lasts, so
    in-batch negatives are hard ones. Our design.

    Args:
        products: ``[n]`` int64, product number of each pair.
        categories: ``[n]`` int64, its category number, -1 for none.
        order: pairs to use, already shuffled.
        batch: pairs in a batch; the last, smaller one is dropped unless it is the only one.
        per_product: most pairs of one product in a group.
        same_category: see above.
        rng: generator for the order of the groups.
    """
    by_product: dict[int, list[int]] = {}
    for row in order.tolist():
        by_product.setdefault(int(products[row]), []).append(row)
    groups = [
        rows[i : i + per_product] for rows in by_product.values() for i in range(0, len(rows), per_product)
    ]
    groups = [groups[i] for i in rng.permutation(len(groups))]
    if same_category:
        rank = rng.permutation(int(categories.max(initial=-1)) + 2)  # the last one: pairs without a category
        groups.sort(key=lambda rows: int(rank[categories[rows[0]]]))
    batches: list[list[int]] = [[]]
    for group in groups:
        if batches[-1] and len(batches[-1]) + len(group) > batch:
            batches.append([])
        batches[-1].extend(group)
    if len(batches) > 1 and len(batches[-1]) < max(2, batch // 2):
        batches.pop()
    shuffled: Sequence[int] = rng.permutation(len(batches)).tolist()
    return [np.asarray(batches[i], dtype=np.int64) for i in shuffled]
