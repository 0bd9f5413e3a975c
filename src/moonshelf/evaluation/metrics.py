"""Retrieval metrics as pure functions: ranks in blocks, recall, MRR, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import lgamma

import numpy as np

from moonshelf.errors import InputError
from moonshelf.types import Interval

TIE = (
    1e-6  # cosines closer than this are equal: float32 sums of one vector differ by about 1e-7 between blocks
)
RESAMPLES = 1000
_BLOCK_NUMBERS = 4_000_000  # numbers held at once by the bootstrap


def first_hit_ranks(
    queries: np.ndarray,
    gallery: np.ndarray,
    positives: Sequence[np.ndarray],
    *,
    masked: Sequence[np.ndarray] | None = None,
    chunk: int = 256,
    gallery_chunk: int = 8192,
) -> np.ndarray:
    """Rank of the best positive of every query, from 1.

    ``rank = 1 + #{g not positive, not masked : s(q, g) > max_p s(q, p) - 1e-6}``. Ties count against us
    (pessimistic): a system that gives every product the same score gets the last rank, not the first.

    Args:
        queries: ``[Q, D]`` float32.
        gallery: ``[G, D]`` float32.
        positives: for every query the gallery rows that are right, at least one.
        masked: for every query gallery rows that count neither as hit nor as miss.
        chunk: queries a block.
        gallery_chunk: gallery rows a block; ``chunk x gallery_chunk`` scores exist at a time.

    Returns:
        ``[Q]`` int64.

    Raises:
        ValueError: a query without a positive, or lists of another length than ``queries``.
        InputError: a vector is not finite.

    Cost: ``Q x G x D`` multiplications.
    """
    if len(positives) != len(queries) or (masked is not None and len(masked) != len(queries)):
        raise ValueError(f"{len(queries)} queries but {len(positives)} lists of positives")
    if any(len(p) == 0 for p in positives):
        raise ValueError("every query needs a positive in the gallery")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        # every comparison with NaN is False: all ranks would be 1
        raise InputError(
            "vectors hold NaN or infinity", where="evaluation", mend="use an earlier encoder, or train again"
        )
    ranks = np.ones(len(queries), dtype=np.int64)
    for start in range(0, len(queries), chunk):
        part = queries[start : start + chunk]
        right = [np.asarray(p, dtype=np.int64) for p in positives[start : start + chunk]]
        aside = right
        if masked is not None:
            extra = masked[start : start + chunk]
            aside = [np.union1d(r, np.asarray(m, dtype=np.int64)) for r, m in zip(right, extra, strict=True)]
        owner, column = _pairs(right)
        found = np.einsum("pd,pd->p", part[owner], gallery[column])
        best = np.full(len(part), -np.inf, dtype=np.float32)
        np.maximum.at(best, owner, found)
        owner, column = _pairs(aside)
        for first in range(0, len(gallery), gallery_chunk):
            scores = part @ gallery[first : first + gallery_chunk].T
            inside = (column >= first) & (column < first + gallery_chunk)
            scores[owner[inside], column[inside] - first] = -np.inf
            ranks[start : start + chunk] += (scores > best[:, None] - TIE).sum(1)
    return ranks


def _pairs(lists: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(len(lists)), [len(x) for x in lists])
    return owner, np.concatenate(lists) if lists else np.empty(0, dtype=np.int64)


def hits_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """1.0 where a positive is among the first ``k``, else 0.0; ``[Q]`` float64."""
    return (ranks <= k).astype(np.float64)


def reciprocal(ranks: np.ndarray) -> np.ndarray:
    """``1 / rank``, ``[Q]`` float64."""
    return np.asarray(1.0 / ranks)


def recall_at(ranks: np.ndarray, k: int) -> float:
    """Share of queries with a positive among the first ``k`` (hit rate; with one positive, recall)."""
    return float(hits_at(ranks, k).mean())


def mrr(ranks: np.ndarray) -> float:
    """Mean reciprocal rank of the first positive."""
    return float(reciprocal(ranks).mean())


def bootstrap_interval(
    values: np.ndarray, *, seed: int = 0, n: int = RESAMPLES, groups: Sequence[object] | None = None
) -> Interval:
    """Mean with its 95% percentile bootstrap interval (Efron & Tibshirani 1993).

    Units are drawn with replacement ``n`` times; the ends are the 2.5th and 97.5th percentile of the means.
    When all values are equal the interval has no width, which for few units is too good to be true.

    Args:
        values: ``[Q]``, one number a query.
        seed: of the resampling; the same seed draws the same units for every metric.
        groups: ``[Q]`` labels: whole groups are drawn (cluster bootstrap). Use it when queries of one
            product are alike; the mean stays the mean over queries, intervals become wider.

    Raises:
        ValueError: no values, or groups of another length.

    Cost: ``n x units`` random draws in blocks; about 10 ms for 1,000 queries.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("an interval needs at least one value")
    if groups is None:
        sums, counts = values, np.ones(len(values))
    else:
        if len(groups) != len(values):
            raise ValueError(f"{len(values)} values but {len(groups)} groups")
        number: dict[object, int] = {}
        label = np.array([number.setdefault(group, len(number)) for group in groups])
        sums, counts = np.bincount(label, values), np.bincount(label).astype(np.float64)
    units = len(sums)
    rng = np.random.default_rng(seed)
    means = np.empty(n)
    step = max(1, min(n, _BLOCK_NUMBERS // units))
    for start in range(0, n, step):
        rows = min(step, n - start)
        drawn = rng.integers(0, units, (rows, units)) + units * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)  # multinomial
        means[start : start + rows] = (weights @ sums) / (weights @ counts)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    a: np.ndarray, b: np.ndarray, *, seed: int = 0, n: int = RESAMPLES, groups: Sequence[object] | None = None
) -> Interval:
    """Mean of ``a - b`` over the same queries with its interval; the systems differ where it excludes 0.

    Pairing removes what the queries have in common, so it sees differences that two single intervals hide.

    Raises:
        ValueError: different lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} values against {len(b)}: the systems must answer the same queries")
    return bootstrap_interval(
        np.asarray(a, np.float64) - np.asarray(b, np.float64), seed=seed, n=n, groups=groups
    )


def auc(scores: np.ndarray, positive: np.ndarray, *, seed: int = 0) -> Interval:
    """Area under the ROC curve: how often a positive has a higher score than a negative; ties count half.

    Mann-Whitney's U over all pairs; the interval draws positives and negatives apart (percentile bootstrap).

    Args:
        scores: ``[n]``.
        positive: ``[n]`` bool; both kinds occur.

    Raises:
        ValueError: there is but one kind.

    Cost: a sort, and one of each resample.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        raise ValueError("AUC needs positives and negatives")
    _, ranks = np.unique(scores, return_inverse=True)  # equal scores, equal places
    places = int(ranks.max()) + 1
    up, down = (np.bincount(ranks[side], minlength=places) for side in (positive, ~positive))
    rng = np.random.default_rng(seed)
    drawn = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn[i] = _area(*(rng.multinomial(side.sum(), side / side.sum()) for side in (up, down)))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(_area(up, down), float(low), float(high), len(positive))


def _area(up: np.ndarray, down: np.ndarray) -> float:
    below = np.cumsum(down) - down
    return float((up * (below + 0.5 * down)).sum() / (float(up.sum()) * float(down.sum())))


def chance_recall(gallery: int, positives: int, k: int) -> float:
    """Recall@k of a random order: ``1 - C(G - m, k) / C(G, k)``; for one positive ``k / G``."""
    if gallery - positives < k:
        return 1.0
    return 1.0 - float(np.exp(_log_choose(gallery - positives, k) - _log_choose(gallery, k)))


def chance_mrr(gallery: int, positives: int) -> float:
    """Expected reciprocal rank of a random order: ``sum_r (1 / r) C(G - r, m - 1) / C(G, m)``."""
    last = gallery - positives + 1
    whole = _log_choose(gallery, positives)
    return float(sum(np.exp(_log_choose(gallery - r, positives - 1) - whole) / r for r in range(1, last + 1)))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
