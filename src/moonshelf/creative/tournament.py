"""The best of N creatives from what is said of their pairs (Bradley & Terry 1952).

Strengths ``t`` with ``P(i beats j) = sigmoid(t_i - t_j)`` maximise

    sum over pairs of p_ij log sigmoid(t_i - t_j) + (1 - p_ij) log sigmoid(t_j - t_i)  -  (ridge / 2) sum t_i^2,

``p`` being the mean of both orders, so that a preference for a place cancels. The probability of being the best is that
of Luce's choice axiom (1959): ``exp(t_i) / sum exp(t)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RIDGE = 0.01  # keeps strengths finite where one wins every time
CLOSE = 0.55  # below this probability against the runner-up there is no verdict


@dataclass(frozen=True, slots=True)
class Standing:
    """The outcome.

    Attributes:
        strength: ``[N]``, mean 0.
        best: ``[N]`` probability of being the best; sums to 1.
        order: ``[N]`` numbers of the creatives, best first.
        over_next: probability that the first beats the second.
        flips: share of the pairs whose two orders named different winners.
        verdict: number of the best, or None where it is too close.
    """

    strength: np.ndarray
    best: np.ndarray
    order: np.ndarray
    over_next: float
    flips: float
    verdict: int | None


def stand(wins: np.ndarray, *, close: float = CLOSE, ridge: float = RIDGE) -> Standing:
    """Rank creatives by pairwise probabilities.

    Args:
        wins: ``[N, N]``; ``wins[i, j]`` is what the selector says of i against j when i stands first. The diagonal is
            not read; NaN: not asked, or no answer.
        close: the verdict is withheld when the first beats the second with a probability below this.
        ridge: pull of all strengths towards 0.

    Raises:
        ValueError: not a square of probabilities, or fewer than two creatives.

    Cost: a few Newton steps of ``N^3``.
    """
    wins = np.asarray(wins, dtype=np.float64)
    n = len(wins)
    if wins.shape != (n, n) or n < 2:
        raise ValueError(
            f"pairwise probabilities of shape {wins.shape}; they must be a square of two or more"
        )
    off = ~np.eye(n, dtype=bool)
    told = wins[off & ~np.isnan(wins)]
    if ((told < 0) | (told > 1)).any():
        raise ValueError("a probability is not between 0 and 1")
    forward, backward = wins, 1 - wins.T
    asked = off & ~(np.isnan(forward) & np.isnan(backward))
    both = np.stack((forward, backward))
    answers = (~np.isnan(both)).sum(0)
    p = np.where(asked, np.nan_to_num(both).sum(0) / np.maximum(answers, 1), 0.5)
    strength = _strengths(p, asked, ridge)
    weight = np.exp(strength - strength.max())
    order = np.argsort(-strength, kind="stable")
    first, second = int(order[0]), int(order[1])
    over = float(1 / (1 + np.exp(strength[second] - strength[first])))
    twice = np.triu(off & ~np.isnan(forward) & ~np.isnan(backward))
    flips = (forward - 0.5) * (backward - 0.5) < 0
    share = float(flips[twice].mean()) if twice.any() else 0.0
    return Standing(strength, weight / weight.sum(), order, over, share, first if over >= close else None)


def _strengths(p: np.ndarray, asked: np.ndarray, ridge: float) -> np.ndarray:
    n = len(p)
    t = np.zeros(n)
    for _ in range(100):
        q = 1 / (1 + np.exp(-np.clip(t[:, None] - t[None], -40, 40)))
        slope = np.where(asked, p - q, 0.0).sum(1) - ridge * t
        bend = np.where(asked, q * (1 - q), 0.0)
        matrix = np.diag(bend.sum(1) + ridge) - bend
        step = np.linalg.solve(matrix, slope)
        t = t + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    centred: np.ndarray = t - t.mean()
    return centred


def from_scores(scores: np.ndarray, scale: float = 1.0, *, close: float = CLOSE) -> Standing:
    """The standing of creatives that have a score each: then ``t = scale * score`` and nothing need be fitted."""
    t = scale * np.asarray(scores, dtype=np.float64)
    if t.ndim != 1 or len(t) < 2 or not np.isfinite(t).all():
        raise ValueError("a standing needs two finite scores or more")
    t = t - t.mean()
    weight = np.exp(t - t.max())
    order = np.argsort(-t, kind="stable")
    over = float(1 / (1 + np.exp(t[order[1]] - t[order[0]])))
    return Standing(t, weight / weight.sum(), order, over, 0.0, int(order[0]) if over >= close else None)
