"""The scale of the fast selector: what it says with 70% is right in 70%, by the true click rates."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from creative_log import make_log

from moonshelf.creative import fit
from moonshelf.creative.fast import sigmoid
from moonshelf.creative.fit import fit_fast, scale_of
from moonshelf.creative.logs import Logged, from_log
from moonshelf.creative.measures import briefs, see
from moonshelf.encoder import CompactEncoder


def made(tests: int, seed: int, slope: float, spread: float) -> tuple[Logged, np.ndarray, np.ndarray]:
    """Tests of three creatives with scores, true log rates around ``slope`` times those, and clicks; and both."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 0.3, 3 * tests)
    truth = -4 + slope * scores + rng.normal(0, spread, 3 * tests)
    shown = rng.integers(500, 20_000, 3 * tests)
    frame = pl.DataFrame(
        {
            "group": np.repeat(np.arange(tests), 3),
            "clicks": rng.binomial(shown, np.exp(truth)),
            "impressions": shown,
        }
    )
    return Logged(frame), scores, truth


@pytest.mark.parametrize("slope", [0.6, 1.0, 1.6])
def test_probabilities_are_of_true_rates(slope: float) -> None:
    """Of pairs that are said to be right with 60 to 90% so many are, by true rates and not by lucky clicks."""
    log, scores, truth = made(1500, 3, slope, 0.25)
    scale = scale_of(log, scores, 0.25)
    i = np.arange(0, 4500, 3)
    a, b = np.concatenate((i, i, i + 1)), np.concatenate((i + 1, i + 2, i + 2))
    told = sigmoid(scale * (scores[a] - scores[b]))
    told, right = np.maximum(told, 1 - told), (truth[a] > truth[b]) == (told > 0.5)
    for low in (0.6, 0.7, 0.8, 0.9):
        at = (told >= low) & (told < low + 0.1)
        assert right[at].mean() == pytest.approx(told[at].mean(), abs=0.05)


def test_few_pairs_that_are_all_right_promise_little() -> None:
    log, scores, truth = made(2, 0, 1.0, 0.25)
    ranks = truth.reshape(2, 3).argsort(1).argsort(1)
    ordered = np.take_along_axis(np.sort(scores.reshape(2, 3)), ranks, 1).ravel()
    assert 1 < scale_of(log, ordered, 0.25) < 15


def test_more_creatives_than_memory_holds(
    _untrained: CompactEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = from_log(make_log(50), apart="")
    seen = see(_untrained, briefs(logged.frame))
    told: list[str] = []
    monkeypatch.setattr(fit, "MOST", 60)
    monkeypatch.setattr(fit, "say", told.append)
    model = fit_fast(logged, seen, mixes=[("measures",)])
    assert (model.about["train"], model.about["val"]) == (60, 12)  # tests of four, of 120 and of 40
    assert "60 of 120 creatives" in told[0] and "12 of 40" in told[1]
    assert fit_fast(logged, seen, mixes=[("measures",)]).scale == model.scale
