"""Creatives shown online: Thompson sampling and UCB with a selector's verdict as prior, replayed on logged tests.

Model of arm i of a test: click rate ``= b r_i g_i``, with a base b that all arms share, ``r_i = exp(f_i)`` what the
selector expects (mean 1; all 1 without a verdict) and ``g_i`` a gamma variable of mean 1 and variance ``spread^2``,
what it does not know. With clicks k and impressions n, and ``m = 1 / spread^2``,

    b    is estimated as (c0 + sum k) / (c0 / b0 + sum n r)        c0 clicks worth of the shop's usual rate b0
    g_i  given the data is Gamma(m + k_i, m + n_i b r_i)           (conjugate to the Poisson)

Thompson sampling (Thompson 1933) draws every g_i and shows the arm of the largest ``r_i g_i``; UCB takes the posterior
mean and ``width`` standard deviations. A flat Beta(1, 1) bandit is kept beside it. Our design.

**The replay's clicks are made from logged rates**: binomial draws with ``clicks / impressions`` of every creative. The
log's chance is thereby taken for truth, which makes creatives differ more than they do; ``shrunk`` rates do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moonshelf.evaluation.metrics import bootstrap_interval, paired_difference
from moonshelf.types import Interval

Policy = Literal[
    "even", "verdict", "flat", "plain", "thompson", "ucb", "ucb_plain", "test_then_best", "oracle"
]
POLICIES: dict[Policy, str] = {
    "even": "even A/B test: every creative equally often",
    "test_then_best": "even test on the first half, then its best",
    "flat": "Thompson sampling, Beta(1, 1), no verdict",
    "plain": "Thompson sampling of this module, no verdict",
    "ucb_plain": "UCB of this module, no verdict",
    "verdict": "the verdict alone: its best all the time",
    "thompson": "Thompson sampling with the verdict",
    "ucb": "UCB with the verdict",
    "oracle": "the truly best all the time",
}
TRAFFIC = (300, 1_000, 3_000, 10_000, 30_000, 100_000)
STEPS = 60  # decisions of a replay; the traffic between two of them goes out as decided


@dataclass(frozen=True, slots=True)
class Arms:
    """T tests of up to N creatives.

    Attributes:
        rate: ``[T, N]`` true click rates, NaN behind the last creative.
        score: ``[T, N]`` the selector's f (log rate up to a constant), 0 behind the last.
    """

    rate: np.ndarray
    score: np.ndarray

    @property
    def there(self) -> np.ndarray:
        """``[T, N]`` bool."""
        found: np.ndarray = ~np.isnan(self.rate)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is known before the first click.

    Attributes:
        base: usual click rate b0.
        weight: clicks c0 that it counts for.
        spread: standard deviation of log rates around the verdict; of the selector.
        spread_plain: the same around nothing, for the bandit without a verdict.
        width: of UCB; 2 was chosen among 1 to 3 on val tests of headlines.
    """

    base: float
    weight: float = 2.0
    spread: float = 0.2
    spread_plain: float = 0.3
    width: float = 2.0


def arms(group: np.ndarray, rate: np.ndarray, score: np.ndarray) -> Arms:
    """Creatives as a table of tests; ``group``, ``rate``, ``score`` are ``[C]``."""
    names, own = np.unique(group, return_inverse=True)
    order = np.argsort(own, kind="stable")
    begin = np.searchsorted(own[order], np.arange(len(names)))
    column = np.arange(len(own)) - begin[own[order]]
    table = np.full((2, len(names), int(column.max()) + 1), np.nan)
    table[0, own[order], column], table[1, own[order], column] = rate[order], score[order]
    return Arms(table[0], np.nan_to_num(table[1]))


def shrunk(
    group: np.ndarray, clicks: np.ndarray, impressions: np.ndarray, tau2: float, seed: int
) -> np.ndarray:
    """``[C]`` rates drawn from what the log leaves possible, true log rates being normal in a test, of variance tau^2.

    The log rate is ``N(w y + (1 - w) mean, w / v)`` with ``v = k + 1/2`` and ``w = tau^2 / (tau^2 + 1 / v)``.
    """
    v = clicks + 0.5
    y = np.log(v / (impressions + 1.0))
    _, own = np.unique(group, return_inverse=True)
    weight = 1 / (1 / v + tau2)
    mean = (np.bincount(own, weight * y) / np.bincount(own, weight))[own]
    w = tau2 / (tau2 + 1 / v)
    drawn = np.random.default_rng(seed).normal(w * y + (1 - w) * mean, np.sqrt(w / v))
    return np.minimum(np.exp(drawn), 1.0)


def play(table: Arms, policy: Policy, traffic: int, prior: Prior, *, seed: int = 0) -> np.ndarray:
    """``[T]`` expected clicks of one replay: the true rates of what was shown, summed.

    Args:
        traffic: impressions of each test.
        seed: of the clicks and the draws.

    Cost: ``STEPS`` passes over ``[T, N]``.
    """
    rng, there = np.random.default_rng(seed), table.there
    rate = np.where(there, table.rate, 0.0)
    best = np.where(there, table.score, -np.inf).argmax(1)
    if policy == "oracle":
        return np.asarray(traffic * rate.max(1))
    if policy == "verdict":
        return np.asarray(traffic * rate[np.arange(len(rate)), best])
    if policy == "even":
        return np.asarray(traffic * rate.sum(1) / there.sum(1))
    centre = np.where(there, table.score, 0.0).sum(1) / there.sum(1)
    told = np.where(there, np.exp(table.score - centre[:, None]), 0.0)
    ratio = told if policy in ("thompson", "ucb") else there.astype(np.float64)
    m = 1 / (prior.spread if policy in ("thompson", "ucb") else prior.spread_plain) ** 2
    shown, clicks = np.zeros_like(rate), np.zeros_like(rate)
    ends = np.unique(np.round(np.linspace(0, traffic, STEPS + 1)).astype(np.int64))
    for size in np.diff(ends):
        if policy == "test_then_best" and shown.sum(1)[0] < traffic / 2:
            give = rng.multinomial(size, there / there.sum(1, keepdims=True)).astype(np.float64)
        elif policy == "test_then_best":
            give = _all_to(np.where(there, clicks / np.maximum(shown, 1e-9), -np.inf), size)
        elif policy == "flat":
            give = _split(
                rng, np.where(there, 1 + clicks, 1), np.maximum(1 + shown - clicks, 1.0), there, size
            )
        else:
            base = (prior.weight + clicks.sum(1)) / (prior.weight / prior.base + (shown * ratio).sum(1))
            shape, pace = m + clicks, m + shown * base[:, None] * ratio
            if policy in ("ucb", "ucb_plain"):
                bound = ratio * (shape + prior.width * np.sqrt(shape)) / pace
                give = _all_to(np.where(there, bound, -np.inf), size)
            else:
                give = np.zeros_like(rate)
                for part in _parts(int(size)):
                    give += _all_to(np.where(there, ratio * rng.gamma(shape) / pace, -np.inf), part)
        shown += give
        clicks += rng.binomial(give.astype(np.int64), rate)
    return np.asarray((shown * rate).sum(1))


def _parts(size: int, most: int = 8) -> list[int]:
    """A batch in a few whole parts: each gets draws of its own."""
    n = max(1, min(most, size))
    return [size // n + (i < size % n) for i in range(n)]


def _all_to(value: np.ndarray, size: float) -> np.ndarray:
    give = np.zeros_like(value)
    give[np.arange(len(value)), value.argmax(1)] = size
    return give


def _split(
    rng: np.random.Generator, a: np.ndarray, b: np.ndarray, there: np.ndarray, size: float
) -> np.ndarray:
    give = np.zeros(a.shape)
    for part in _parts(int(size)):
        give += _all_to(np.where(there, rng.beta(a, b), -np.inf), part)
    return give


def replay(
    table: Arms,
    prior: Prior,
    *,
    traffic: Sequence[int] = TRAFFIC,
    policies: Sequence[Policy] = tuple(POLICIES),
    repeats: int = 10,
    seed: int = 0,
) -> dict[int, dict[Policy, np.ndarray]]:
    """``{traffic: {policy: [T] mean expected clicks over repeats}}``."""
    found: dict[int, dict[Policy, np.ndarray]] = {}
    for size in traffic:
        found[size] = {
            policy: np.mean([play(table, policy, size, prior, seed=seed + r) for r in range(repeats)], axis=0)
            for policy in policies
        }
    return found


def gains(
    clicks: Mapping[Policy, np.ndarray], against: Policy = "even", *, seed: int = 0
) -> dict[Policy, tuple[Interval, Interval]]:
    """Of each policy the clicks a test, and their gain over ``against``, relative to the mean of ``against``.

    Intervals draw tests; the mean of ``against`` in the denominator is held fixed.
    """
    base = float(clicks[against].mean())
    return {
        policy: (
            bootstrap_interval(got, seed=seed),
            paired_difference(got / base, clicks[against] / base, seed=seed),
        )
        for policy, got in clicks.items()
    }
