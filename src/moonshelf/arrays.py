"""Matrices of vectors and of scores: unit rows, the best columns in one order always, arrays kept on disk."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from moonshelf.workspace import atomic_write


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows ``[N, D]`` divided by their length, float32; a zero row stays zero."""
    rows = rows.astype(np.float32, copy=False)
    norm = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return np.asarray(rows / np.where(norm > 0, norm, 1), dtype=np.float32)


def best_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """Column numbers of the ``k`` largest scores of every row, best first; equal scores in column order.

    Args:
        scores: ``[Q, C]``, no NaN, ``C >= k >= 1``.

    Returns:
        ``[Q, k]`` int64.

    Cost: a partition of each row and a sort of ``k``; a full sort of 20,000 columns takes sixteen times as long.
    """
    threshold = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    above, equal = scores > threshold, scores == threshold
    keep = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdims=True)))
    columns = np.nonzero(keep)[1].reshape(-1, k)
    order = np.argsort(-np.take_along_axis(scores, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1)


def count_below(values: np.ndarray, low: np.ndarray, high: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The first place of each slice ``values[low : high]`` that is not below ``wanted``, ``[n]``; ``high`` if none is.

    Args:
        values: ascending within every slice.
        low, high, wanted: ``[n]``.

    Cost: a binary search a slice, all at once.
    """
    low, high = low.astype(np.int64), high.astype(np.int64)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        below = open_ & (values[np.minimum(middle, len(values) - 1)] < wanted)
        low, high = np.where(below, middle + 1, low), np.where(open_ & ~below, middle, high)
    return low


def kept_array(file: Path | None, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in a file, or made and written there (``.npy`` without pickle); None keeps nothing."""
    if file is not None and file.is_file():
        found: np.ndarray = np.load(file, allow_pickle=False)
        return found
    made = make()
    if file is not None:
        held = io.BytesIO()
        np.save(held, made, allow_pickle=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, held.getvalue())
    return made
