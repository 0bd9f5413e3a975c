"""Exact top-k in blocks: never a queries x gallery matrix, and the same answer every time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moonshelf.arrays import best_columns

QUERY_BLOCK = 256
ROW_BLOCK = 8192


def blocks(rows: np.ndarray, size: int = ROW_BLOCK) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """``(row numbers, rows)`` of a matrix, ``size`` rows at a time."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield np.arange(start, start + len(part), dtype=np.int64), part


def top_k(
    queries: np.ndarray, parts: Iterable[tuple[np.ndarray, np.ndarray]], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of largest inner product for every query.

    Args:
        queries: ``[Q, D]`` float32.
        parts: ``(row numbers [B] ascending over all parts, rows [B, D] float32)``, read once.

    Returns:
        Scores ``[Q, k]`` float32 descending and row numbers ``[Q, k]`` int64; equal scores in row order.
        Where there are fewer than ``k`` rows: score -inf and row -1.

    Cost: ``Q x N x D`` multiplications; memory ``min(Q, 256) x B`` scores beside the result.
    """
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    if k == 0:
        return scores, rows
    for numbers, vectors in parts:
        if not len(numbers):
            continue
        transposed = np.ascontiguousarray(vectors.T)
        for start in range(0, len(queries), QUERY_BLOCK):
            part = slice(start, start + QUERY_BLOCK)
            found = queries[part] @ transposed
            _merge(scores, rows, part, found, numbers)
    return scores, rows


def _merge(scores: np.ndarray, rows: np.ndarray, part: slice, found: np.ndarray, numbers: np.ndarray) -> None:
    k = scores.shape[1]
    better = (found > scores[part, -1:]).any(1)  # an equal score in a later row changes nothing
    if not better.any():
        return
    at = np.flatnonzero(better) + part.start
    # kept rows come first and their numbers are smaller, so column order is row order among equals
    every = np.concatenate([scores[at], found[better]], axis=1)
    columns = best_columns(every, k)
    scores[at] = np.take_along_axis(every, columns, axis=1)
    old = np.take_along_axis(rows[at], np.minimum(columns, k - 1), axis=1)
    rows[at] = np.where(columns < k, old, numbers[np.maximum(columns - k, 0)])
