"""Find the nearest products: exact up to 50,000, faiss IVF above; filters that keep recall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np
import polars as pl

from moonshelf.errors import InputError
from moonshelf.shelf.store import Shelf
from moonshelf.shelf.topk import ROW_BLOCK, top_k

EXACT_UP_TO = 50_000
# A filter that keeps less is searched exactly: of the answers to the unfiltered search hardly more than the share
# that the filter keeps are left, and an exact search of so few rows is quick (benchmarks/stated_costs.py).
EXACT_SHARE, EXACT_ROWS = 0.05, 5_000
HOLD_BYTES = 64 << 20  # an exact index this small is unpacked into memory once

Kind = Literal["auto", "exact", "ivf"]


class Index(Protocol):
    """What every index can do."""

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` best rows.

        Args:
            queries: ``[Q, dim]`` float32 unit rows.
            allowed: ``[N]`` bool, rows that may be found; None allows all.

        Returns:
            Scores ``[Q, k]`` float32 (cosine, descending) and rows ``[Q, k]`` int64; -inf and -1 where the
            filter leaves fewer than ``k``.
        """


def check_queries(queries: np.ndarray, dim: int, rows: int, allowed: np.ndarray | None) -> np.ndarray:
    """Queries as contiguous float32.

    Raises:
        InputError: the width or the filter does not fit the shelf.
    """
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise InputError(
            f"queries of shape {queries.shape} do not fit a shelf of width {dim}",
            mend="cut them to the shelf's width",
        )
    if allowed is not None and (allowed.shape != (rows,) or allowed.dtype != np.bool_):
        raise InputError(
            f"a filter of shape {allowed.shape} does not fit {rows} products", mend="one bool a row"
        )
    return np.ascontiguousarray(queries, dtype=np.float32)


class ExactIndex:
    """Every row is compared, in blocks; see ``topk.top_k``. The reference; the default when small."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        small = len(shelf) * shelf.dim * 4 <= HOLD_BYTES
        self._rows = np.array(shelf.rows()) if small else None

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See ``Index.search``; exact, equal scores in row order."""
        queries = check_queries(queries, self.shelf.dim, len(self.shelf), allowed)
        return top_k(queries, self._parts(allowed), k)

    def _parts(self, allowed: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        wanted = None if allowed is None else np.flatnonzero(allowed)
        for start in range(0, len(self.shelf) if wanted is None else len(wanted), ROW_BLOCK):
            if wanted is None:
                stop = min(start + ROW_BLOCK, len(self.shelf))
                part = self.shelf.rows(start, stop) if self._rows is None else self._rows[start:stop]
                yield np.arange(start, stop, dtype=np.int64), part
            else:
                rows = wanted[start : start + ROW_BLOCK]
                yield rows, self.shelf.take(rows) if self._rows is None else self._rows[rows]


def build_index(shelf: Shelf, kind: Kind = "auto") -> Index:
    """An index over a shelf.

    Args:
        kind: ``exact``, ``ivf`` (faiss), or ``auto``: exact up to 50,000 products, ivf above.

    Raises:
        InputError: an unknown kind, or faiss is needed and not installed.
    """
    if kind not in ("auto", "exact", "ivf"):
        raise InputError(f"unknown index {kind!r}", mend="choose auto, exact or ivf")
    if kind == "exact" or (kind == "auto" and len(shelf) <= EXACT_UP_TO):
        return ExactIndex(shelf)
    from moonshelf.shelf.ivf import IvfIndex

    return IvfIndex(shelf)


def allowed_rows(
    shelf: Shelf, category: str | None = None, price: tuple[float | None, float | None] | None = None
) -> np.ndarray | None:
    """Rows that pass the filters, ``[N]`` bool, or None when there is no filter.

    Args:
        category: a category path or a prefix of one: ``"A"`` keeps ``"A"`` and ``"A > B"``, not ``"AB"``.
        price: lowest and highest price, both included, None = open. A product without a price never passes.

    Raises:
        InputError: no product is in the category, or the price range is empty.
    """
    if category is None and price is None:
        return None
    keep = pl.repeat(True, len(shelf), eager=True)
    if category is not None:
        path = " > ".join(part.strip() for part in category.split(">"))
        names = shelf.products["category"].fill_null("")
        inside = (names == path) | names.str.starts_with(path + " > ")
        if not inside.any():
            tops = names.str.split(" > ").list.first().value_counts(sort=True)
            known = ", ".join(name for name in tops[names.name].head(8) if name)
            raise InputError(
                f"no product is in the category {category!r}", mend=f"there are: {known or 'none'}"
            )
        keep = keep & inside
    if price is not None:
        low, high = price
        if low is not None and high is not None and low > high:
            raise InputError(f"the price range {low} to {high} is empty", mend="give the lower price first")
        prices = shelf.products["price"]
        keep = keep & prices.is_not_null()
        if low is not None:
            keep = keep & (prices >= low).fill_null(False)
        if high is not None:
            keep = keep & (prices <= high).fill_null(False)
    return keep.to_numpy().astype(np.bool_)
