"""Meaning from the catalogue alone: a truncated SVD of titles (LSA), and word vectors from words that go together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.arrays import unit
from moonshelf.relevance.ragged import Ragged

_TITLE = 40  # words of a title whose pairs are counted


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse matrix ``[N, V]``: columns of each row, and ``[nnz]`` float32 weights."""

    rows: Ragged
    weight: np.ndarray
    width: int

    def turned(self) -> Sparse:
        """The transpose."""
        order = np.argsort(self.rows.value, kind="stable")
        start = np.searchsorted(self.rows.value[order], np.arange(self.width + 1)).astype(np.int64)
        return Sparse(
            Ragged(start, self.rows.owner()[order].astype(np.int32)), self.weight[order], len(self.rows)
        )

    def times(self, dense: Tensor) -> Tensor:
        """``A X``, ``[N, r]``: a weighted sum of rows of ``dense [V, r]`` for each row. No copy of the matrix."""
        return F.embedding_bag(
            torch.from_numpy(self.rows.value),
            dense,
            torch.from_numpy(self.rows.start[:-1].astype(np.int32)),
            mode="sum",
            per_sample_weights=torch.from_numpy(self.weight),
        )


def truncated_svd(
    matrix: Sparse, rank: int, *, seed: int, rounds: int = 4, extra: int = 16
) -> tuple[np.ndarray, np.ndarray]:
    """Largest singular values and right vectors of a sparse matrix (randomised range finder, Halko et al. 2011).

    Args:
        matrix: ``[N, V]``.
        rank: at most ``min(N, V)`` are found.
        rounds: power iterations, each two products with the matrix.

    Returns:
        ``[r]`` values in descending order and ``[V, r]`` vectors, float32.
    """
    shape = (len(matrix.rows), matrix.width)
    rank, width = min(rank, *shape), min(rank + extra, *shape)
    turned = matrix.turned()
    basis = torch.randn(matrix.width, width, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(basis).Q
    for _ in range(rounds):
        basis = torch.linalg.qr(turned.times(matrix.times(basis))).Q
    # of the small matrix: A Q = U S W^T, so the right vectors of A are Q W
    _, value, right = torch.linalg.svd(matrix.times(basis), full_matrices=False)
    return value[:rank].numpy(), (basis @ right[:rank].T).numpy()


def title_factors(titles: Ragged, idf: np.ndarray, rank: int, *, seed: int) -> np.ndarray:
    """LSA (Deerwester et al. 1990): ``[V, rank]`` float32; a text's place is the sum of the rows of its words."""
    weight = idf[titles.value].astype(np.float64)
    length = np.sqrt(np.bincount(titles.owner(), weight**2, minlength=len(titles)))
    weight = weight / np.maximum(length, 1e-9)[titles.owner()]
    _, right = truncated_svd(Sparse(titles, weight.astype(np.float32), len(idf)), rank, seed=seed)
    return np.asarray(right * idf[:, None], dtype=np.float32)


def word_vectors(titles: Ragged, counts: np.ndarray, rank: int, *, seed: int, least: int = 3) -> np.ndarray:
    """Vectors of words by the company they keep: SVD of positive pointwise mutual information within titles.

    ``ppmi(a, b) = max(0, log(n_ab S / (n_a n_b^0.75)))``, vectors ``V sqrt(s)`` of unit length (Levy, Goldberg & Dagan
    2015). Words of fewer than ``least`` titles, and words without company, have a zero row.

    Returns:
        ``[V, rank]`` float32.

    Cost: all pairs of words of a title; a title's words beyond 40 are left out.
    """
    size = len(counts)
    keys = [np.empty(0, dtype=np.int64)]
    for i in range(len(titles)):
        ids = np.unique(titles.value[titles.start[i] : titles.start[i + 1]][:_TITLE]).astype(np.int64)
        ids = ids[counts[ids] >= least]
        keys.append((ids[:, None] * size + ids)[~np.eye(len(ids), dtype=bool)])
    key, together = np.unique(np.concatenate(keys), return_counts=True)
    if not len(key):
        return np.zeros((size, 1), dtype=np.float32)
    a, b = key // size, key % size
    alone = np.bincount(a, together, minlength=size)
    smooth = alone**0.75  # rare companions would else weigh too much
    ppmi = np.log(together * smooth.sum() / (alone[a] * smooth[b]))
    keep = ppmi > 0
    start = np.searchsorted(a[keep], np.arange(size + 1)).astype(np.int64)
    matrix = Sparse(Ragged(start, b[keep].astype(np.int32)), ppmi[keep].astype(np.float32), size)
    value, right = truncated_svd(matrix, rank, seed=seed)
    vectors = unit(right * np.sqrt(value))
    vectors[np.bincount(a[keep], minlength=size) == 0] = 0.0
    return vectors
