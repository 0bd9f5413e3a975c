"""The best columns against a stable sort; arrays that are made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.arrays import best_columns, count_below, kept_array


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


def test_an_array_is_made_once_and_kept_without_pickle(tmp_path: Path) -> None:
    calls: list[int] = []

    def make() -> np.ndarray:
        calls.append(1)
        return np.arange(6.0).reshape(2, 3)

    file = tmp_path / "deep" / "a.npy"
    first, second = kept_array(file, make), kept_array(file, make)
    assert len(calls) == 1 and np.array_equal(first, second) and second.dtype == np.float64
    kept_array(None, make)
    assert len(calls) == 2 and [p.name for p in file.parent.iterdir()] == ["a.npy"]
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        kept_array(file, make)
