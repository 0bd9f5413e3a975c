"""Lists of lists as two arrays, against plain lists."""

from __future__ import annotations

import numpy as np

from moonshelf.relevance.ragged import Ragged, best_of, sum_of

LISTS = [[], [3, 1, 3], [2], [], [0, 1, 2, 3], []]


def test_take_and_postings() -> None:
    packed = Ragged.of(LISTS)
    rows = np.array([4, 0, 1, 1])
    taken = packed.take(rows)
    assert [taken.value[taken.start[i] : taken.start[i + 1]].tolist() for i in range(4)] == [
        LISTS[r] for r in rows
    ]
    turned, often = packed.turned(5)
    for word in range(5):
        part = slice(turned.start[word], turned.start[word + 1])
        wanted = [(i, x.count(word)) for i, x in enumerate(LISTS) if word in x]
        assert list(zip(turned.value[part].tolist(), often[part].tolist(), strict=True)) == wanted


def test_best_and_sum_with_empty_lists() -> None:
    packed = Ragged.of(LISTS)
    values = np.random.default_rng(0).normal(size=(2, len(packed.value))).astype(np.float32)
    for row in range(2):
        parts = [values[row, packed.start[i] : packed.start[i + 1]] for i in range(len(LISTS))]
        assert np.allclose(best_of(values, packed, -7)[row], [p.max() if len(p) else -7 for p in parts])
        assert np.allclose(sum_of(values, packed)[row], [p.sum() for p in parts], atol=1e-6)


def test_nothing_at_all() -> None:
    none = Ragged.of([])
    assert len(none) == 0 and best_of(np.empty((2, 0)), none).shape == (2, 0)
    assert sum_of(np.empty(0), Ragged.of([[], []])).tolist() == [0, 0]
