"""What a vector tells about how often its product was shown, and how far often and seldom shown products lie apart."""

from __future__ import annotations

import numpy as np

from moonshelf.types import Interval

DRAWS = 1000


def popularity_leakage(
    vectors: np.ndarray, shown: np.ndarray, *, folds: int = 5, ridge: float = 0.03, seed: int = 0
) -> Interval:
    """R2 of predicting ``log(1 + impressions)`` from vectors, on products that the prediction has not seen.

    Ridge regression in ``folds`` parts; ``R2 = 1 - sum (y - y^)2 / sum (y - mean of the training parts)2``. 0: the
    vectors tell nothing (below 0: less than the mean). The interval draws products anew.

    Args:
        vectors: ``[N, D]``. shown: ``[N]`` impressions.
        ridge: added to the diagonal, times the mean of the diagonal.

    Raises:
        ValueError: fewer than ``2 * folds`` products, or all were shown equally often.
    """
    y = np.log1p(shown.astype(np.float64))
    if len(y) < 2 * folds or np.ptp(y) == 0:
        raise ValueError("leakage needs products that were shown unequally often")
    x = vectors.astype(np.float64)
    rng = np.random.default_rng(seed)
    part = rng.permutation(np.arange(len(y)) % folds)
    wrong, spread = np.empty(len(y)), np.empty(len(y))
    for fold in range(folds):
        train, test = part != fold, part == fold
        middle, base = x[train].mean(0), y[train].mean()
        a = x[train] - middle
        gram = a.T @ a
        gram[np.diag_indices_from(gram)] += ridge * max(np.trace(gram) / len(gram), 1e-12)
        weight = np.linalg.solve(gram, a.T @ (y[train] - base))
        wrong[test] = (y[test] - base - (x[test] - middle) @ weight) ** 2
        spread[test] = (y[test] - base) ** 2
    values = np.empty(1 + DRAWS)
    values[0] = 1 - wrong.sum() / spread.sum()
    for i in range(DRAWS):
        drawn = rng.integers(0, len(y), len(y))
        values[1 + i] = 1 - wrong[drawn].sum() / spread[drawn].sum()
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high), len(y))


def head_tail_distance(
    vectors: np.ndarray, head: np.ndarray, tail: np.ndarray, group_head: np.ndarray, group_tail: np.ndarray
) -> float:
    """How far the often shown products of a category lie from its seldom shown ones, in units of their own spread.

    ``mean over categories of |mean head - mean tail| / sqrt(mean squared distance of the category's products to its
    mean)``, weighted by heads; what two random parts of one cloud would show, ``sqrt(1/n_h + 1/n_t)``, is taken off
    in squares.

    Args:
        vectors: ``[N, D]``. head, tail: numbers of rows. group_head, group_tail: the category of each.
    """
    total = weight = 0.0
    for name in np.unique(group_head):
        often, seldom = vectors[head[group_head == name]], vectors[tail[group_tail == name]]
        if len(often) < 2 or len(seldom) < 2:
            continue
        both = np.concatenate((often, seldom)).astype(np.float64)
        spread = np.sqrt(((both - both.mean(0)) ** 2).sum(1).mean())
        if spread == 0:
            continue
        gap = np.linalg.norm(often.mean(0, dtype=np.float64) - seldom.mean(0, dtype=np.float64)) / spread
        chance = 1 / len(often) + 1 / len(seldom)
        total += len(often) * float(np.sqrt(max(0.0, float(gap) ** 2 - chance)))
        weight += len(often)
    return total / weight if weight else 0.0
