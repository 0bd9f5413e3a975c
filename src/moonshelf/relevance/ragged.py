"""Lists of numbers of different lengths as two arrays: what a catalogue's words, or postings, are kept in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Ragged:
    """``N`` lists in a row.

    Attributes:
        start: ``[N + 1]`` int64; list ``i`` is ``value[start[i] : start[i + 1]]``.
        value: ``[start[N]]`` int32.
    """

    start: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Sequence[int]]) -> Ragged:
        """Pack lists."""
        held = [np.asarray(x, dtype=np.int32) for x in lists]
        start = np.concatenate(([0], np.cumsum([len(x) for x in held]))).astype(np.int64)
        return cls(start, np.concatenate(held) if held else np.empty(0, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.start) - 1

    def part(self, i: int) -> np.ndarray:
        """List ``i``."""
        return self.value[self.start[i] : self.start[i + 1]]

    def lengths(self) -> np.ndarray:
        """``[N]`` int64."""
        return np.asarray(np.diff(self.start))

    def owner(self) -> np.ndarray:
        """``[start[N]]``: the list that each value belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths())

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where the values of some lists lie in ``value``, one list after the other."""
        begin, n = self.start[rows], self.start[rows + 1] - self.start[rows]
        ends = np.cumsum(n)
        return np.asarray(np.arange(int(n.sum())) + np.repeat(begin - ends + n, n))

    def take(self, rows: np.ndarray) -> Ragged:
        """Some lists, in the order asked for."""
        n = self.start[rows + 1] - self.start[rows]
        return Ragged(np.concatenate(([0], np.cumsum(n))).astype(np.int64), self.value[self.places(rows)])

    def turned(self, columns: int) -> tuple[Ragged, np.ndarray]:
        """The postings: for each of ``columns`` values the lists that hold it (once each) and ``[nnz]`` how often."""
        key, count = np.unique(self.value.astype(np.int64) * len(self) + self.owner(), return_counts=True)
        column, row = key // max(1, len(self)), key % max(1, len(self))
        start = np.searchsorted(column, np.arange(columns + 1)).astype(np.int64)
        return Ragged(start, row.astype(np.int32)), count.astype(np.float32)


def best_of(values: np.ndarray, lists: Ragged, empty: float = 0.0) -> np.ndarray:
    """Maximum of ``values [..., start[N]]`` over each list, ``[..., N]``; ``empty`` for a list without values."""
    padded = np.concatenate((values, np.full((*values.shape[:-1], 1), empty, values.dtype)), axis=-1)
    out = np.maximum.reduceat(padded, lists.start[:-1], axis=-1)
    return np.where(lists.lengths() > 0, out, np.asarray(empty, values.dtype))


def sum_of(values: np.ndarray, lists: Ragged) -> np.ndarray:
    """Sum of ``values [..., start[N]]`` over each list, ``[..., N]``; 0 for a list without values."""
    padded = np.concatenate((values, np.zeros((*values.shape[:-1], 1), values.dtype)), axis=-1)
    out = np.add.reduceat(padded, lists.start[:-1], axis=-1)
    return np.where(lists.lengths() > 0, out, np.asarray(0, values.dtype))
