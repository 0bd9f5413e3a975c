"""Calibration against scikit-learn, what must hold of any such map, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from moonshelf.errors import InputError
from moonshelf.evaluation.clicks import Scored, calibration_error, log_loss
from moonshelf.ranking.calibrate import Calibration, Kind, fit_calibration, undo_sampling


def overconfident(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose logits are twice too steep and one too high, and labels."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-1.5, 1.0, n)
    return 1 / (1 + np.exp(-2 * z - 1)), rng.random(n) < 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_equals_unpenalised_logistic_regression(weighted: bool) -> None:
    p, y = overconfident()
    w = np.random.default_rng(1).uniform(0.2, 3, len(p)) if weighted else None
    x = np.log(p / (1 - p))[:, None]
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=w)
    found = fit_calibration("platt", p, y, w)
    assert found.slope == pytest.approx(oracle.coef_[0, 0], rel=1e-5)
    assert found.intercept == pytest.approx(oracle.intercept_[0], rel=1e-5, abs=1e-6)
    np.testing.assert_allclose(found.apply(p), oracle.predict_proba(x)[:, 1], atol=1e-6)
    if not weighted:  # the truth: half the slope, minus half
        assert abs(found.slope - 0.5) < 0.05 and abs(found.intercept + 0.5) < 0.15


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("digits", [1, 2, 12])
def test_isotonic_equals_scikit_learn(weighted: bool, digits: int) -> None:
    p, y = overconfident(1500, seed=digits)
    p = p.round(digits)  # one digit: eleven distinct scores
    w = np.random.default_rng(2).uniform(0.2, 3, len(p)) if weighted else None
    oracle = IsotonicRegression(out_of_bounds="clip").fit(p, y, sample_weight=w)
    found = fit_calibration("isotonic", p, y, w)
    grid = np.linspace(0, 1, 4001)
    np.testing.assert_allclose(found.apply(grid), oracle.predict(grid), atol=1e-9)
    assert len(found.thresholds) <= len(np.unique(p))


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans(), st.integers(1, 3)), min_size=2, max_size=40).filter(
        lambda rows: len({y for _, y, _ in rows}) == 2
    )
)
def test_isotonic_on_any_rows_is_scikit_learns_and_rises(rows: list[tuple[int, bool, int]]) -> None:
    p, y, w = (np.array(c) for c in zip(*rows, strict=True))
    p = p / 12
    found = fit_calibration("isotonic", p, y, w)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(p, y.astype(float), sample_weight=w)
    np.testing.assert_allclose(found.apply(p), oracle.predict(p), atol=1e-9)
    level = found.apply(np.linspace(0, 1, 200))
    assert (np.diff(level) >= 0).all() and level.min() >= 0 and level.max() <= 1
    # the mean stays what it was: what is pooled is averaged
    assert np.average(found.apply(p), weights=w) == pytest.approx(np.average(y, weights=w))


def test_platt_keeps_the_order_and_isotonic_never_turns_it() -> None:
    p, y = overconfident()
    order = np.argsort(p, kind="stable")
    assert (np.diff(fit_calibration("platt", p, y).apply(p)[order]) > 0).all()
    assert (np.diff(fit_calibration("isotonic", p, y).apply(p)[order]) >= 0).all()
    ends = fit_calibration("platt", p, y).apply(np.array([0.0, 1.0]))  # infinite logits are cut
    assert 0 < ends[0] < ends[1] < 1


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_other_rows_are_better_calibrated_afterwards(kind: Kind) -> None:
    p, y = overconfident(6000)
    fit, test = slice(0, 3000), slice(3000, None)
    found = fit_calibration(kind, p[fit], y[fit])
    user = np.arange(3000)
    before, after = (Scored(s, y[test], user) for s in (p[test], found.apply(p[test])))
    assert calibration_error(after) < 0.5 * calibration_error(before)
    assert log_loss(after).value < log_loss(before).value - 0.03


@pytest.mark.parametrize("kind", ["platt", "isotonic"])
def test_json_gives_back_the_same_map(kind: Kind) -> None:
    p, y = overconfident(500)
    found = fit_calibration(kind, p, y)
    again = Calibration.from_dict(json.loads(json.dumps(found.as_dict())))
    assert again == found and np.array_equal(again.apply(p), found.apply(p)) and found.n == 500


def test_weights_count_as_repeated_rows() -> None:
    p, y = overconfident(300)
    times = np.random.default_rng(3).integers(0, 4, len(p))
    for kind in ("platt", "isotonic"):
        one = fit_calibration(kind, p, y, times)  # type: ignore[arg-type]
        many = fit_calibration(kind, np.repeat(p, times), np.repeat(y, times))  # type: ignore[arg-type]
        np.testing.assert_allclose(one.apply(p), many.apply(p), atol=1e-8)


def test_undo_sampling_gives_back_the_rate_among_all_rows() -> None:
    rng = np.random.default_rng(4)
    group = rng.integers(0, 3, 300_000)
    rate = np.array([0.01, 0.05, 0.3])
    y = rng.random(len(group)) < rate[group]
    kept = y | (rng.random(len(group)) < 0.1)
    seen = np.array([y[kept & (group == g)].mean() for g in range(3)])  # what a perfect model learns
    true = np.array([y[group == g].mean() for g in range(3)])
    assert (seen > 1.5 * true).all()
    np.testing.assert_allclose(undo_sampling(seen, 0.1), true, rtol=0.06)
    p = np.linspace(0, 1, 101)
    np.testing.assert_allclose(undo_sampling(p, 1.0), p)
    assert (np.diff(undo_sampling(p, 0.01)) > 0).all() and undo_sampling(p, 0.01)[[0, -1]].tolist() == [0, 1]
    for keep in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="of the negatives kept"):
            undo_sampling(p, keep)


def test_what_cannot_be_fitted_is_refused() -> None:
    p, y = overconfident(50)
    for kind in ("platt", "isotonic"):
        with pytest.raises(InputError, match="all 50 labels are 0"):
            fit_calibration(kind, p, np.zeros(50))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="a score is NaN"):
            fit_calibration(kind, np.where(p > 0.5, np.nan, p), y)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"between 0 and 1 \(the sigmoid"):
            fit_calibration(kind, p * 3 - 1, y)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="differ in shape"):
            fit_calibration(kind, p, y[:-1])  # type: ignore[arg-type]
        with pytest.raises(InputError, match="other than 0 and 1"):
            fit_calibration(kind, p, y * 2)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="negative"):
            fit_calibration(kind, p, y, -np.ones(50))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no row counts"):
            fit_calibration(kind, p, y, np.zeros(50))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no calibration named 'beta'"):
        fit_calibration("beta", p, y)  # type: ignore[arg-type]


def test_platt_refuses_what_has_no_rising_finite_answer() -> None:
    p, y = overconfident(200)
    with pytest.raises(InputError, match="all scores are equal"):
        fit_calibration("platt", np.full(200, 0.3), y)
    with pytest.raises(InputError, match="without overlap"):
        fit_calibration("platt", p, p > np.median(p))
    with pytest.raises(InputError, match="labels fall where scores rise"):
        fit_calibration("platt", p, ~y)
    assert fit_calibration("isotonic", p, p > np.median(p)).apply(p).tolist() == (p > np.median(p)).tolist()


def test_damaged_files_are_refused() -> None:
    good: dict[str, object] = {"kind": "isotonic", "n": 3, "thresholds": [0.1, 0.2], "values": [0.0, 1.0]}
    Calibration.from_dict(good)
    for wrong in (
        {},
        {"kind": "beta", "n": 1},
        {**good, "values": [1.0, 0.0]},
        {**good, "values": [0.5, float("nan")]},
        {**good, "thresholds": [0.2, 0.1]},
        {**good, "thresholds": [0.2]},
        {**good, "thresholds": "x"},
        {**good, "extra": 1},
        {"kind": "platt", "n": 3, "slope": -1.0, "intercept": 0.0},
        {"kind": "platt", "n": 3, "slope": None, "intercept": 0.0},
    ):
        with pytest.raises(InputError, match="no calibration"):
            Calibration.from_dict(wrong)
