"""From a model's score to a mean grade, and to the probability of a grade or better: fit on held-out queries.

Probabilities by isotonic regression as Zadrozny & Elkan (KDD 2002); a line for the mean grade is our choice, since it
keeps the order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was seen on held-out pairs.

    Attributes:
        score: ``[n]`` float64 scores, ascending. grade: ``[n]`` their grades.
        slope, level: ``mean grade = slope * score + level``, by least squares.
    """

    score: np.ndarray
    grade: np.ndarray
    slope: float
    level: float

    def grades(self, score: np.ndarray) -> np.ndarray:
        """Mean grades, inside the range of the grades that were seen; a line, so the order of scores stays."""
        line = self.slope * score + self.level
        return np.asarray(np.clip(line, self.grade.min(), self.grade.max()), dtype=np.float32)

    def probability(self, score: np.ndarray, threshold: float) -> np.ndarray:
        """``P(grade >= threshold)`` by isotonic regression over the held-out pairs, ``[n]`` float32."""
        place, own = np.unique(self.score, return_inverse=True)  # equal scores are one point
        mass = np.bincount(own)
        fitted = isotonic(np.bincount(own, self.grade >= threshold) / mass, mass)
        return np.asarray(np.interp(score, place, fitted), dtype=np.float32)


def calibrate(score: np.ndarray, grade: np.ndarray) -> Calibration:
    """Fit on held-out pairs; where scores do not rise with grades there (too few pairs), only the level is fit.

    Raises:
        ValueError: fewer than two pairs.
    """
    if len(score) < 2:
        raise ValueError("calibration needs at least two pairs")
    order = np.argsort(score, kind="stable")
    x, y = score[order].astype(np.float64), grade[order].astype(np.float64)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    slope = slope if slope > 0 else 1.0  # never turn the order round on the word of a few pairs
    return Calibration(x, y, slope, float(y.mean() - slope * x.mean()))


def isotonic(value: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The ascending sequence nearest to ``value [n]`` by least squares, weighted by ``weight [n]`` (default: alike)."""
    fitted = isotonic_regression(value, weights=weight).x if len(value) else value
    return np.asarray(fitted, dtype=np.float64)
