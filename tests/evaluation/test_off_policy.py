"""Off-policy estimates against plain sums, the truth of simulated logs, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax

from moonshelf.errors import InputError
from moonshelf.evaluation.off_policy import (
    Logged,
    chance_of,
    estimate,
    expected,
    greedy_policy,
    softmax_policy,
    support,
    weights,
)

ACTIONS = 6


def world(rng: np.random.Generator, n: int, model_error: float = 0.3) -> tuple[Logged, np.ndarray]:
    """A log of n rows in three contexts with its true click rates, and the new policy's true reward of every row."""
    rate = np.random.default_rng(99).uniform(0.05, 0.5, (3, ACTIONS))
    logging = softmax(np.random.default_rng(98).normal(0, 0.7, (3, ACTIONS)), axis=1)
    new = softmax_policy(4 * rate)
    context = rng.integers(0, 3, n)
    action = (rng.random(n)[:, None] > np.cumsum(logging[context], axis=1)[:, :-1]).sum(axis=1)
    reward = (rng.random(n) < rate[context, action]).astype(float)
    wrong = rate * (1 + model_error * np.random.default_rng(97).normal(size=rate.shape))
    rows = Logged(
        reward,
        logging[context, action],
        chance_of(new[context], action),
        q_logged=wrong[context, action],
        q_new=expected(new[context], wrong[context]),
    )
    return rows, (new * rate).sum(axis=1)


def true_value() -> float:
    return float(world(np.random.default_rng(0), 2)[1].mean())


def test_every_estimator_equals_its_sum_written_out() -> None:
    rows, _ = world(np.random.default_rng(1), 400)
    assert rows.q_logged is not None and rows.q_new is not None
    ips = clipped = dm = dr = total = corrected = 0.0
    for r, p, e, q, v in zip(rows.reward, rows.pscore, rows.chance, rows.q_logged, rows.q_new, strict=True):
        w = e / p
        ips, clipped, dm = ips + w * r, clipped + min(w, 1.5) * r, dm + v
        dr, total, corrected = dr + v + w * (r - q), total + w, corrected + w * (r - q)
    found = {k: e.value.value for k, e in estimate(rows, clip=1.5).estimates.items()}
    want = {"ips": ips / 400, "clipped": clipped / 400, "snips": ips / total, "dm": dm / 400, "dr": dr / 400}
    assert found == pytest.approx(want | {"sndr": dm / 400 + corrected / total})
    few = Logged(np.ones(4), np.array([0.1, 1, 1, 1]), np.array([1.0, 1, 0.5, 0.5]))
    assert estimate(few).estimates["clipped"].value.value == pytest.approx((2 + 1 + 0.5 + 0.5) / 4)  # sqrt(4)
    bare = estimate(Logged(rows.reward, rows.pscore, rows.chance), clip=1e9)
    assert set(bare.estimates) == {"ips", "clipped", "snips"}
    assert bare.estimates["clipped"].value == bare.estimates["ips"].value  # nothing is clipped


def test_support_counts_what_speaks_for_the_new_policy() -> None:
    rows = Logged(np.array([1.0, 0, 1, 0]), np.full(4, 0.5), np.array([1.0, 0.5, 0, 0.5]))
    assert weights(rows).tolist() == [2, 1, 0, 1]
    found = support(rows)
    assert found.ess == pytest.approx(16 / 6) and found.largest == 2 and found.share == 0.75
    assert found.mean == 1 and found.rewards == 1 and found.rows == 4 and found.thin
    same = np.full(500, 0.25)
    even = support(Logged(np.ones(500), same, same))
    assert even.ess == pytest.approx(500) and even.rewards == pytest.approx(500) and not even.thin
    assert support(Logged(np.zeros(500), same, same)).rewards == 0


def test_the_logging_policy_itself_is_estimated_by_its_mean() -> None:
    rows, _ = world(np.random.default_rng(2), 500)
    same = estimate(Logged(rows.reward, rows.pscore, rows.pscore))
    for name in ("ips", "clipped", "snips"):
        found = same.estimates[name]
        assert (found.value.value, found.value.low) == pytest.approx((same.logged.value, same.logged.low))
        assert found.difference.value == pytest.approx(0) and found.difference.high == pytest.approx(0)
        assert found.ratio is not None and found.ratio.low == pytest.approx(1)  # paired: not a trace of noise


def test_the_bootstrap_draws_units() -> None:
    """Every row twice in one unit says no more than once; taken for rows it would seem to."""
    rows, _ = world(np.random.default_rng(3), 600)
    twice = Logged(
        *(np.repeat(c, 2) for c in (rows.reward, rows.pscore, rows.chance)), unit=np.arange(1200) // 2
    )
    one, two = (estimate(x).estimates["snips"].value for x in (rows, twice))
    assert two.n == 600 and (two.value, two.low, two.high) == pytest.approx((one.value, one.low, one.high))
    careless = estimate(Logged(twice.reward, twice.pscore, twice.chance)).estimates["snips"].value
    assert careless.high - careless.low < 0.8 * (two.high - two.low)
    named = Logged(
        twice.reward, twice.pscore, twice.chance, unit=np.array([f"u{i // 2:04d}" for i in range(1200)])
    )
    assert estimate(named).estimates["snips"].value == two


def test_intervals_are_the_bootstraps_of_a_plain_loop() -> None:
    rows, _ = world(np.random.default_rng(4), 300)
    wr, w = weights(rows) * rows.reward, weights(rows)
    rng = np.random.default_rng(5)
    drawn = [
        (wr[at].sum() / w[at].sum()) - rows.reward[at].mean() for at in rng.integers(0, 300, (4000, 300))
    ]
    found = estimate(rows, draws=4000).estimates["snips"].difference
    low, high = np.percentile(drawn, [2.5, 97.5])
    width = high - low
    assert abs(found.low - low) < 0.05 * width and abs(found.high - high) < 0.05 * width


def test_ips_and_dr_are_unbiased_and_dm_is_as_wrong_as_its_model() -> None:
    truth, found = true_value(), []
    for seed in range(400):
        rows, _ = world(np.random.default_rng(seed), 250)
        found.append({k: e.value.value for k, e in estimate(rows, draws=2).estimates.items()})
    for name in ("ips", "snips", "dr", "sndr"):
        values = np.array([f[name] for f in found])
        error = values.std(ddof=1) / np.sqrt(len(values))
        assert abs(values.mean() - truth) < 3 * error, name
    dm = np.array([f["dm"] for f in found])
    assert abs(dm.mean() - truth) > 10 * dm.std() / np.sqrt(len(dm))
    spread = {name: np.std([f[name] for f in found]) for name in found[0]}
    assert spread["dm"] < spread["dr"] < spread["ips"] and spread["snips"] < spread["ips"]


def test_dr_is_right_by_either_half() -> None:
    """Wrong propensities with a perfect model, and the other way round."""
    rng = np.random.default_rng(7)
    rows, _ = world(rng, 40_000, model_error=0.0)
    skewed = Logged(rows.reward, np.sqrt(rows.pscore), rows.chance, q_logged=rows.q_logged, q_new=rows.q_new)
    found = estimate(skewed, draws=100).estimates
    assert abs(found["ips"].value.value - true_value()) > 0.05
    assert abs(found["dr"].value.value - true_value()) < 0.01
    bad, _ = world(rng, 40_000, model_error=1.0)
    found = estimate(bad, draws=100).estimates
    assert (
        abs(found["dm"].value.value - true_value()) > 0.05
        and abs(found["dr"].value.value - true_value()) < 0.02
    )


def test_intervals_hold_the_truth_about_95_times_in_100() -> None:
    truth, logging, inside = true_value(), 0.0, dict.fromkeys(("ips", "snips", "dr", "sndr", "lift"), 0)
    big, _ = world(np.random.default_rng(10**6), 1_000_000)
    logging = float(big.reward.mean())
    for seed in range(200):
        rows, _ = world(np.random.default_rng(1000 + seed), 400)
        result = estimate(rows, draws=400, seed=seed)
        for name in ("ips", "snips", "dr", "sndr"):
            inside[name] += result.estimates[name].value.low <= truth <= result.estimates[name].value.high
        difference = result.estimates["snips"].difference
        inside["lift"] += difference.low <= truth - logging <= difference.high
    # of 200 draws with chance .95, 180 to 198 but for one case in a thousand
    assert all(180 <= count <= 199 for count in inside.values()), inside


def test_paired_lift_is_narrower_than_two_logs_apart() -> None:
    rows, _ = world(np.random.default_rng(8), 2000)
    near = Logged(rows.reward, rows.pscore, 0.8 * rows.pscore + 0.2 * rows.chance)
    found = estimate(near)
    lift, new = found.estimates["snips"].difference, found.estimates["snips"].value
    apart = np.hypot(new.high - new.low, found.logged.high - found.logged.low)
    assert lift.high - lift.low < 0.5 * apart
    assert lift.value == pytest.approx(new.value - found.logged.value)
    ratio = found.estimates["snips"].ratio
    assert ratio is not None and ratio.value == pytest.approx(new.value / found.logged.value)


def test_no_ratio_where_next_to_nobody_clicked() -> None:
    p = np.full(300, 0.5)
    assert estimate(Logged(np.zeros(300), p, p)).estimates["ips"].ratio is None
    one = np.zeros(300)
    one[0] = 1
    assert estimate(Logged(one, p, p)).estimates["ips"].ratio is None  # a third of the draws miss it


def test_softmax_policy() -> None:
    scores = np.random.default_rng(9).normal(size=(20, 7)) * 300  # large: no overflow
    np.testing.assert_allclose(softmax_policy(scores, 50.0), softmax(scores / 50, axis=1), atol=1e-12)
    assert softmax_policy(np.array([[1.0, -np.inf, 1.0]])).tolist() == [[0.5, 0, 0.5]]
    np.testing.assert_allclose(softmax_policy(scores, 1e-3), greedy_policy(scores), atol=1e-12)
    np.testing.assert_allclose(softmax_policy(scores, 1e9), 1 / 7, atol=1e-5)


def test_greedy_policy_sorts_and_shares_among_equals() -> None:
    scores = np.array([[3.0, 1, 2, -np.inf]] * 3)
    assert greedy_policy(scores, np.array([1, 2, 3])).argmax(axis=1).tolist() == [0, 2, 1]
    tied = np.array([[5.0, 5, 7, 5, 1]] * 4)
    found = greedy_policy(tied, np.array([1, 2, 4, 5]))
    third = 1 / 3
    want = [[0, 0, 1, 0, 0], [third, third, 0, third, 0], [third, third, 0, third, 0], [0, 0, 0, 0, 1]]
    np.testing.assert_allclose(found, want)
    # over all positions every candidate is shown once
    np.testing.assert_allclose(greedy_policy(np.tile(tied[:1], (5, 1)), np.arange(1, 6)).sum(axis=0), 1)


def test_chance_and_expectation_of_the_rows() -> None:
    policy = np.array([[0.2, 0.8, 0.0], [0.5, 0.0, 0.5]])
    assert chance_of(policy, np.array([1, 2])).tolist() == [0.8, 0.5]
    assert expected(policy, np.array([[1.0, 2.0, np.nan], [1.0, np.inf, 3.0]])).tolist() == [1.8, 2.0]


ONES, HALF = np.ones(4), np.full(4, 0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Logged(ONES, np.array([0.5, 0, 0.5, 0.5]), HALF), "1 propensities outside"),
        (lambda: Logged(ONES, np.array([0.5, -1, 1.5, 0.5]), HALF), "2 propensities outside"),
        (lambda: Logged(ONES, np.array([0.5, np.nan, 0.5, 0.5]), HALF), "pscore holds NaN"),
        (lambda: Logged(np.array([1, np.nan, 0, 0]), HALF, HALF), "reward holds NaN"),
        (lambda: Logged(ONES, HALF, np.array([0.5, 1.2, 0, 0])), "new policy outside"),
        (lambda: Logged(ONES, HALF, np.zeros(4)), "would show none"),
        (lambda: Logged(ONES, HALF[:3], HALF), "one of each a row"),
        (lambda: Logged(ONES, HALF, HALF, unit=np.zeros(4)), "fewer than two units"),
        (lambda: Logged(ONES, HALF, HALF, unit=np.array([1, 2, np.nan, 3])), "without a unit"),
        (
            lambda: Logged(ONES, HALF, HALF, unit=np.array(["a", None, "b", "c"], dtype=object)),
            "without a unit",
        ),
        (lambda: Logged(ONES[:0], HALF[:0], HALF[:0]), "fewer than two units"),
        (lambda: Logged(ONES, HALF, HALF, q_logged=HALF), "belong together"),
        (lambda: Logged(ONES, HALF, HALF, q_logged=HALF, q_new=HALF * np.inf), "q_new holds NaN or infinity"),
        (lambda: estimate(Logged(ONES, HALF, HALF), clip=0.0), "clipped at 0"),
        (lambda: softmax_policy(np.ones((2, 2)), 0.0), "temperature 0"),
        (lambda: softmax_policy(np.array([[np.nan, 1]])), "finite score"),
        (lambda: softmax_policy(np.full((1, 2), -np.inf)), "without a candidate"),
        (lambda: greedy_policy(np.array([[1.0, -np.inf]]), np.array([2])), "position without a candidate"),
        (lambda: greedy_policy(np.ones((1, 2)), np.array([0])), "from 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value) and ": " in str(caught.value)
