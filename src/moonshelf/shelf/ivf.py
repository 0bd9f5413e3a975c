"""The faiss adapter: inverted lists (IVF-Flat, 8-bit when large), with filters that keep recall.

Filters. The lists nearest to a query may hold no allowed row, so a filtered search with a fixed number of
lists loses recall. Here every query probes its nearest lists *that hold allowed rows* until they hold
four times as many allowed rows as an unfiltered search looks at (our design); below 5% the subset is searched
exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from moonshelf.errors import InputError
from moonshelf.shelf.index import EXACT_ROWS, EXACT_SHARE, ExactIndex, check_queries
from moonshelf.shelf.store import Shelf
from moonshelf.shelf.topk import ROW_BLOCK

# How many lists a query must look at depends on the data (16 of 1024 for clear clusters, 128 for vague
# ones), so it is measured when the index is built rather than guessed.
LEAST_PROBES, TARGET_RECALL, CALIBRATION = 16, 0.99, 256
FLAT_UP_TO_BYTES = 1 << 30
TRAIN_A_LIST = 64  # vectors that train one centroid; faiss warns below 39
FILTERED = 4  # a filter may leave only rows far from the query, whose nearest are spread over more lists
REFINE = 4  # 8-bit lists find this many times k, which are then compared in full


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "an index of this size needs faiss",
            where="index ivf",
            mend="pip install faiss-cpu, or use the exact index",
        ) from error
    return faiss


class IvfIndex:
    """Inverted lists over a shelf, built in memory. Deterministic for one number of threads.

    Args:
        shelf: at least one row.
        probes: lists looked at; more is slower and finds more. None measures it: the
            smallest power of two, at least 16, that finds 99% of the
            ten nearest neighbours of 256 of the shelf's own rows.
        compress: store 8 bits an entry in the lists; None = when the float32 vectors exceed 1 GiB.

    Cost: k-means on 64 vectors a list, ``4 sqrt(N)`` lists; about 7 CPU-seconds at 100,000 x 256.
    """

    def __init__(self, shelf: Shelf, *, probes: int | None = None, compress: bool | None = None) -> None:
        self._faiss = faiss = _faiss()
        self.shelf, self.exact = shelf, ExactIndex(shelf)
        n, dim = len(shelf), shelf.dim
        if n == 0:
            raise InputError("the shelf is empty", where=str(shelf.path), mend="embed some products first")
        self.lists = max(1, min(int(4 * n**0.5), n // 39 or 1))
        self.compress = n * dim * 4 > FLAT_UP_TO_BYTES if compress is None else compress
        quantizer = faiss.IndexFlatIP(dim)
        if self.compress:
            kind = faiss.ScalarQuantizer.QT_8bit
            self._index = faiss.IndexIVFScalarQuantizer(
                quantizer, dim, self.lists, kind, faiss.METRIC_INNER_PRODUCT
            )
        else:
            self._index = faiss.IndexIVFFlat(quantizer, dim, self.lists, faiss.METRIC_INNER_PRODUCT)
        self._index.cp.seed = 0
        self._index.cp.spherical = True  # rows are unit vectors, so their centres should be
        step = max(1, n // (self.lists * TRAIN_A_LIST))
        self._index.train(np.ascontiguousarray(shelf.take(np.arange(0, n, step))))
        for start in range(0, n, ROW_BLOCK):
            self._index.add(np.ascontiguousarray(shelf.rows(start, start + ROW_BLOCK)))
        self._list_of = self._assignments(n)
        self.probes = min(probes, self.lists) if probes else self._calibrated(n)

    def _calibrated(self, n: int) -> int:
        """See the class; cost: one exact search of 256 queries."""
        sample = self.shelf.take(np.linspace(0, n - 1, min(CALIBRATION, n)).astype(np.int64))
        k = min(11, n)  # a row finds itself first
        want = self.exact.search(sample, k)[1]
        probes = min(LEAST_PROBES, self.lists)
        while probes < self.lists:
            params = self._faiss.SearchParametersIVF(nprobe=probes)
            found = self._index.search(sample, self._wide(k), params=params)[1]
            hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, want, strict=True))
            if hits >= TARGET_RECALL * want.size:
                break
            probes = min(probes * 2, self.lists)
        return probes

    def _assignments(self, n: int) -> np.ndarray:
        """``[N]`` the list of every row, read back from faiss."""
        out = np.full(n, -1, dtype=np.int64)
        inverted = self._index.invlists
        for number in range(self.lists):
            size = inverted.list_size(number)
            if size:
                pointer = inverted.get_ids(number)
                out[self._faiss.rev_swig_ptr(pointer, size)] = number
                inverted.release_ids(number, pointer)
        return out

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``Index.search``; approximate, equal scores in row order."""
        queries = check_queries(queries, self.shelf.dim, len(self.shelf), allowed)
        if allowed is None:
            params = self._faiss.SearchParametersIVF(nprobe=self.probes)
            scores, rows = self._index.search(queries, self._wide(k), params=params)
            scores, rows = self._sorted(queries, scores, rows, k)
            return self._complete(queries, scores, rows, k, None, len(self.shelf))
        count = int(allowed.sum())
        if count < max(EXACT_SHARE * len(self.shelf), EXACT_ROWS):
            return self.exact.search(queries, k, allowed)
        lists, similarity = self._probe(queries, allowed, k)
        bits = np.packbits(allowed, bitorder="little")
        selector = self._faiss.IDSelectorBitmap(bits)
        params = self._faiss.SearchParametersIVF(sel=selector, nprobe=lists.shape[1])
        wide = self._wide(k)
        scores = np.empty((len(queries), wide), dtype=np.float32)
        rows = np.empty((len(queries), wide), dtype=np.int64)
        pointers = [self._faiss.swig_ptr(array) for array in (queries, lists, similarity, scores, rows)]
        # the plain Python wrapper of this call takes no parameters, so no selector
        self._index.search_preassigned_c(len(queries), pointers[0], wide, *pointers[1:], False, params)
        scores, rows = self._sorted(queries, scores, rows, k)
        return self._complete(queries, scores, rows, k, allowed, count)

    def _wide(self, k: int) -> int:
        return k * REFINE if self.compress else k

    def _probe(self, queries: np.ndarray, allowed: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Lists to look at, ``[Q, P]`` nearest first, -1 = none, and their similarity to the query."""
        weight = np.bincount(self._list_of[allowed], minlength=self.lists)
        usable = np.flatnonzero(weight)
        enough = max(FILTERED * self.probes * len(self.shelf) / self.lists, 4 * k)
        similarity, order = self._index.quantizer.search(queries, self.lists)
        inside = np.isin(order, usable)
        # usable lists to the front, still nearest first
        front = np.argsort(~inside, axis=1, kind="stable")[:, : len(usable)]
        order = np.take_along_axis(order, front, axis=1)
        similarity = np.take_along_axis(similarity, front, axis=1)
        before = np.cumsum(weight[order], axis=1) - weight[order]
        order = np.where(before < enough, order, -1)
        width = int((order >= 0).sum(1).max())
        return np.ascontiguousarray(order[:, :width]), np.ascontiguousarray(similarity[:, :width])

    def _sorted(
        self, queries: np.ndarray, scores: np.ndarray, rows: np.ndarray, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best ``k`` by score, then row; compressed lists are compared in full first."""
        if self.compress:
            full = self.shelf.take(np.maximum(rows, 0).ravel()).reshape(*rows.shape, -1)
            scores = np.where(rows >= 0, np.einsum("qd,qkd->qk", queries, full), -np.inf).astype(np.float32)
        scores = np.where(rows >= 0, scores, -np.inf).astype(np.float32)
        order = np.lexsort((rows, -scores), axis=1)[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _complete(
        self,
        queries: np.ndarray,
        scores: np.ndarray,
        rows: np.ndarray,
        k: int,
        allowed: np.ndarray | None,
        count: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Queries whose lists held fewer rows than asked for (and than there are) are searched exactly."""
        short = np.flatnonzero((rows >= 0).sum(1) < min(k, count))
        if len(short):
            scores[short], rows[short] = self.exact.search(queries[short], k, allowed)
        return scores, rows
