"""The fast selector: both orders agree by design, the fit is the normal equations, planted truth is found."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from creative_log import make_log
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moonshelf.creative import fit
from moonshelf.creative.additive import fit_additive, solve
from moonshelf.creative.facts import INDEX
from moonshelf.creative.fast import FastSelector, load_fast, sigmoid
from moonshelf.creative.features import (
    BLOCKS,
    KNOTS,
    WIDTH,
    block,
    curves,
    filled,
    knots_of,
    means_of,
    ngrams,
    pieces,
    standards_of,
    waves,
    width_of,
)
from moonshelf.creative.fit import (
    centred,
    evidence,
    fit_fast,
    spread_of_effects,
    spread_of_tests,
)
from moonshelf.creative.logs import Logged, from_log
from moonshelf.creative.measures import NAMES, Brief, Seen, briefs, see
from moonshelf.creative.pairs import build_pairs
from moonshelf.creative.pairwise import fit_pairwise
from moonshelf.creative.teacher import Teacher, Trace, teacher_of
from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError, TooLittleData

MIXES = [("measures",), ("sentence", "measures", "measure_waves")]


@pytest.fixture(scope="module")
def logged() -> Logged:
    return from_log(make_log(100))


@pytest.fixture(scope="module")
def seen(logged: Logged, _untrained: CompactEncoder) -> Seen:
    return see(_untrained, briefs(logged.frame))


@pytest.fixture(scope="module")
def fitted(logged: Logged, seen: Seen) -> FastSelector:
    return fit_fast(logged, seen, mixes=MIXES, encoder="v")


def texts(logged: Logged) -> list[str]:
    return logged.frame["text"].to_list()


def test_both_orders_agree(fitted: FastSelector, logged: Logged, seen: Seen) -> None:
    f = fitted.score(seen, texts(logged))
    a, b = f[:-1], f[1:]
    assert np.allclose(fitted.chance(a, b) + fitted.chance(b, a), 1, atol=1e-15)
    assert np.array_equal(fitted.chance(a, b) > 0.5, fitted.chance(b, a) < 0.5)


def test_what_drives_the_clicks_is_found(fitted: FastSelector, logged: Logged, seen: Seen) -> None:
    f = fitted.score(seen, texts(logged))
    test = logged.frame.with_row_index("at").filter(split="test")
    right = total = 0
    for _, group in test.group_by("group"):
        rows = list(group.select("at", "number").iter_rows())
        for i, one in rows:
            for j, other in rows:
                if one and not other:
                    right, total = right + (f[i] > f[j]), total + 1
    assert total > 30 and right / total > 0.95
    shares = fitted.shares(seen)
    assert shares.shape == (len(seen), len(NAMES))
    assert fitted.about["tau"] == pytest.approx(0.25, abs=0.07)  # half of the headlines at +0.5: sd 0.25
    assert fitted.scale > 1 and fitted.about["train"] + fitted.about["val"] < len(logged)


def test_the_fit_is_the_mixed_model_solved_by_hand(logged: Logged, seen: Seen) -> None:
    penalty = 7.0
    model = fit_fast(logged, seen, mixes=[("measures",)], penalties=[penalty], refit=False)
    train = np.flatnonzero((logged.frame["split"] == "train").to_numpy())
    frame = logged.frame[train]
    _, group = np.unique(frame["group"].to_numpy(), return_inverse=True)
    k, n = (frame[c].to_numpy().astype(float) for c in ("clicks", "impressions"))
    rows = evidence(frame, spread_of_effects(group, k, n))
    inside = centred(seen.measures[train], group, rows.weight)
    spread = np.sqrt((inside**2).mean(0))
    factor = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
    factor /= np.sqrt(((inside * factor) ** 2).sum(1).mean())
    x = seen.measures[train] * factor
    x -= x.mean(0)
    same = (group[:, None] == group[None]).astype(float)
    inverse = np.linalg.inv(
        np.diag(1 / rows.weight) + spread_of_tests(rows) * same
    )  # generalised least squares
    w = np.linalg.solve(x.T @ inverse @ x + penalty * np.eye(x.shape[1]), x.T @ inverse @ rows.level)
    wanted = w * factor
    assert np.allclose(model.weights["measures"], wanted, rtol=2e-3, atol=2e-4 * np.abs(wanted).max())


def test_centred_takes_the_weighted_mean_of_every_group_away() -> None:
    rng = np.random.default_rng(0)
    group, weight = rng.integers(0, 5, 40), rng.random(40) + 0.1
    for values in (rng.normal(size=40), rng.normal(size=(40, 3))):
        out = centred(values, group, weight)
        for g in range(5):
            assert np.allclose(weight[group == g] @ out[group == g], 0, atol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_spread_of_effects_is_found_again(tau: float) -> None:
    rng = np.random.default_rng(1)
    group, n = np.repeat(np.arange(600), 4), np.full(2400, 20_000)
    rate = np.exp(np.repeat(rng.normal(-4, 0.5, 600), 4) + rng.normal(0, tau, 2400))
    found = spread_of_effects(group, rng.binomial(n, rate), n)
    assert np.sqrt(found) == pytest.approx(max(tau, 0.0316), abs=0.03)


def test_spread_of_tests_is_found_again() -> None:
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(800), 3)
    n = np.full(2400, 5000)
    rate = np.exp(np.repeat(rng.normal(-4, 0.5, 800), 3) + rng.normal(0, 0.2, 2400))
    frame = pl.DataFrame({"group": group, "impressions": n, "clicks": rng.binomial(n, rate)})
    assert np.sqrt(spread_of_tests(evidence(frame, 0.04))) == pytest.approx(0.5, abs=0.04)


def test_waves_are_a_kernel_and_zeros_stay_zeros() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=(6, 64)).astype(np.float32)
    v[1] = v[0] + 0.3 * v[1]
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    v[5] = 0
    k = np.mean([w @ w.T for w in (waves(v, s) for s in range(4))], axis=0)
    assert np.allclose(k[:5, :5], np.exp((v[:5] @ v[:5].T - 1) / WIDTH), atol=0.06) and not k[5].any()


def test_pieces_and_cells() -> None:
    assert pieces("Don't pay $5! It’s “fun”") == ["don't", "pay", "$5", "!", "it's", "“", "fun", "”"]
    assert pieces("") == []
    rows = ngrams(["A b", "a B", "b a", ""])
    assert (
        np.array_equal(rows[0], rows[1])
        and not np.array_equal(rows[0], rows[2])
        and rows.sum(1).tolist() == [3, 3, 3, 0]
    )


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_pieces_lose_nothing_but_spaces(text: str) -> None:
    from moonshelf.shop.splits import plain_text

    assert "".join(pieces(text)) == "".join(plain_text(text).replace("’", "'").split())


def test_every_block_has_its_width(_untrained: CompactEncoder) -> None:
    words = ["A mug", "", "Sale"]
    part = see(
        _untrained,
        [Brief(t, lambda i=i: Image.new("RGB", (32, 32), (90 * i, 40, 9))) for i, t in enumerate(words)],
    )
    part = replace(part, language=np.ones((3, 7), dtype=np.float32))
    for name in BLOCKS:
        if name == "language":  # as wide as its model is
            assert block(name, part, words) is part.language
            continue
        made = block(name, part, words, standards=standards_of(part, words))
        assert made.shape == (3, width_of(name, _untrained.width)) and np.isfinite(made).all()
    with pytest.raises(ValueError, match="needs the standard"):
        block("layout_waves", part, [])
    with pytest.raises(InputError, match="reads pictures"):
        block("grid", see(_untrained, [Brief("A mug")]), ["A mug"])
    with pytest.raises(InputError, match="language model"):
        block("language", replace(part, language=None), words)
    with pytest.raises(ValueError, match="no block"):
        block("x", part, [])


def test_a_language_models_states_are_read_where_they_tell_more(
    logged: Logged, seen: Seen, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    k, n = (logged.frame[c].to_numpy().astype(float) for c in ("clicks", "impressions"))
    told = np.log((k + 0.5) / (n + 1))[:, None] * [
        [3.0, 0.0]
    ]  # a state that knows the answer, and noise in 30 others
    states = np.concatenate((told, rng.normal(0, 1, (len(k), 30))), axis=1).astype(np.float32)
    asked = replace(seen, language=states)
    assert np.array_equal(asked.take(np.array([3, 1])).language, states[[3, 1]])
    model = fit_fast(logged, asked, encoder="v")
    plain = fit_fast(logged, seen, encoder="v")
    assert "language" in model.weights and "language" not in plain.weights
    assert min(t["val_error"] for t in model.about["tried"]) < min(
        t["val_error"] for t in plain.about["tried"]
    )
    model.save(tmp_path)
    assert np.array_equal(load_fast(tmp_path).score(asked, texts(logged)), model.score(asked, texts(logged)))
    with pytest.raises(InputError, match="language model"):
        model.score(seen, texts(logged))


def test_saved_without_pickle_and_read_again(
    fitted: FastSelector, logged: Logged, seen: Seen, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    back = load_fast(tmp_path)
    assert np.array_equal(back.score(seen, texts(logged)), fitted.score(seen, texts(logged)))
    assert (back.scale, back.spread, back.encoder) == (fitted.scale, fitted.spread, "v")
    (tmp_path / "selector.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read"):
        load_fast(tmp_path)
    with pytest.raises(InputError, match="no selector"):
        load_fast(tmp_path / "nowhere")


def test_a_pair_takes_less_than_five_milliseconds(fitted: FastSelector, logged: Logged, seen: Seen) -> None:
    two, words = seen.take(np.array([0, 1])), texts(logged)[:2]
    took = []
    for _ in range(20):
        start = time.perf_counter()
        f = fitted.score(two, words)
        fitted.chance(f[:1], f[1:])
        took.append(time.perf_counter() - start)
    assert min(took) < 0.005


def test_the_same_data_gives_the_same_selector_and_test_is_not_looked_at(
    logged: Logged, seen: Seen, fitted: FastSelector
) -> None:
    clicks = pl.when(pl.col("split") == "test").then(1).otherwise(pl.col("clicks")).alias("clicks")
    other = Logged(logged.frame.with_columns(clicks), logged.left)
    again = fit_fast(other, seen, mixes=MIXES, encoder="v")
    assert (
        all(np.array_equal(again.weights[k], w) for k, w in fitted.weights.items())
        and again.scale == fitted.scale
    )


def test_without_val_there_is_nothing_to_choose_on(logged: Logged, seen: Seen) -> None:
    part = Logged(logged.frame.filter(pl.col("split") != "val"))
    with pytest.raises(TooLittleData, match="0 of val"):
        fit_fast(part, seen.take(np.flatnonzero((logged.frame["split"] != "val").to_numpy())))


def test_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.array([-1e6, 0.0, 1e6])).tolist() == [0.0, 0.5, 1.0]
    assert set(fit.TEXT_MIXES[0]) == {"measures"}


def test_the_pairwise_baseline_finds_it_too_and_its_slope_is_zero(logged: Logged, seen: Seen) -> None:
    model = fit_pairwise(logged, seen, of="measures", penalties=[1.0])
    f = model.score(seen, texts(logged))
    test = build_pairs(logged.part("test")).frame
    place = {name: i for i, name in enumerate(logged.frame["creative_id"])}
    a, b = (np.array([place[i] for i in test[f"creative_id_{s}"]]) for s in "ab")
    assert ((f[a] > f[b]) == (test["winner"] == "A").to_numpy()).mean() > 0.9
    train = build_pairs(logged.part("train")).frame
    a, b = (np.array([place[i] for i in train[f"creative_id_{s}"]]) for s in "ab")
    x, c = seen.measures[a] - seen.measures[b], np.where(train["winner"] == "A", 1.0, -1.0)
    length = np.sqrt((x**2).sum(1).mean())
    slope = (x / length).T @ (c * sigmoid(-c * (f[a] - f[b]))) - model.weights["measures"] * length
    assert np.abs(slope).max() < 1e-5


def bent_log() -> tuple[Logged, Seen]:
    """Creatives whose clicks peak at a middle sharpness: no straight line tells which of two is better."""
    rng = np.random.default_rng(3)
    log = from_log(make_log(150))
    sharp = rng.random(len(log.frame))
    rate = 0.05 * np.exp(-6 * (sharp - 0.5) ** 2)
    clicks = rng.binomial(log.frame["impressions"].to_numpy(), rate)
    measured = np.zeros((len(sharp), len(NAMES)))
    measured[:, INDEX["image.there"]] = 1
    measured[:, INDEX["image.sharpness"]] = sharp
    frame = log.frame.with_columns(clicks=pl.Series(clicks))
    blank = np.zeros((len(sharp), 2 * 512), np.float32)
    return replace(log, frame=frame), Seen(blank, np.zeros((len(sharp), 0), np.float32), measured)


def test_a_curve_finds_a_peak_that_no_line_has(tmp_path: Path) -> None:
    log, seen = bent_log()
    line = fit_fast(log, seen, mixes=[("measures",)], encoder="v")
    bent = fit_additive(log, seen, encoder="v")
    assert bent.about["blocks"] == ["measures", "curves"]
    at = INDEX["image.sharpness"]
    three = np.zeros((3, len(NAMES)))
    three[:, at], three[:, INDEX["image.there"]] = (0.1, 0.5, 0.9), 1
    teacher = teacher_of(bent)
    assert teacher.evidence(three[1], three[0])[at] > 0.3 < teacher.evidence(three[1], three[2])[at]
    assert np.allclose(teacher.evidence(three[1], three[0]), -teacher.evidence(three[0], three[1]))
    trace = teacher.write(three[1], three[2], "A")
    assert not isinstance(trace, Trace) or trace.main == "image.sharpness"
    straight = teacher_of(line)
    assert straight.evidence(three[1], three[0])[at] * straight.evidence(three[1], three[2])[at] <= 0
    bent.save(tmp_path)
    again = load_fast(tmp_path)
    words = log.frame["text"].to_list()
    assert np.array_equal(again.score(seen, words), bent.score(seen, words))
    assert np.allclose(bent.shares(seen).sum(1), bent.score(seen, words), atol=1e-5)
    (tmp_path / "alone").mkdir()
    replace(bent, standards={}).save(tmp_path / "alone")
    with pytest.raises(InputError, match="curves"):
        load_fast(tmp_path / "alone")


def test_curves_by_hand() -> None:
    measures = np.zeros((100, len(NAMES)))
    measures[:, 0] = np.arange(100)  # 1..99 differ from 0: knots at their quantiles
    measures[:5, 1] = 1.0  # too seldom there to have knots
    measures[:, 2] = 7.0  # never differs: one knot, beyond which nothing lies
    knots = knots_of(measures).reshape(len(NAMES), len(KNOTS))
    assert np.allclose(knots[0], np.quantile(np.arange(1, 100), KNOTS))
    assert np.isinf(knots[1]).all() and knots[2].tolist() == [7.0, np.inf, np.inf, np.inf]
    found = curves(measures, knots.ravel())
    assert found.shape == (100, width_of("curves", 256)) and np.isfinite(found).all()
    assert found[99, 1] == pytest.approx(99 - knots[0, 1]) and not found[:, len(KNOTS) :].any()


def test_what_is_not_there_counts_as_the_mean_of_what_is() -> None:
    """The size of a product that was not found is not 0: it says nothing, and being found has a measure of its own."""
    measures = np.zeros((4, len(NAMES)))
    size, found = INDEX["image.found_size"], INDEX["image.found"]
    measures[:3, found], measures[:3, size] = 0.9, (0.4, 0.6, 0.8)
    means = means_of(measures)
    assert means[size] == pytest.approx(0.6) and means[INDEX["text.words"]] == 0
    whole = filled(measures, means)
    assert whole[:, size].tolist() == pytest.approx([0.4, 0.6, 0.8, 0.6]) and whole[3, found] == 0
    weights = np.zeros(len(NAMES))
    weights[size] = 2.0
    teacher = Teacher(weights, means=means)
    assert teacher.evidence(measures[2], measures[3])[size] == pytest.approx(0.4)
    seen = Seen(np.zeros((4, 1024), np.float32), np.zeros((4, 0), np.float32), measures)
    model = FastSelector({"measures": weights}, standards=standards_of(seen, [""] * 4))
    assert model.score(seen, [""] * 4) == pytest.approx(whole[:, size] * 2, abs=1e-6)
    assert model.shares(seen).sum(1) == pytest.approx(whole[:, size] * 2)


def test_few_measures_speak() -> None:
    """Three of thirty columns matter: the others get nothing to say, and those three what they are worth."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(200), 4)
    columns = rng.normal(size=(800, 30))
    target = centred(
        columns[:, :3] @ np.array([0.5, -0.3, 0.2]) + rng.normal(0, 0.2, 800), group, np.ones(800)
    )
    weight = np.full(800, 25.0)
    sparse = solve(columns, np.arange(30), target, weight, group, 10000.0)
    assert sparse[:3] == pytest.approx([0.5, -0.3, 0.2], abs=0.04)
    within = centred(columns, group, weight)
    ridge = np.linalg.lstsq(within, target, rcond=None)[0]
    assert np.abs(sparse[3:]).mean() < 0.4 * np.abs(ridge[3:]).mean()
    assert solve(np.zeros((800, 2)), np.arange(2), target, weight, group, 1.0).tolist() == [0, 0]
