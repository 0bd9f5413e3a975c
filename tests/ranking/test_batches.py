"""Batches: every row says what the log says, each thing once, no future, unknown users and products."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.features import Column, Features
from moonshelf.ranking.history import QUERY, History
from moonshelf.ranking.rows import Rows


@pytest.fixture
def history() -> History:
    """Four users; products 0 to 5 and two queries."""
    rng = np.random.default_rng(0)
    start = np.array([0, 30, 31, 60, 60])  # the last one did nothing
    what = rng.integers(0, 8, 60).astype(np.int32)
    time = np.concatenate([np.sort(rng.integers(0, 10**9, n)) for n in np.diff(start)])
    kind = np.where(what >= 6, QUERY, rng.integers(0, 3, 60)).astype(np.uint8)
    return History(tuple("abcdef"), ("mug", "cup"), tuple("wxyz"), what, time, kind, start)


@pytest.fixture
def rows(history: History) -> Rows:
    rng = np.random.default_rng(1)
    n = 40
    user = rng.integers(-1, 4, n).astype(np.int32)
    time = rng.choice(rng.integers(0, 10**9, 6), n)
    return Rows(
        user, rng.integers(0, 6, n).astype(np.int32), rng.integers(-1, 2, n).astype(np.int32), time,
        history.until(user, time), rng.random((n, 3)) < 0.3, rng.integers(0, 11, n).astype(np.int16),
        np.full(n, np.nan, np.float32), np.arange(n), np.ones(n, np.float32),
    )  # fmt: skip


@pytest.fixture
def features() -> Features:
    colour = Column("item.colour", 4, np.array([1, 2, 3, 1, 2, 0], np.int32))
    return Features((colour,), (Column("user.age", 3, np.array([1, 2, 0, 1], np.int32)),))


def test_a_batch_says_what_the_log_says(history: History, rows: Rows, features: Features) -> None:
    batches = ClickBatches(rows, history, features, longest=5)
    at = np.random.default_rng(2).permutation(len(rows))[:25]
    batch = batches.make(at)
    ids = batch.ids.tolist()
    assert ids[0] == 0 and len(set(ids)) == len(ids)
    for b, row in enumerate(at.tolist()):
        c = int(batch.context[b])
        assert ids[batch.target[b]] == rows.item[row] + 1
        assert ids[batch.asked[b]] == (rows.query[row] + 7 if rows.query[row] >= 0 else 0)
        assert int(batch.user[c]) == rows.user[row] + 1
        begin = history.start[rows.user[row]] if rows.user[row] >= 0 else 0
        seen = history.what[begin : rows.until[row]][-5:]
        there = batch.past_there[c]
        assert [ids[p] - 1 for p in batch.past[c][there].tolist()] == seen.tolist()
        assert not batch.past[c][~there].any()
        colour = features.item[0].values[rows.item[row]]
        assert int(batch.item_columns[batch.target[b], 0]) == colour
        assert int(batch.user_columns[c, 0]) == (
            features.user[0].values[rows.user[row]] if rows.user[row] >= 0 else 0
        )
        assert batch.label[b].tolist() == rows.label[row].astype(float).tolist()
    queries = batch.ids > 6
    assert not batch.item_columns[queries].any()
    assert batch.vectors.shape == (len(ids), 0)


def test_a_past_is_there_once_for_all_rows_that_share_it(
    history: History, rows: Rows, features: Features
) -> None:
    batches = ClickBatches(rows, history, features)
    batch = batches.make(np.arange(len(rows)))
    pasts = {(int(u), int(e)) for u, e in zip(rows.user, rows.until, strict=True)}
    assert len(batch.user) == len(pasts) < len(rows)


def test_an_epoch_has_every_row_once_and_keeps_contexts_together(
    history: History, rows: Rows, features: Features
) -> None:
    batches = ClickBatches(rows, history, features)
    parts = batches.epoch(7, np.random.default_rng(0))
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows))) and len(parts[0]) == 7
    order = [(int(rows.user[i]), int(rows.until[i])) for i in np.concatenate(parts)]
    runs = 1 + sum(a != b for a, b in itertools.pairwise(order))
    assert runs == len(set(order))
    again = batches.epoch(7, np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    other = batches.epoch(7, np.random.default_rng(1))
    assert not all(np.array_equal(a, b) for a, b in zip(parts, other, strict=True))


def test_nobody_did_anything_yet(features: Features) -> None:
    none = np.zeros(0, np.int64)
    history = History(
        tuple("abcdef"), (), (), none.astype(np.int32), none, none.astype(np.uint8), np.array([0])
    )
    zero = np.zeros(2, np.int64)
    rows = Rows(
        np.array([-1, -1], np.int32), np.array([1, 2], np.int32), np.array([-1, -1], np.int32), zero, zero,
        np.zeros((2, 3), bool), zero, zero.astype(np.float32), zero, np.ones(2, np.float32),
    )  # fmt: skip
    batch = ClickBatches(rows, history, Features(features.item, ())).make(np.arange(2))
    assert batch.past.shape == (1, 1) and not batch.past_there.any() and batch.ids.tolist() == [0, 2, 3]
