"""The best of N: strengths of known truth come back, places cancel, close calls are withheld."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshelf.creative.tournament import from_scores, stand


def square(t: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(t[None] - t[:, None])))


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=8))
@settings(max_examples=60, deadline=None)
def test_true_strengths_come_back(values: list[float]) -> None:
    t = np.array(values)
    found = stand(square(t), ridge=1e-9)
    assert np.allclose(found.strength, t - t.mean(), atol=1e-4)
    same = from_scores(t)
    assert np.allclose(found.best, same.best, atol=1e-4) and found.best.sum() == pytest.approx(1)
    assert found.flips == 0
    assert found.strength[found.order[0]] == found.strength.max()


def test_a_preference_for_the_first_place_cancels() -> None:
    t = np.array([0.0, 1.0, -0.5])
    bias = 1.5
    wins = 1 / (1 + np.exp(t[None] - t[:, None] - bias))  # whoever stands first is preferred
    found = stand(wins)
    assert found.order.tolist() == [1, 0, 2] and found.flips > 0.5


def test_close_calls_are_withheld() -> None:
    assert stand(square(np.array([0.0, 0.1]))).verdict is None
    assert stand(square(np.array([0.0, 0.1])), close=0.5).verdict == 1
    assert stand(square(np.array([0.0, 2.0]))).verdict == 1
    assert from_scores(np.array([1.0, 1.0])).verdict is None


def test_pairs_that_were_not_asked_and_sure_winners_keep_it_finite() -> None:
    wins = np.full((4, 4), np.nan)
    wins[0, 1] = wins[1, 2] = 1.0  # one order alone, 3 never
    found = stand(wins)
    assert np.isfinite(found.strength).all() and found.order.tolist()[0] == 0
    assert found.strength[0] > found.strength[1] > found.strength[2] and found.flips == 0


@pytest.mark.parametrize("bad", [np.zeros((1, 1)), np.zeros((2, 3)), np.full((2, 2), 1.5)])
def test_what_is_no_square_of_probabilities_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError):
        stand(bad)
