from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from moonshelf.errors import InputError
from moonshelf.evaluation.metrics import (
    auc,
    bootstrap_interval,
    chance_mrr,
    chance_recall,
    first_hit_ranks,
    hits_at,
    mrr,
    paired_difference,
    recall_at,
)


def brute(
    queries: np.ndarray, gallery: np.ndarray, positives: list[list[int]], masked: list[list[int]]
) -> list[int]:
    out = []
    for q, right, aside in zip(queries, positives, masked, strict=True):
        scores = gallery @ q
        best = max(scores[g] for g in right)
        others = [g for g in range(len(gallery)) if g not in right and g not in aside]
        out.append(1 + sum(scores[g] >= best - 1e-6 for g in others))
    return out


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 7), st.integers(1, 9), st.integers(0, 9999))
def test_ranks_equal_brute_force_with_ties_and_masks(
    g: int, q: int, chunk: int, part: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-1, 2, (q, 3)).astype(np.float32)
    gallery = rng.integers(-1, 2, (g, 3)).astype(np.float32)
    positives = [rng.choice(g, rng.integers(1, min(g, 4) + 1), replace=False).tolist() for _ in range(q)]
    masked = [rng.choice(g, rng.integers(0, min(g, 4) + 1), replace=False).tolist() for _ in range(q)]
    got = first_hit_ranks(
        queries,
        gallery,
        [np.array(p) for p in positives],
        masked=[np.array(m, dtype=np.int64) for m in masked],
        chunk=chunk,
        gallery_chunk=part,
    )
    assert got.tolist() == brute(queries, gallery, positives, masked)


def test_hand_made_ranks() -> None:
    gallery = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)
    assert first_hit_ranks(query, gallery, [np.array([0])]).tolist() == [1]
    assert first_hit_ranks(query, gallery, [np.array([2])]).tolist() == [3]
    assert first_hit_ranks(query, gallery, [np.array([2, 1])]).tolist() == [2]
    assert first_hit_ranks(query, gallery, [np.array([2])], masked=[np.array([0])]).tolist() == [2]


def test_a_system_without_any_opinion_gets_the_last_rank() -> None:
    gallery = np.ones((50, 4), dtype=np.float32)
    assert first_hit_ranks(np.ones((1, 4), np.float32), gallery, [np.array([0])]).tolist() == [50]
    assert first_hit_ranks(np.zeros((1, 4), np.float32), gallery, [np.array([7])]).tolist() == [50]


def test_copies_of_the_right_product_tie_whatever_the_block() -> None:
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((997, 256)).astype(np.float32)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    gallery[[3, 500, 996]] = gallery[0]
    ranks = [first_hit_ranks(gallery[:1], gallery, [np.array([0])], gallery_chunk=c) for c in (1, 64, 1000)]
    assert [r.tolist() for r in ranks] == [[4], [4], [4]]


def test_recall_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    queries, gallery = rng.standard_normal((400, 8)), rng.standard_normal((30, 8))
    label = rng.integers(0, 30, 400)
    ranks = first_hit_ranks(
        queries.astype(np.float32), gallery.astype(np.float32), [np.array([i]) for i in label]
    )
    for k in (1, 5, 10):
        want = top_k_accuracy_score(label, queries @ gallery.T, k=k, labels=np.arange(30))
        assert recall_at(ranks, k) == pytest.approx(want)


def test_recall_and_mrr_by_hand() -> None:
    ranks = np.array([1, 2, 10, 11])
    assert [recall_at(ranks, k) for k in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert mrr(ranks) == pytest.approx((1 + 1 / 2 + 1 / 10 + 1 / 11) / 4)
    assert hits_at(ranks, 2).tolist() == [1, 1, 0, 0]


def test_a_query_without_a_right_product_is_an_error() -> None:
    x = np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match="needs a positive"):
        first_hit_ranks(x, x, [np.array([0]), np.array([], dtype=np.int64)])
    with pytest.raises(ValueError, match="2 queries but 1"):
        first_hit_ranks(x, x, [np.array([0])])


def test_interval_agrees_with_the_normal_approximation() -> None:
    values = (np.random.default_rng(0).random(2000) < 0.3).astype(float)
    found = bootstrap_interval(values)
    p, half = values.mean(), 1.96 * np.sqrt(values.var() / 2000)
    assert found.value == p and found.n == 2000
    assert found.low == pytest.approx(p - half, abs=0.004) and found.high == pytest.approx(
        p + half, abs=0.004
    )
    assert bootstrap_interval(values) == found != bootstrap_interval(values, seed=1)


def test_interval_does_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(100)
    found = bootstrap_interval(values)
    monkeypatch.setattr("moonshelf.evaluation.metrics._BLOCK_NUMBERS", 1234)
    again = bootstrap_interval(values)
    assert found == again


def test_coverage_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        i = bootstrap_interval(rng.normal(0.5, 1, 60), seed=trial, n=400)
        inside += i.low <= 0.5 <= i.high
    assert 180 <= inside <= 199  # 95% of 200 is 190


def test_clusters_widen_the_interval_by_their_size() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200)
    values, groups = np.repeat(base, 25), np.repeat(np.arange(200), 25).tolist()
    plain, clustered = bootstrap_interval(values), bootstrap_interval(values, groups=groups)
    assert (clustered.high - clustered.low) / (plain.high - plain.low) == pytest.approx(5, rel=0.15)
    one = bootstrap_interval(base)  # 200 groups of equal values are 200 values
    assert clustered.low == pytest.approx(one.low) and clustered.high == pytest.approx(one.high)
    assert clustered.n == 5000 and clustered.value == pytest.approx(base.mean())


def test_pairing_sees_what_single_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    a = (hard < 0.55).astype(float)
    b = (hard < 0.50).astype(float)
    assert bootstrap_interval(a).low < bootstrap_interval(b).high
    difference = paired_difference(a, b)
    assert difference.value == pytest.approx(a.mean() - b.mean()) and difference.low > 0
    reverse = paired_difference(b, a)
    assert (reverse.low, reverse.high) == pytest.approx((-difference.high, -difference.low))


def test_bad_values() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(np.array([]))
    with pytest.raises(ValueError, match="3 values but 2 groups"):
        bootstrap_interval(np.ones(3), groups=["a", "b"])
    with pytest.raises(ValueError, match="same queries"):
        paired_difference(np.ones(3), np.ones(2))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 12))
def test_chance_is_that_of_drawing_without_replacement(gallery: int, positives: int, k: int) -> None:
    positives = min(positives, gallery)
    missed = comb(gallery - positives, k) / comb(gallery, k) if k <= gallery else 0.0
    assert chance_recall(gallery, positives, k) == pytest.approx(1 - missed)
    if positives == 1:
        assert chance_recall(gallery, 1, k) == pytest.approx(min(1, k / gallery))
        assert chance_mrr(gallery, 1) == pytest.approx(np.mean(1 / np.arange(1, gallery + 1)))


def test_chance_agrees_with_random_orders() -> None:
    rng = np.random.default_rng(0)
    ranks = np.array([rng.permutation(20)[:3].min() + 1 for _ in range(20_000)])
    assert chance_mrr(20, 3) == pytest.approx(mrr(ranks), abs=0.01)
    assert chance_recall(20, 3, 5) == pytest.approx(recall_at(ranks, 5), abs=0.015)


def test_vectors_that_are_not_finite_are_refused_not_perfect() -> None:
    gallery = np.eye(3, dtype=np.float32)
    broken = np.full((1, 3), np.nan, dtype=np.float32)
    for queries, rows in ((broken, gallery), (gallery[:1], np.vstack((gallery[:2], broken)))):
        with pytest.raises(InputError, match="NaN"):
            first_hit_ranks(queries, rows, [np.array([0])])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, positive = (np.array(side) for side in zip(*rows, strict=True))
    if positive.all() or not positive.any():
        with pytest.raises(ValueError, match="positives and negatives"):
            auc(scores, positive)
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    found = auc(scores, positive)
    assert found.value == pytest.approx(float(np.mean(pairs)))
    assert 0 <= found.low <= found.high <= 1
