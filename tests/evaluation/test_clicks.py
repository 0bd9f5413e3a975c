"""Click metrics against plain counting, scikit-learn, and what must not change them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from moonshelf.evaluation.clicks import (
    Scored,
    auc_by_users,
    auc_difference,
    by_bucket,
    calibration_curve,
    calibration_error,
    gauc,
    gauc_difference,
    hit_rate,
    log_loss,
    ndcg,
    user_aucs,
)


def drawn(n: int = 3000, users: int = 60, seed: int = 0, signal: float = 1.0) -> Scored:
    rng = np.random.default_rng(seed)
    user = rng.integers(0, users, n)
    want = rng.normal(size=n) + rng.normal(size=users)[user]
    label = rng.random(n) < 1 / (1 + np.exp(2 - want))
    score = 1 / (1 + np.exp(2 - signal * want - (1 - signal) * rng.normal(size=n)))
    return Scored(score, label, user)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=1, max_size=40))
def test_user_aucs_equal_counting_pairs(rows: list[tuple[int, int, bool]]) -> None:
    user, score, label = (np.array(column) for column in zip(*rows, strict=True))
    found = dict(zip(*user_aucs(Scored(score.astype(float), label.astype(bool), user))[:2], strict=True))
    want = {}
    for u in sorted(set(user.tolist())):
        up = [s for v, s, y in rows if v == u and y]
        down = [s for v, s, y in rows if v == u and not y]
        if up and down:
            want[u] = np.mean([(a > b) + 0.5 * (a == b) for a, b in itertools.product(up, down)])
    assert found == pytest.approx(want)


def test_gauc_weighs_users_by_rows() -> None:
    rows = drawn()
    users, values, n = user_aucs(rows)
    for u, value, count in zip(users, values, n, strict=True):
        own = rows.take(rows.user == u)
        assert value == pytest.approx(oracle.roc_auc_score(own.label, own.score)) and count == len(own.label)
    found = gauc(rows)
    assert found.value == pytest.approx(float((values * n).sum() / n.sum())) and found.n == len(users)
    assert found.low < found.value < found.high
    # a number added to all scores of a user changes nothing: GAUC is about order within users
    shifted = Scored(rows.score + 5.0 * rows.user, rows.label, rows.user)
    assert gauc(shifted).value == pytest.approx(found.value)
    with pytest.raises(ValueError, match="no user has both labels"):
        gauc(Scored(np.arange(2.0), np.array([True, False]), np.array([0, 1])))


def test_auc_equals_scikit_learn_and_its_interval_covers() -> None:
    rows = drawn(6000)
    found = auc_by_users(rows)
    assert found.value == pytest.approx(oracle.roc_auc_score(rows.label, rows.score))
    assert found.low < found.value < found.high and found.n == 60
    tied = Scored(np.round(rows.score, 1), rows.label, rows.user)
    assert auc_by_users(tied).value == pytest.approx(oracle.roc_auc_score(rows.label, tied.score))
    with pytest.raises(ValueError, match="with and without a click"):
        auc_by_users(Scored(np.ones(3), np.ones(3, bool), np.arange(3)))


def test_differences_are_paired() -> None:
    a, b = drawn(signal=1.0), drawn(signal=0.6)
    b = Scored(b.score, a.label, a.user)
    for difference, metric in ((gauc_difference, gauc), (auc_difference, auc_by_users)):
        found = difference(a, b)
        assert found.value == pytest.approx(metric(a).value - metric(b).value)
        assert found.low > 0
        same = difference(a, a)
        assert same.value == same.low == same.high == 0
    with pytest.raises(ValueError, match="on other rows"):
        gauc_difference(a, Scored(a.score, ~a.label, a.user))


def test_log_loss_and_calibration() -> None:
    rows = drawn(8000)
    assert log_loss(rows).value == pytest.approx(oracle.log_loss(rows.label, rows.score))
    told, seen, n = calibration_curve(rows, 10)
    assert n.sum() == 8000 and np.ptp(n) <= 1 and (np.diff(told) > 0).all()
    order = np.argsort(rows.score, kind="stable")[:800]
    assert told[0] == pytest.approx(rows.score[order].mean()) and seen[0] == pytest.approx(
        rows.label[order].mean()
    )
    assert calibration_error(rows) < 0.03
    loud = Scored(np.clip(rows.score * 2, 0, 1), rows.label, rows.user)
    assert calibration_error(loud) > 0.1
    assert log_loss(
        Scored(np.array([0.0, 1.0]), np.array([True, False]), np.arange(2))
    ).value == pytest.approx(-np.log(1e-7))


def test_lists() -> None:
    rng = np.random.default_rng(0)
    page = np.repeat(np.arange(200), 8)
    label = rng.random(1600) < 0.15
    score = rng.normal(size=1600) + label
    rows = Scored(score, label, page // 4)
    clicked = [p for p in range(200) if label[page == p].any()]
    want = np.mean([oracle.ndcg_score([label[page == p]], [score[page == p]], k=5) for p in clicked])
    assert ndcg(rows, page, 5).value == pytest.approx(want)
    tied = Scored(np.round(score), label, rows.user)
    want = np.mean([oracle.ndcg_score([label[page == p]], [tied.score[page == p]], k=5) for p in clicked])
    assert ndcg(tied, page, 5).value == pytest.approx(want)
    hits = np.mean([label[page == p][np.argsort(-score[page == p])[:3]].any() for p in clicked])
    assert hit_rate(rows, page, 3).value == pytest.approx(hits)
    flat = Scored(np.zeros(1600), label, rows.user)
    assert hit_rate(flat, page, 3).value < hits  # ties count against it
    assert ndcg(rows, page, 5).n == len({p // 4 for p in clicked})


def test_buckets_are_rated_apart() -> None:
    rows = drawn()
    bucket = np.where(rows.user < 30, "head", "tail")
    found = by_bucket(rows, bucket, gauc)
    assert set(found) == {"head", "tail"}
    assert found["head"].value == pytest.approx(gauc(rows.take(bucket == "head")).value)
    assert not by_bucket(rows, np.where(rows.label, "yes", "no"), gauc)  # one label alone


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Scored(np.array([np.nan]), np.array([True]), np.array([0]))
    with pytest.raises(ValueError, match="differ in length"):
        Scored(np.zeros(2), np.array([True]), np.array([0]))
