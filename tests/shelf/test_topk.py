from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shelf.topk import blocks, top_k


def brute(queries: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries @ rows.T
    order = np.lexsort((np.broadcast_to(np.arange(len(rows)), scores.shape), -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, 1), order


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 64), st.integers(0, 10_000))
def test_equals_brute_force_with_many_ties(n: int, k: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-1, 2, (5, 3)).astype(np.float32)  # whole numbers: exact sums, many ties
    rows = rng.integers(-1, 2, (n, 3)).astype(np.float32)
    scores, found = top_k(queries, blocks(rows, size), k)
    want_scores, want = brute(queries, rows, k)
    most = min(n, k)
    np.testing.assert_array_equal(found[:, :most], want)
    np.testing.assert_array_equal(scores[:, :most], want_scores)
    assert (found[:, most:] == -1).all() and np.isneginf(scores[:, most:]).all()


def test_many_queries_cross_the_query_blocks() -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((600, 16)).astype(np.float32)
    rows = rng.standard_normal((1000, 16)).astype(np.float32)
    np.testing.assert_array_equal(top_k(queries, blocks(rows, 300), 7)[1], brute(queries, rows, 7)[1])


@pytest.mark.parametrize("k", [0, 3])
def test_nothing_to_search(k: int) -> None:
    scores, rows = top_k(np.ones((2, 4), np.float32), blocks(np.empty((0, 4), np.float32)), k)
    assert scores.shape == rows.shape == (2, k) and (rows == -1).all()
