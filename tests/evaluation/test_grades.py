"""Agreement with judged grades against scipy, sklearn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from moonshelf.evaluation import grades
from moonshelf.evaluation.grades import Graded


def made(seed: int = 0, queries: int = 40, noise: float = 0.7, ties: bool = True) -> Graded:
    rng = np.random.default_rng(seed)
    query = np.repeat(np.arange(queries), rng.integers(2, 15, queries))
    grade = rng.choice([1.0, 1.33, 2.0, 2.67, 3.0], len(query))
    score = grade + rng.normal(0, noise, len(query))
    return Graded(score.round(1) if ties else score, grade, query)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_equals_scipy_with_ties(seed: int) -> None:
    rows = made(seed)
    assert grades.spearman(rows, draws=2).value == pytest.approx(
        spearmanr(rows.score, rows.grade)[0], abs=1e-12
    )


def test_spearman_draws_whole_queries() -> None:
    rows = made(1, queries=12)
    rng = np.random.default_rng(3)
    drawn = [rng.multinomial(12, np.full(12, 1 / 12)) for _ in range(50)]
    values = []
    for times in drawn:
        at = np.repeat(np.arange(len(rows.query)), times[rows.query])
        values.append(spearmanr(rows.score[at], rows.grade[at])[0])
    low, high = np.percentile(values, [2.5, 97.5])
    found = grades.spearman(rows, seed=3, draws=50)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    assert found.n == 12


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_equals_sklearn(k: int) -> None:
    rows = made(2, ties=False)
    own = [rows.query == q for q in range(40)]
    wanted = [ndcg_score([rows.grade[at]], [rows.score[at]], k=k) for at in own]
    assert grades.query_ndcg(rows, k)[1] == pytest.approx(wanted, abs=1e-12)
    assert grades.ndcg_at(rows, k).value == pytest.approx(np.mean(wanted), abs=1e-12)


def test_ndcg_shares_the_gain_of_equal_scores() -> None:
    rows = made(3)
    wanted = [
        ndcg_score([rows.grade[rows.query == q]], [rows.score[rows.query == q]], k=10) for q in range(40)
    ]
    assert grades.query_ndcg(rows, 10)[1] == pytest.approx(wanted, abs=1e-12)  # sklearn averages ties too
    flat = Graded(np.zeros(4), np.array([3.0, 0, 0, 0]), np.zeros(4, int))
    assert grades.ndcg_at(flat, 2).value == pytest.approx((1 + 1 / np.log2(3)) / 4)


def test_ndcg_leaves_out_queries_without_gain() -> None:
    rows = Graded(np.array([1.0, 2, 1, 2]), np.array([0.0, 0, 1, 0]), np.array([0, 0, 1, 1]))
    assert grades.query_ndcg(rows)[0].tolist() == [1]
    with pytest.raises(ValueError, match="above 0"):
        grades.ndcg_at(Graded(np.ones(2), np.zeros(2), np.zeros(2, int)))
    with pytest.raises(ValueError, match="0 and more"):
        grades.ndcg_at(Graded(np.ones(2), np.array([-1.0, 1]), np.zeros(2, int)))


def test_rmse_counts_pairs() -> None:
    rows = made(4)
    found = grades.rmse(rows)
    assert found.value == pytest.approx(np.sqrt(np.mean((rows.score - rows.grade) ** 2)))
    assert found.low < found.value < found.high


def test_calibration_gap_counts_bins() -> None:
    rng = np.random.default_rng(0)
    score = rng.permutation(np.linspace(1, 3, 5000))
    grade = score + rng.normal(0, 0.3, 5000)
    query = np.repeat(np.arange(500), 10)
    assert grades.calibration_gap(Graded(score, grade, query)).value < 0.03
    high = grades.calibration_gap(Graded(score + 0.2, grade, query))
    assert high.value == pytest.approx(0.2, abs=0.02) and high.low < 0.2 < high.high
    wide = grades.calibration_gap(Graded(2 + 2 * (score - 2), grade, query))  # right on the mean, too sure
    wanted = np.abs(score - 2).mean()
    assert wide.value == pytest.approx(wanted, abs=0.03)
    few = Graded(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0.0, 1, 1, 1]), np.arange(4))
    assert grades.calibration_gap(few, bins=2).value == pytest.approx((0.3 * 2 + 0.2 * 2) / 4)
    assert grades.calibration_gap(few, bins=10).value == pytest.approx((0.3 * 2 + 0.2 * 2) / 4)
    half = Graded(few.score, few.grade, np.zeros(4, int))
    assert grades.calibration_gap(half).low == grades.calibration_gap(half).high  # one query: nothing to draw


def test_differences_are_paired() -> None:
    good, bad = made(5, noise=0.3), made(5, noise=2.0)
    assert grades.spearman_difference(good, good).low == grades.spearman_difference(good, good).high == 0
    for difference, sign in (
        (grades.spearman_difference(good, bad), 1),
        (grades.ndcg_difference(good, bad), 1),
        (grades.rmse_difference(good, bad), -1),
    ):
        assert difference.low * sign > 0 and difference.high * sign > 0
    value = grades.spearman(good).value - grades.spearman(bad).value
    assert grades.spearman_difference(good, bad).value == pytest.approx(value)
    other = Graded(bad.score, bad.grade + 1, bad.query)
    with pytest.raises(ValueError, match="other pairs"):
        grades.rmse_difference(good, other)


@pytest.mark.parametrize(
    ("score", "grade", "query", "message"),
    [
        ([1.0], [1.0, 2.0], [0, 0], "length"),
        ([np.nan, 1.0], [1.0, 2.0], [0, 0], "NaN"),
        ([], [], [], "no pairs"),
    ],
)
def test_what_cannot_be_measured_is_refused(score: list, grade: list, query: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graded(np.array(score), np.array(grade), np.array(query))


def test_spearman_needs_two_grades() -> None:
    with pytest.raises(ValueError, match="two different"):
        grades.spearman(Graded(np.arange(3.0), np.ones(3), np.arange(3)))
