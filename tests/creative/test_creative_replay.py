"""Replay: no policy beats the oracle, the even test is exact, a right verdict helps most with little traffic."""

from __future__ import annotations

import numpy as np
import pytest

from moonshelf.creative.replay import POLICIES, Prior, arms, gains, play, replay, shrunk


def made(tests: int = 150, *, known: float = 0.8, seed: int = 0) -> tuple[object, Prior]:
    """Tests of 2 to 5 creatives; ``known``: correlation of the score with the log rate."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(tests), rng.integers(2, 6, tests))
    effect = rng.normal(0, 0.3, len(group))
    rate = np.exp(-4 + rng.normal(0, 0.3, tests)[group] + effect)
    score = known * (known * effect + np.sqrt(1 - known**2) * rng.normal(0, 0.3, len(group)))
    return arms(group, rate, score), Prior(base=float(np.exp(-4)), spread=0.3 * float(np.sqrt(1 - known**2)))


def test_arms_are_a_table() -> None:
    table = arms(np.array([7, 3, 7]), np.array([0.1, 0.2, 0.3]), np.array([1.0, 2.0, 3.0]))
    assert np.array_equal(table.rate, [[0.2, np.nan], [0.1, 0.3]], equal_nan=True)
    assert table.score.tolist() == [[2, 0], [1, 3]] and table.there.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_beats_the_oracle_and_all_traffic_is_shown(policy) -> None:
    table, prior = made(40)
    rate = np.nan_to_num(table.rate)
    for traffic in (7, 1000):
        got = play(table, policy, traffic, prior, seed=1)
        low = np.where(table.there, table.rate, np.inf).min(1)
        assert (got <= traffic * rate.max(1) + 1e-9).all() and (got >= traffic * low - 1e-9).all()
        assert np.array_equal(got, play(table, policy, traffic, prior, seed=1))


def test_the_even_test_and_the_verdict_by_hand() -> None:
    table = arms(np.array([0, 0]), np.array([0.1, 0.3]), np.array([1.0, 0.0]))
    prior = Prior(base=0.1)
    assert play(table, "even", 100, prior)[0] == pytest.approx(20)
    assert play(table, "verdict", 100, prior)[0] == pytest.approx(10)
    assert play(table, "oracle", 100, prior)[0] == pytest.approx(30)


def test_a_right_verdict_helps_and_traffic_makes_up_for_it() -> None:
    table, prior = made()
    found = replay(table, prior, traffic=(500, 100_000), repeats=3)
    little, much = ({p: float(c.mean()) for p, c in found[t].items()} for t in (500, 100_000))
    for with_verdict in ("thompson", "ucb"):
        assert little[with_verdict] > little["plain"] > 0.99 * little["even"]
    assert much["plain"] > 1.1 * much["even"] and much["thompson"] > much["verdict"]
    got, gain = gains(found[500])["thompson"]
    assert gain.low > 0 and got.value == pytest.approx(little["thompson"])


def test_a_worthless_verdict_does_little_harm() -> None:
    table, prior = made(known=0.0)
    found = replay(table, prior, traffic=(10_000,), policies=("even", "plain", "thompson"), repeats=3)[10_000]
    assert found["thompson"].mean() > found["even"].mean()


def test_shrunk_rates_differ_less_than_logged_ones() -> None:
    rng = np.random.default_rng(0)
    group, n = np.repeat(np.arange(300), 4), np.full(1200, 2000)
    true = np.exp(np.repeat(rng.normal(-4, 0.3, 300), 4) + rng.normal(0, 0.2, 1200))
    clicks = rng.binomial(n, true)

    def spread(rate: np.ndarray) -> float:
        return float(np.log(rate).reshape(300, 4).var(axis=1, ddof=1).mean())

    assert spread((clicks + 0.5) / (n + 1)) > 0.06
    assert spread(shrunk(group, clicks, n, 0.04, 0)) == pytest.approx(0.04, abs=0.012)
