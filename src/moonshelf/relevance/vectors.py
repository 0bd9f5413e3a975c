"""Cosines of a query's text with product vectors: a shelf and the encoder that made it, as features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moonshelf.arrays import unit
from moonshelf.errors import InputError
from moonshelf.shelf import Embedder, Request, Shelf, embed_matrix

NAMES = ("vector", "vector_of_best", "vector_above")


class ShelfVectors:
    """Vectors of a shelf's products and the means to embed a query.

    Raises:
        InputError: the encoder is not the one that made the shelf.
    """

    def __init__(self, shelf: Shelf, encoder: Embedder) -> None:
        if shelf.encoder_version != encoder.version:
            raise InputError(
                f"the shelf was made by encoder {shelf.encoder_version}, not {encoder.version}",
                where=str(shelf.path),
                mend="name the encoder that made it, or embed the shop again",
            )
        self.version, self._encoder, self._dim = encoder.version, encoder, shelf.dim
        self.rows = shelf.rows()
        self._row = {product_id: i for i, product_id in enumerate(shelf.product_ids)}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of queries, ``[n, dim]``; zero for one without text."""
        out = np.zeros((len(texts), self._dim), dtype=np.float32)
        there = [i for i, text in enumerate(texts) if text.strip()]
        if there:
            requests = [Request(texts[i]) for i in there]
            label = "relevance: embed queries" if len(there) > 1 else None
            out[there] = unit(embed_matrix(requests, self._encoder, dim=self._dim, label=label)[0])
        return out

    def features(self, query: np.ndarray, product_ids: Sequence[str]) -> np.ndarray:
        """``[n, 3]`` float32: cosine, its share of the best product's, log of how many are nearer; NaN if not there."""
        scores = self.rows @ query
        at = np.array([self._row.get(p, -1) for p in product_ids], dtype=np.int64)
        mine = np.where(at >= 0, scores[at], np.nan) if len(scores) else np.full(len(at), np.nan)
        above = len(scores) - np.searchsorted(np.sort(scores), mine + 1e-5, side="right")
        best = float(scores.max(initial=0))
        columns = (mine, mine / max(best, 1e-9), np.where(at >= 0, np.log1p(above), np.nan))
        return np.stack(columns, 1).astype(np.float32)
