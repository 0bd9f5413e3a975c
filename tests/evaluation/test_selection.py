"""Metrics of selection: worked examples, invariance under exchange, intervals by test, baselines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshelf.evaluation.metrics import bootstrap_interval
from moonshelf.evaluation.selection import (
    METRICS,
    Judged,
    asked_twice,
    by_bucket,
    calibration,
    chance,
    difference,
    gap_buckets,
    larger_wins,
    per_pair,
    selection_metrics,
    table,
)  # fmt: skip


def judged(
    first: list[float], second: list[float], won: list[bool], group: list[int] | None = None
) -> Judged:
    return Judged(np.array(first), np.array(second), np.array(won), group or list(range(len(won))))


def test_a_worked_example() -> None:
    nan = float("nan")
    found = per_pair(
        judged(
            [0.9, 0.9, 0.1, 0.5, nan, nan],
            [0.8, 0.2, 0.3, 0.9, 0.9, nan],
            [True, True, True, True, True, True],
        )
    )
    wanted = {
        "accuracy": [1, 0.5, 0, 0.75, 0.5, 0], "first": [1, 1, 0, 0.5, 0, 0], "second": [1, 0, 0, 1, 1, 0],
        "both_right": [1, 0, 0, 0, 0, 0], "order_invariant": [1, 0.5, 0, 0.5, 0.5, 0],
        "flip_rate": [0, 1, 0, 0, 0, 0], "no_answer": [0, 0, 0, 0, 0.5, 1],
        "sampled": [0.85, 0.55, 0.2, 0.7, 0.45, 0],
    }  # fmt: skip
    assert {k: v.round(12).tolist() for k, v in found.items()} == wanted and tuple(found) == METRICS


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_exchanging_a_and_b_changes_nothing_but_places(rows: list[tuple[float, float, bool]]) -> None:
    x, y, won = (np.array(c) for c in zip(*rows, strict=True))
    one = judged(list(x), list(y), list(won))
    other = judged(list(1 - y), list(1 - x), list(~won))
    a, b = per_pair(one), per_pair(other)
    near = (np.abs(x - 0.5) < 1e-12) | (np.abs(y - 0.5) < 1e-12)  # 1 - x rounds
    for name in ("accuracy", "both_right", "order_invariant", "flip_rate"):
        assert np.array_equal(a[name][~near], b[name][~near])
    assert np.array_equal(a["first"][~near], b["second"][~near])
    assert np.allclose(a["sampled"], b["sampled"])
    assert (a["flip_rate"] <= (a["order_invariant"] == 0.5)).all()


def test_a_model_that_always_says_first_is_no_better_than_a_coin() -> None:
    rng = np.random.default_rng(0)
    won = rng.random(400) < 0.5
    always = Judged(np.full(400, 0.9), np.full(400, 0.1), won, list(range(400)))
    found = selection_metrics(always)
    assert found["accuracy"].value == found["order_invariant"].value == 0.5
    assert found["flip_rate"].value == 1 and found["both_right"].value == 0


def test_calibration_of_a_true_and_of_a_boastful_probability() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    won = rng.random(20_000) < p
    group = list(range(20_000))
    assert calibration(Judged(p, p, won, group)).value < 0.02
    loud = 0.5 + 0.5 * np.sign(p - 0.5)
    assert calibration(Judged(loud, loud, won, group)).value == pytest.approx(0.25, abs=0.02)
    coin = calibration(chance(won, group))
    assert coin.value == 0
    assert np.isnan(calibration(Judged(p[:2] * np.nan, p[:2], won[:2], group[:2])).value)


def test_intervals_draw_whole_tests() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(30) < 0.7, 10)
    p = np.where(right, 0.9, 0.1)
    won = np.ones(300, dtype=bool)
    group = np.repeat(np.arange(30), 10).tolist()
    wide, narrow = (selection_metrics(Judged(p, p, won, g))["accuracy"] for g in (group, list(range(300))))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low) and wide.value == narrow.value
    assert wide == bootstrap_interval(right.astype(float), groups=group)


def test_differences_are_paired_and_of_the_same_pairs() -> None:
    won = np.array([True, False] * 20)
    group = list(range(40))
    right = np.where(won, 0.8, 0.2)
    a = Judged(right, right, won, group)
    found = difference(a, chance(won, group))
    assert found.value == found.low == found.high == 0.5
    with pytest.raises(ValueError, match="other pairs"):
        difference(a, chance(~won, group))
    with pytest.raises(ValueError, match="no metric"):
        difference(a, a, "ece")


def test_baselines_and_asking_twice() -> None:
    won, group = np.array([True, False, True]), [0, 1, 2]
    longer = larger_wins(np.array([3, 3, 3]), np.array([1, 5, 3]), won, group)
    assert per_pair(longer)["accuracy"].tolist() == [1, 1, 0.5]
    score = np.array([2.0, 1.0, 0.0])
    twice = asked_twice(
        lambda x, y: (score[x] > score[y]).astype(float), np.array([0, 1, 2]), np.array([1, 2, 0]), won, group
    )
    assert np.array_equal(twice.first, twice.second) and per_pair(twice)["flip_rate"].sum() == 0


def test_buckets_and_table() -> None:
    labels = gap_buckets(np.array([0.0, 0.19, 0.2, 0.99, 5.0]))
    assert labels == ["0% to 20%", "0% to 20%", "20% to 40%", "60% to 100%", "above 100%"]
    won, group = np.ones(40, dtype=bool), list(range(40))
    p = np.where(np.arange(40) < 20, 0.9, 0.1)
    found = by_bucket(Judged(p, p, won, group), ["x"] * 20 + ["y"] * 15 + ["z"] * 5)
    assert {k: v.value for k, v in found.items()} == {"x": 1.0, "y": 0.0}
    shown = table({"ours": Judged(p, p, won, group), "coin": chance(won, group)}, against="coin")
    assert "accuracy less coin" in shown and "ours" in shown and len(shown.splitlines()) == 3


@pytest.mark.parametrize("bad", [[1.2], [-0.1]])
def test_what_is_no_probability_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError):
        judged(bad, [0.5], [True])
