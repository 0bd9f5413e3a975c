"""Candidates from a shelf: for a query (text, photo or both), for a user's past, with filters; both kinds merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moonshelf.arrays import unit
from moonshelf.errors import InputError
from moonshelf.shelf.index import Index


@dataclass(frozen=True, slots=True)
class Candidates:
    """Products found, best first.

    Attributes:
        rows: ``[n]`` int64 rows of the shelf, each once.
        score: ``[n]`` float32 cosine that brought a product in.
        source: ``[n]`` int64, 0 the query, i the i-th interest of the past.
    """

    rows: np.ndarray
    score: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def interests(past: np.ndarray, weight: np.ndarray, most: int = 5, least: float = 0.02) -> np.ndarray:
    """A few directions that stand for a whole past (our design, after the medoids of PinnerSage, Pal et al. 2020, KDD).

    Greedily the entry is taken that raises ``sum_i w_i max_j cos(past_i, chosen_j)`` most, until the gain is below
    ``least`` of the whole weight. Every entry then goes to its nearest chosen one, and an interest is the unit weighted
    mean of its entries: somebody who buys shoes and mugs is not somebody who wants things halfway between.

    Args:
        past: ``[n, D]`` unit vectors. weight: ``[n]`` at least 0, such as how recent an entry is.

    Returns:
        ``[m, D]`` unit rows, ``m <= most``, the heaviest first; ``m = 0`` without a past.

    Cost: ``n^2 D``.
    """
    there = (weight > 0) & past.any(axis=1)
    past, weight = past[there].astype(np.float32), weight[there].astype(np.float64)
    if not len(past):
        return np.zeros((0, past.shape[1]), dtype=np.float32)
    cosines = past @ past.T
    reached = np.full(len(past), -1.0)
    chosen: list[int] = []
    for _ in range(min(most, len(past))):
        gain = weight @ np.maximum(cosines - reached[:, None], 0)
        best = int(np.argmax(gain))
        if chosen and gain[best] < least * weight.sum():
            break
        chosen.append(best)
        reached = np.maximum(reached, cosines[:, best])
    own = np.argmax(cosines[:, chosen], axis=1)
    heavy = np.bincount(own, weight, minlength=len(chosen))
    means = np.stack([weight[own == j] @ past[own == j] for j in range(len(chosen)) if heavy[j] > 0])
    return unit(means[np.argsort(-heavy[heavy > 0], kind="stable")].astype(np.float32))


def find_candidates(
    index: Index,
    queries: np.ndarray,
    k: int,
    *,
    allowed: np.ndarray | None = None,
    known: Sequence[int] = (),
) -> Candidates:
    """The best ``k`` products over several queries; a product that several of them find counts with its best cosine.

    Args:
        queries: ``[m, dim]`` unit rows: a query, interests, or both.
        allowed: ``[N]`` bool, rows that may be found (``shelf.index.allowed_rows``).
        known: rows that are left out, such as what the user has already.

    Cost: one search of ``m`` queries for ``k + len(known)`` products each.
    """
    if k < 1:
        raise InputError(f"cannot find {k} products", where="k", mend="give a number of at least 1")
    none = np.zeros(0, dtype=np.int64)
    if not len(queries):
        return Candidates(none, np.zeros(0, dtype=np.float32), none)
    scores, rows = index.search(queries, k + len(known), allowed)
    source = np.repeat(np.arange(len(queries)), rows.shape[1])
    flat, score = rows.ravel(), scores.ravel()
    kept = (flat >= 0) & ~np.isin(flat, np.asarray(list(known), dtype=np.int64))
    flat, score, source = flat[kept], score[kept], source[kept]
    order = np.lexsort((flat, -score))
    flat, score, source = flat[order], score[order], source[order]
    first = np.sort(np.unique(flat, return_index=True)[1])[:k]
    return Candidates(flat[first], score[first], source[first])


def recall_of_exact(index: Index, exact: Index, queries: np.ndarray, k: int) -> np.ndarray:
    """``[Q]``: share of the exact ``k`` nearest products that an index finds among its ``k``."""
    found, wanted = index.search(queries, k)[1], exact.search(queries, k)[1]
    hits = [
        len(np.intersect1d(a[a >= 0], b[b >= 0])) / max(1, (b >= 0).sum())
        for a, b in zip(found, wanted, strict=True)
    ]
    return np.array(hits)
