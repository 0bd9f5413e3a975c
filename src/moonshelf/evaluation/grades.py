"""How well predicted grades agree with judged ones: Spearman, NDCG, RMSE, calibration; differences of two models.

The unit of every interval is the query: queries are drawn anew with all their pairs, since pairs of one query are
alike. Two models are compared on the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moonshelf.types import Interval

DRAWS = 1000
_NUMBERS = 4_000_000  # held at once by the bootstrap


@dataclass(frozen=True, slots=True)
class Graded:
    """Judged pairs with a predicted grade each.

    Attributes:
        score: ``[N]`` predictions; any increasing scale for Spearman and NDCG, the judges' own for RMSE.
        grade: ``[N]`` judged grades, 0 or more for NDCG.
        query: ``[N]`` integers; pairs of one number belong to one query.
    """

    score: np.ndarray
    grade: np.ndarray
    query: np.ndarray

    def __post_init__(self) -> None:
        if not (len(self.score) == len(self.grade) == len(self.query)):
            raise ValueError("scores, grades and queries differ in length")
        if not len(self.score):
            raise ValueError("there are no pairs")
        if not (np.isfinite(self.score).all() and np.isfinite(self.grade).all()):
            raise ValueError("scores or grades hold NaN or infinity")


def spearman(rows: Graded, *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Rank correlation over all pairs: Pearson's of the ranks, equal values sharing the mean of theirs.

    In a resample a pair counts as often as its query was drawn, and ranks are taken anew.

    Raises:
        ValueError: all grades or all scores are equal.

    Cost: two sorts, then a pass over the pairs a draw.
    """
    return _interval(_correlations(rows, seed, draws), len(np.unique(rows.query)))


def spearman_difference(a: Graded, b: Graded, *, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Spearman of ``a`` minus that of ``b`` over the same pairs, on the same draws of queries."""
    _same(a, b)
    n = len(np.unique(a.query))
    return _interval(_correlations(a, seed, draws) - _correlations(b, seed, draws), n)


def query_ndcg(rows: Graded, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@k of every query with a grade above 0.

    ``DCG = sum over the first k of grade / log2(1 + place)`` with linear gains (Järvelin & Kekäläinen 2002), over that
    of the best order. Equal scores share the gain of their places evenly (McSherry & Najork 2008).

    Returns:
        Queries and values, ``[Q]`` each.

    Raises:
        ValueError: a grade is below 0.
    """
    if (rows.grade < 0).any():
        raise ValueError("NDCG needs grades of 0 and more")
    grade = rows.grade.astype(np.float64)
    order = np.lexsort((-rows.score, rows.query))
    query, score = rows.query[order], rows.score[order]
    new = np.concatenate(([True], query[1:] != query[:-1]))
    begin, own = np.flatnonzero(new), np.cumsum(new) - 1
    place = np.arange(len(query)) - begin[own]
    discount = np.where(place < k, 1 / np.log2(place + 2.0), 0.0)
    tie = np.cumsum(new | np.concatenate(([True], score[1:] != score[:-1]))) - 1
    shared = (np.bincount(tie, discount) / np.bincount(tie))[tie]
    gain = np.bincount(own, shared * grade[order])
    best = np.bincount(own, discount * grade[np.lexsort((-grade, rows.query))])
    there = best > 0
    return query[begin][there], gain[there] / best[there]


def ndcg_at(rows: Graded, k: int = 10, *, seed: int = 0) -> Interval:
    """Mean of ``query_ndcg`` over queries.

    Raises:
        ValueError: no query has a grade above 0.
    """
    return _mean(query_ndcg(rows, k)[1], seed)


def ndcg_difference(a: Graded, b: Graded, k: int = 10, *, seed: int = 0) -> Interval:
    """NDCG@k of ``a`` minus that of ``b``, paired by query."""
    _same(a, b)
    return _mean(query_ndcg(a, k)[1] - query_ndcg(b, k)[1], seed)


def rmse(rows: Graded, *, seed: int = 0) -> Interval:
    """``sqrt(mean (score - grade)^2)`` over pairs."""
    return _interval(_root_errors(rows, seed), len(np.unique(rows.query)))


def rmse_difference(a: Graded, b: Graded, *, seed: int = 0) -> Interval:
    """RMSE of ``a`` minus that of ``b`` on the same draws of queries; below 0 where ``a`` is better."""
    _same(a, b)
    return _interval(_root_errors(a, seed) - _root_errors(b, seed), len(np.unique(a.query)))


def calibration_gap(rows: Graded, *, bins: int = 10, seed: int = 0) -> Interval:
    """``sum_b n_b / N |mean score - mean grade|`` over bins of equally many pairs in the order of scores.

    The expected calibration error (Naeini, Cooper & Hauskrecht, AAAI 2015) for grades instead of classes; with
    probabilities as scores and 0 or 1 as grades it is the usual one. Equal scores share a bin. Chance alone makes it
    larger than 0, and a resample's larger than the sample's: read the interval as an upper bound.
    """
    edges = np.quantile(rows.score, np.arange(1, bins) / bins)
    at = np.searchsorted(edges, rows.score, side="right")
    queries, own = np.unique(rows.query, return_inverse=True)
    error = rows.score.astype(np.float64) - rows.grade
    off = np.bincount(own * bins + at, error, minlength=len(queries) * bins).reshape(-1, bins)
    n, rng = len(queries), np.random.default_rng(seed)
    times = rng.multinomial(n, np.full(n, 1 / n), DRAWS).astype(np.float64)
    times = np.concatenate((np.ones((1, n)), times))
    return _interval(np.abs(times @ off).sum(1) / (times @ np.bincount(own)), n)


def _root_errors(rows: Graded, seed: int) -> np.ndarray:
    _, own = np.unique(rows.query, return_inverse=True)
    error = np.bincount(own, (rows.score.astype(np.float64) - rows.grade) ** 2)
    return np.asarray(np.sqrt(_ratios(error, np.bincount(own).astype(np.float64), seed)))


def _mean(values: np.ndarray, seed: int) -> Interval:
    if not len(values):
        raise ValueError("no query has a grade above 0")
    return _interval(_ratios(values, np.ones(len(values)), seed), len(values))


def _ratios(total: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """``sum total / sum weight`` as measured and with queries drawn anew, ``[1 + DRAWS]``."""
    n, rng = len(total), np.random.default_rng(seed)
    values = np.empty(1 + DRAWS)
    values[0] = total.sum() / weight.sum()
    step = max(1, _NUMBERS // n)
    for start in range(1, 1 + DRAWS, step):
        drawn = rng.multinomial(n, np.full(n, 1 / n), min(step, 1 + DRAWS - start))
        values[start : start + len(drawn)] = (drawn @ total) / (drawn @ weight)
    return values


def _correlations(rows: Graded, seed: int, draws: int) -> np.ndarray:
    """``[1 + draws]`` Spearman correlations, as measured and with queries drawn anew."""
    (levels, x), (grades, y) = (np.unique(v, return_inverse=True) for v in (rows.score, rows.grade))
    if len(levels) < 2 or len(grades) < 2:
        raise ValueError("Spearman needs at least two different scores and two different grades")
    queries, own = np.unique(rows.query, return_inverse=True)
    rng = np.random.default_rng(seed)
    out = np.empty(1 + draws)
    for i in range(1 + draws):
        drawn = (
            rng.multinomial(len(queries), np.full(len(queries), 1 / len(queries)))
            if i
            else np.ones(len(queries))
        )
        weight = drawn[own].astype(np.float64)
        a, b = _mean_ranks(x, weight), _mean_ranks(y, weight)
        middle = (weight.sum() + 1) / 2  # the mean of all ranks, ties or not
        a, b = a - middle, b - middle
        scale = (weight @ (a * a)) * (weight @ (b * b))
        out[i] = (weight @ (a * b)) / np.sqrt(scale) if scale > 0 else np.nan
    return out


def _mean_ranks(level: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rank of each row when a row stands for ``weight`` equal ones; equal levels share the mean of their ranks."""
    total = np.bincount(level, weight)
    return np.asarray((np.cumsum(total) - total + (total + 1) / 2)[level])


def _interval(values: np.ndarray, n: int) -> Interval:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high), n)


def _same(a: Graded, b: Graded) -> None:
    if not (np.array_equal(a.grade, b.grade) and np.array_equal(a.query, b.query)):
        raise ValueError("the two models were scored on other pairs")
