"""How well a selector picks the better of two creatives, asked in both orders; intervals draw whole tests.

``p`` is the probability that A (of the pair as it is stored) wins, once asked as (A, B) and once as (B, A). An answer
is right when it lies on the winner's side of 1/2; exactly 1/2 counts half; no answer (NaN) counts wrong.

    accuracy          mean over both orders
    first, second     accuracy asked as (A, B), as (B, A)
    both_right        right in both orders
    order_invariant   right in both orders 1, wrong in both 0, anything else 1/2 (a flip is worth a coin)
    flip_rate         the two orders name different winners; a half is none
    no_answer         share of the questions without an answer
    sampled           mean probability given to the winner: how often an answer drawn by it would be right (what a
                      reward for right choices raises in training, which accuracy need not follow)
    ece               expected calibration error of the mean of both orders

Language models prefer a place: judges are known to pick the second picture in both orders for a sixth to a half of the
pairs (methods, our notes), so that one order alone is no result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from moonshelf.evaluation.metrics import RESAMPLES, bootstrap_interval, paired_difference
from moonshelf.types import Interval

METRICS = (
    "accuracy",
    "first",
    "second",
    "both_right",
    "order_invariant",
    "flip_rate",
    "no_answer",
    "sampled",
)
BINS = 10
FEW = 5  # tests below which an interval over tests says little
GAPS = (0.0, 0.2, 0.4, 0.6, 1.0, float("inf"))  # edges of the relative gaps that are reported apart


@dataclass(frozen=True, slots=True)
class Judged:
    """N pairs with a selector's answers.

    Attributes:
        first: ``[N]`` probability that A wins, asked as (A, B); NaN without an answer.
        second: the same (that A wins), asked as (B, A).
        won: ``[N]`` bool, A did win.
        group: ``[N]`` the test of each pair.
    """

    first: np.ndarray
    second: np.ndarray
    won: np.ndarray
    group: Sequence[object]

    def __post_init__(self) -> None:
        if not len(self.first) == len(self.second) == len(self.won) == len(self.group):
            raise ValueError("answers, winners and tests differ in length")
        told = np.concatenate((self.first, self.second))
        told = told[~np.isnan(told)]
        if ((told < 0) | (told > 1)).any():
            raise ValueError("a probability is not between 0 and 1")

    def __len__(self) -> int:
        return len(self.won)

    def take(self, at: np.ndarray) -> Judged:
        """Some pairs, by number or mask."""
        group = np.asarray(self.group, dtype=object)[at]
        return Judged(self.first[at], self.second[at], self.won[at], group.tolist())


def per_pair(judged: Judged) -> dict[str, np.ndarray]:
    """``[N]`` float64 of every metric that is a mean over pairs."""
    x, y = _right(judged.first, judged.won), _right(judged.second, judged.won)
    none = (np.isnan(judged.first).astype(np.float64) + np.isnan(judged.second)) / 2
    flip = (np.sign(np.nan_to_num(judged.first - 0.5)) * np.sign(np.nan_to_num(judged.second - 0.5))) < 0
    given = np.nan_to_num(
        np.where(judged.won, (judged.first, judged.second), (1 - judged.first, 1 - judged.second))
    )
    invariant = np.where((x == 1) & (y == 1), 1.0, np.where((x == 0) & (y == 0), 0.0, 0.5))
    values = (
        (x + y) / 2,
        x,
        y,
        ((x == 1) & (y == 1)).astype(np.float64),
        invariant,
        flip.astype(np.float64),
        none,
        given.mean(0),
    )
    return dict(zip(METRICS, values, strict=True))


def _right(p: np.ndarray, won: np.ndarray) -> np.ndarray:
    right = np.where(p == 0.5, 0.5, ((p > 0.5) == won).astype(np.float64))
    found: np.ndarray = np.where(np.isnan(p), 0.0, right)
    return found


def selection_metrics(judged: Judged, *, seed: int = 0) -> dict[str, Interval]:
    """Every metric of the module with its 95% interval; ``n`` is the number of pairs.

    Raises:
        ValueError: no pairs.
    """
    found = {
        name: bootstrap_interval(values, seed=seed, groups=judged.group)
        for name, values in per_pair(judged).items()
    }
    return {**found, "ece": calibration(judged, seed=seed)}


def calibration(judged: Judged, *, seed: int = 0, bins: int = BINS) -> Interval:
    """``sum_b n_b / N |mean p_b - share won_b|`` over bins of equally many pairs; pairs without an answer are left out.

    The pairs are turned so that p >= 1/2 first: which creative is called A must not matter. The interval draws tests;
    being a sum of sizes it lies above 0 even for a perfect selector.
    """
    p = (judged.first + judged.second) / 2
    there = ~np.isnan(p)
    p, won = p[there], judged.won[there].astype(np.float64)
    if not len(p):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    p, won = np.maximum(p, 1 - p), np.where(p < 0.5, 1 - won, np.where(p == 0.5, 0.5, won))
    _, group = np.unique(np.asarray([str(g) for g in judged.group])[there], return_inverse=True)
    bin_of = np.empty(len(p), dtype=np.int64)
    order = np.argsort(p, kind="stable")
    bin_of[order] = np.arange(len(p)) * min(bins, len(p)) // len(p)
    groups = int(group.max()) + 1
    table = np.zeros((groups, min(bins, len(p))))
    np.add.at(table, (group, bin_of), p - won)

    def error(weight: np.ndarray) -> float:
        n = float(weight[group].sum())
        return float(np.abs(weight @ table).sum() / max(n, 1.0))

    rng = np.random.default_rng(seed)
    drawn = [
        error(rng.multinomial(groups, np.full(groups, 1 / groups)).astype(float)) for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(error(np.ones(groups)), float(low), float(high), len(p))


def difference(a: Judged, b: Judged, metric: str = "accuracy", *, seed: int = 0) -> Interval:
    """A metric of ``a`` minus that of ``b`` on the same pairs, tests drawn together.

    Raises:
        ValueError: other pairs, or a metric that is no mean over pairs.
    """
    if len(a) != len(b) or not np.array_equal(a.won, b.won) or list(a.group) != list(b.group):
        raise ValueError("the two selectors were asked about other pairs")
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    return paired_difference(per_pair(a)[metric], per_pair(b)[metric], seed=seed, groups=a.group)


def by_bucket(
    judged: Judged, bucket: Sequence[object], metric: str = "accuracy", *, least: int = 10, seed: int = 0
) -> dict[str, Interval]:
    """A metric apart for each category (or any other label), of ``least`` pairs and ``FEW`` tests or more."""
    values, labels = per_pair(judged)[metric], np.asarray([str(b) for b in bucket])
    group = np.asarray(judged.group, dtype=object)
    out: dict[str, Interval] = {}
    for name in sorted(set(labels.tolist())):
        at = labels == name
        if at.sum() >= least and len(set(group[at].tolist())) >= FEW:
            out[name] = bootstrap_interval(values[at], seed=seed, groups=group[at].tolist())
    return out


def gap_buckets(gap: np.ndarray, edges: Sequence[float] = GAPS) -> list[str]:
    """A label for each relative gap: ``"20% to 40%"``, the last ``"above 100%"``."""
    names = [
        f"{low:.0%} to {high:.0%}" if np.isfinite(high) else f"above {low:.0%}"
        for low, high in pairwise(edges)
    ]
    at = np.clip(np.searchsorted(np.asarray(edges), gap, side="right") - 1, 0, len(names) - 1)
    return [names[i] for i in at]


def larger_wins(a: np.ndarray, b: np.ndarray, won: np.ndarray, group: Sequence[object]) -> Judged:
    """A baseline: the creative with more of something wins (words of a text, area of a subject); equal is a coin."""
    p = 0.5 + 0.5 * np.sign(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
    return Judged(p, p, won, group)


def chance(won: np.ndarray, group: Sequence[object]) -> Judged:
    """The coin: 1/2 for every pair."""
    p = np.full(len(won), 0.5)
    return Judged(p, p, won, group)


def asked_twice(
    ask: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, won: np.ndarray,
    group: Sequence[object],
) -> Judged:  # fmt: skip
    """Ask ``ask(x, y) -> P(x wins)`` about rows a and b in both orders."""
    return Judged(ask(a, b), 1 - ask(b, a), won, group)


def table(systems: Mapping[str, Judged], *, seed: int = 0, against: str = "") -> str:
    """A line a system: the metrics that a reader asks for first; and differences of accuracy."""
    shown = ("accuracy", "both_right", "order_invariant", "flip_rate", "sampled", "ece")
    rows = [["", *shown, *([f"accuracy less {against}"] if against else [])]]
    for name, judged in systems.items():
        found = selection_metrics(judged, seed=seed)
        row = [name, *(str(found[m]) for m in shown)]
        if against:
            row.append("" if name == against else difference(judged, systems[against], seed=seed).signed())
        rows.append(row)
    wide = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, wide, strict=True)).rstrip() for r in rows)
