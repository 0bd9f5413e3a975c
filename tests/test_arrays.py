"""The best columns against a stable sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.arrays import best_columns, count_below


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 10**6), st.data())
def test_it_is_the_head_of_a_stable_sort(rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.array([-np.inf, -1.0, 0.0, 0.5, 2.0], dtype=np.float32), (rows, columns))
    k = data.draw(st.integers(1, columns))
    assert np.array_equal(best_columns(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])


def test_count_below_equals_searching_each_slice() -> None:
    rng = np.random.default_rng(0)
    ends = np.concatenate(([0], np.cumsum(rng.integers(0, 9, 30))))
    values = np.concatenate([np.sort(rng.integers(0, 6, n)) for n in np.diff(ends)])
    which, wanted = rng.integers(0, 30, 200), rng.integers(-1, 8, 200)
    low, high = ends[which], ends[which + 1]
    want = [a + np.searchsorted(values[a:b], w) for a, b, w in zip(low, high, wanted, strict=True)]
    assert count_below(values, low, high, wanted).tolist() == want
    none = np.zeros(0, dtype=np.int64)
    assert count_below(none, np.zeros(2, int), np.zeros(2, int), np.ones(2)).tolist() == [0, 0]
