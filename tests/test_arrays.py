"""The best columns against a stable sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.arrays import best_columns


@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 10**6), st.data())
def test_it_is_the_head_of_a_stable_sort(rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.choice(np.array([-np.inf, -1.0, 0.0, 0.5, 2.0], dtype=np.float32), (rows, columns))
    k = data.draw(st.integers(1, columns))
    assert np.array_equal(best_columns(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])
