"""How well scores predict clicks: AUC, GAUC, log loss, calibration, lists; and differences between two models.

The unit of every interval is the user: users are drawn anew, with all their rows, so rows of one user are not taken for
independent. Whatever is compared is compared on the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from moonshelf.types import Interval

DRAWS = 1000
BINS = 15
_NUMBERS = 4_000_000  # held at once by the bootstrap
_GRID = 4096  # scores fall into so many cells for weighted AUCs: exact below that many distinct ones


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows with a score each.

    Attributes:
        score: ``[N]`` any numbers; for log loss and calibration probabilities.
        label: ``[N]`` bool.
        user: ``[N]`` integers; rows of one number belong to one user.
    """

    score: np.ndarray
    label: np.ndarray
    user: np.ndarray

    def __post_init__(self) -> None:
        if not (len(self.score) == len(self.label) == len(self.user)):
            raise ValueError("scores, labels and users differ in length")
        if not np.isfinite(self.score).all():
            raise ValueError("scores hold NaN or infinity")

    def take(self, at: np.ndarray) -> Scored:
        """Some rows."""
        return Scored(self.score[at], self.label[at], self.user[at])


def user_aucs(rows: Scored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUC of every user with both labels; ties count half.

    Returns:
        Users, AUCs and numbers of rows, ``[U]`` each, in ascending order of users.

    Cost: a sort of the rows; no loop over users.
    """
    order = np.lexsort((rows.score, rows.user))
    user, score = rows.user[order], rows.score[order]
    label = rows.label[order].astype(np.float64)
    new_user = np.concatenate(([True], user[1:] != user[:-1]))
    new_tie = new_user | np.concatenate(([True], score[1:] != score[:-1]))
    begin = np.flatnonzero(new_user)
    own = np.cumsum(new_user) - 1
    place = np.arange(len(user)) - begin[own] + 1.0
    tie = np.cumsum(new_tie) - 1
    rank = (np.bincount(tie, place) / np.bincount(tie))[tie]  # of equal scores the mean of their ranks
    up = np.bincount(own, label)
    rows_of = np.bincount(own).astype(np.float64)
    down = rows_of - up
    total = np.bincount(own, rank * label)
    both = (up > 0) & (down > 0)
    value = (total[both] - up[both] * (up[both] + 1) / 2) / (up[both] * down[both])
    return user[begin][both], value, rows_of[both].astype(np.int64)


def gauc(rows: Scored, *, seed: int = 0) -> Interval:
    """``sum_u n_u AUC_u / sum_u n_u`` over users with both labels (MUSE 2512.07216): order within users alone.

    Raises:
        ValueError: no user has both labels.
    """
    _, value, n = user_aucs(rows)
    if not len(value):
        raise ValueError("no user has both labels")
    return _ratio(value * n, n.astype(np.float64), seed)


def gauc_difference(a: Scored, b: Scored, *, seed: int = 0) -> Interval:
    """GAUC of ``a`` minus that of ``b`` over the same rows, paired by user."""
    _same(a, b)
    (_, x, n), (_, y, _) = user_aucs(a), user_aucs(b)
    return _ratio((x - y) * n, n.astype(np.float64), seed)


def auc_by_users(rows: Scored, *, seed: int = 0, draws: int = 200) -> Interval:
    """AUC over all pairs of rows; the interval draws users. ``draws``: each costs a pass over the rows."""
    return _interval(_weighted_aucs(rows, seed, draws), len(np.unique(rows.user)))


def auc_difference(a: Scored, b: Scored, *, seed: int = 0, draws: int = 200) -> Interval:
    """AUC of ``a`` minus that of ``b`` over the same rows, on the same draws of users."""
    _same(a, b)
    n = len(np.unique(a.user))
    return _interval(_weighted_aucs(a, seed, draws) - _weighted_aucs(b, seed, draws), n)


def log_loss(rows: Scored, *, seed: int = 0) -> Interval:
    """Mean of ``-log p`` of what happened; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(rows.score.astype(np.float64), 1e-7, 1 - 1e-7)
    return _mean_by_users(-np.log(np.where(rows.label, p, 1 - p)), rows.user, seed)


def calibration_curve(rows: Scored, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean prediction, share of clicks and number of rows in bins of equally many rows, ``[bins]`` each."""
    order = np.argsort(rows.score, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    told = np.array([rows.score[p].mean() for p in parts])
    seen = np.array([rows.label[p].mean() for p in parts])
    return told, seen, np.array([len(p) for p in parts])


def calibration_error(rows: Scored, bins: int = BINS) -> float:
    """ECE: ``sum_b n_b / N |mean prediction_b - share of clicks_b|`` over ``calibration_curve``."""
    told, seen, n = calibration_curve(rows, bins)
    return float((np.abs(told - seen) * n).sum() / n.sum())


def ndcg(rows: Scored, page: np.ndarray, k: int = 10, *, seed: int = 0) -> Interval:
    """Mean NDCG@k of the lists with a click; the interval draws users.

    ``DCG = sum over the first k of label / log2(1 + place)``, over that of the best order. Equal scores share the gain
    of their places evenly, so that an order by accident earns nothing.
    """
    value, user = _by_list(rows, page, k)
    return _mean_by_users(value, user, seed)


def hit_rate(rows: Scored, page: np.ndarray, k: int = 10, *, seed: int = 0) -> Interval:
    """Share of the lists with a click whose first k, by score, have one; ties count against it."""
    order = np.lexsort((rows.label, -rows.score, page))  # among equal scores those without a click come first
    user, label, own = rows.user[order], rows.label[order], page[order]
    begin = np.flatnonzero(np.concatenate(([True], own[1:] != own[:-1])))
    number = np.repeat(np.arange(len(begin)), np.diff(np.append(begin, len(own))))
    place = np.arange(len(own)) - begin[number]
    clicked = np.bincount(number, label) > 0
    hit = np.bincount(number, label & (place < k)) > 0
    return _mean_by_users(hit[clicked].astype(np.float64), user[begin][clicked], seed)


def by_bucket(
    rows: Scored, bucket: np.ndarray, metric: Callable[[Scored], Interval], least: int = 2
) -> Mapping[object, Interval]:
    """A metric on the rows of each bucket (category, decile of popularity, age), where it can be taken."""
    found: dict[object, Interval] = {}
    for name in np.unique(bucket):
        part = rows.take(bucket == name)
        if len(part.label) >= least and part.label.any() and not part.label.all():
            try:
                found[name.item() if hasattr(name, "item") else name] = metric(part)
            except ValueError:  # GAUC: no user of this bucket has both labels
                continue
    return found


def _by_list(rows: Scored, page: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@k and user of every list with a click."""
    order = np.lexsort((-rows.score, page))
    own, score, label = page[order], rows.score[order], rows.label[order].astype(np.float64)
    new = np.concatenate(([True], own[1:] != own[:-1]))
    begin, number = np.flatnonzero(new), np.cumsum(new) - 1
    place = np.arange(len(own)) - begin[number]
    discount = np.where(place < k, 1 / np.log2(place + 2.0), 0.0)
    tie = np.cumsum(new | np.concatenate(([True], score[1:] != score[:-1]))) - 1
    shared = (np.bincount(tie, discount) / np.bincount(tie))[tie]
    clicks = np.bincount(number, label)
    ideal = np.concatenate(([0.0], np.cumsum(1 / np.log2(np.arange(k) + 2.0))))
    best = ideal[np.minimum(clicks.astype(np.int64), k)]
    there = clicks > 0
    gain = np.bincount(number, label * shared)
    return gain[there] / best[there], rows.user[order][begin][there]


def _mean_by_users(value: np.ndarray, user: np.ndarray, seed: int) -> Interval:
    _, own = np.unique(user, return_inverse=True)
    return _ratio(np.bincount(own, value), np.bincount(own).astype(np.float64), seed)


def _weighted_aucs(rows: Scored, seed: int, draws: int) -> np.ndarray:
    """``[1 + draws]`` AUCs, as measured and then with users drawn anew."""
    if rows.label.all() or not rows.label.any():
        raise ValueError("AUC needs rows with and without a click")
    distinct, cell = np.unique(rows.score, return_inverse=True)
    if len(distinct) > _GRID:  # as measured it is exact; draws fall into cells of equally many rows
        cell = np.searchsorted(np.quantile(rows.score, np.linspace(0, 1, _GRID)[1:-1]), rows.score)
    users, own = np.unique(rows.user, return_inverse=True)
    rng = np.random.default_rng(seed)
    out = np.empty(1 + draws)
    exact = np.unique(rows.score, return_inverse=True)[1]
    for i in range(1 + draws):
        drawn = rng.multinomial(len(users), np.full(len(users), 1 / len(users))) if i else np.ones(len(users))
        weight, at = drawn[own].astype(np.float64), cell if i else exact
        up = np.bincount(at, weight * rows.label)
        down = np.bincount(at, weight * ~rows.label, minlength=len(up))[: len(up)]
        pairs = up.sum() * down.sum()
        out[i] = (up * (np.cumsum(down) - down / 2)).sum() / pairs if pairs else np.nan
    return out


def _ratio(total: np.ndarray, weight: np.ndarray, seed: int) -> Interval:
    """``sum total / sum weight`` over users, with users drawn anew."""
    n, rng = len(total), np.random.default_rng(seed)
    values = np.empty(1 + DRAWS)
    values[0] = total.sum() / weight.sum()
    step = max(1, _NUMBERS // n)
    for start in range(1, 1 + DRAWS, step):
        drawn = rng.multinomial(n, np.full(n, 1 / n), min(step, 1 + DRAWS - start))
        values[start : start + len(drawn)] = (drawn @ total) / np.maximum(drawn @ weight, 1e-12)
    return _interval(values, n)


def _interval(values: np.ndarray, n: int) -> Interval:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high), n)


def _same(a: Scored, b: Scored) -> None:
    if not (np.array_equal(a.label, b.label) and np.array_equal(a.user, b.user)):
        raise ValueError("the two models were scored on other rows")
