"""A run whose vectors have collapsed says so, once; others say nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moonshelf.training.collapse import STEPS, CollapseWatch


@pytest.fixture(autouse=True)
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moonshelf.progress._quiet", False)


def test_guessing_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    rng, watch = np.random.default_rng(0), CollapseWatch("posttrain")
    for step in range(3 * STEPS):
        watch.see(math.log(64) + float(rng.normal(0, 0.02)), 64)
        assert watch.said == (step >= STEPS - 1)
    err = capsys.readouterr().err
    assert err.count("collapsed") == 1 and "posttrain.optim.trunk_lr" in err and "among 64" in err


def test_what_learns_is_left_in_peace(capsys: pytest.CaptureFixture[str]) -> None:
    watch = CollapseWatch("posttrain")
    for step in range(3 * STEPS):  # a hard start above chance, then slowly better
        watch.see(math.log(64) + 1.0 - 0.08 * min(step, 20), 64)
    for _ in range(STEPS):
        watch.see(0.0, 1)  # a batch of one tells nothing
    assert not watch.said and not capsys.readouterr().err
