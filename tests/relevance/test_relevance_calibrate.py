"""Calibration against sklearn, and what it must keep."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression

from moonshelf.relevance.calibrate import calibrate, isotonic


@pytest.mark.parametrize("seed", range(5))
def test_isotonic_equals_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = np.arange(60) / 30 + rng.normal(0, 1, 60).round(1)
    assert isotonic(value) == pytest.approx(IsotonicRegression().fit_transform(np.arange(60), value))


@pytest.mark.parametrize("turned", [False, True])
def test_equal_scores_are_one_point(turned: bool) -> None:
    score, grade = np.repeat([0.5, 0.7], 10), np.tile(np.repeat([1.0, 3.0], 5), 2)
    at = slice(None, None, -1 if turned else 1)
    fit = calibrate(score[at], grade[at])
    assert fit.probability(np.array([0.5, 0.6, 0.7, 0.9]), 2.5) == pytest.approx(0.5)


def test_line_is_least_squares_and_keeps_the_order() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(2, 0.3, 500)
    grade = np.clip((1.5 * score - 0.8 + rng.normal(0, 0.4, 500)).round(), 1, 3)
    fit = calibrate(score, grade)
    line = LinearRegression().fit(score[:, None], grade)
    assert (fit.slope, fit.level) == pytest.approx((line.coef_[0], line.intercept_))
    told = fit.grades(score)
    assert told.mean() == pytest.approx(grade.mean(), abs=0.02)
    assert told.min() >= 1 and told.max() <= 3
    assert (np.diff(told[np.argsort(score)]) >= 0).all()


def test_probability_rises_with_the_score_and_falls_with_the_threshold() -> None:
    rng = np.random.default_rng(1)
    score = rng.uniform(0, 1, 3000)
    grade = (rng.uniform(0, 1, 3000) < score).astype(float) + 1
    fit = calibrate(score, grade)
    at = np.linspace(0.1, 0.9, 9)
    assert fit.probability(at, 2) == pytest.approx(at, abs=0.1)
    assert (np.diff(fit.probability(at, 2)) >= 0).all()
    assert (fit.probability(at, 1) == 1).all() and (fit.probability(at, 3) == 0).all()


def test_scores_against_the_grades_do_not_turn_the_order() -> None:
    assert calibrate(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])).slope == 1.0
    assert calibrate(np.ones(3), np.array([3.0, 2, 1])).slope == 1.0
    with pytest.raises(ValueError, match="two pairs"):
        calibrate(np.ones(1), np.ones(1))
