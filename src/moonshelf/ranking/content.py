"""Product and query vectors at training time: looked up a batch at a time, not copied into rows (MOON 2511.11305, 1.7).

Rows and histories hold numbers; the vectors behind them lie in one memory-mapped shelf of one encoder version, so that
new vectors need no new rows, and memory grows with what a batch touches, not with the catalogue.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.ranking.history import History
from moonshelf.shelf import Shelf
from moonshelf.shelf.queries import embed_matrix
from moonshelf.shelf.stream import Request
from moonshelf.shop.shop import Shop
from moonshelf.workspace import atomic_folder, digest, read_manifest, write_manifest

STAGE = "query vectors"
PHOTO = "photo:"
AROUND = 2_097_152
"""Bytes that the kernel may map around a page that is read: as much of the file as it caches in one piece."""
MAPPED = 64_000_000
"""Bytes of a shelf that may be mapped at a time; the rest is let go."""


class Content:
    """The vectors of everything that a history names: products, then queries.

    Args:
        shelf: of the products.
        history: whose numbers are looked up.
        queries: ``[len(history.queries), D]`` unit rows, zero where there is no vector; None: queries have none.
        expect: version of the encoder that vectors must be of, such as the one that a model was trained with.

    Raises:
        InputError: the shelf or the queries are of another encoder version or width; both versions are named.
    """

    def __init__(
        self,
        shelf: Shelf,
        history: History,
        queries: np.ndarray | None = None,
        *,
        expect: str | None = None,
    ) -> None:
        if expect is not None and shelf.encoder_version != expect:
            raise InputError(
                f"these vectors are of encoder {shelf.encoder_version}, the model was trained with {expect}",
                where=str(shelf.path),
                mend="embed the shop with that encoder, or train the model again",
            )
        if queries is not None and queries.shape != (len(history.queries), shelf.dim):
            raise InputError(
                f"the queries' vectors are {queries.shape}, not {(len(history.queries), shelf.dim)}",
                mend="make them again with the encoder of the shelf",
            )
        self.shelf, self.version, self.dim = shelf, shelf.encoder_version, shelf.dim
        row = {product_id: i for i, product_id in enumerate(shelf.product_ids)}
        self._row = np.array([row.get(item, -1) for item in history.items], dtype=np.int64)
        self._queries, self._asked = queries, np.zeros((0, self.dim), dtype=np.float32)
        self._items, self._of_history = len(history.items), len(history.queries)
        self._mapped = 0  # bytes at most, since the shelf's pages were let go

    @property
    def asks(self) -> bool:
        """Whether the history's queries have vectors."""
        return self._queries is not None

    def mark(self) -> str:
        """What these vectors are, in short: products, what their vectors were made of, encoder, format, queries."""
        made = self.shelf.products.select("product_id", "content").hash_rows(0).to_numpy()
        asked = 0 if self._queries is None else zlib.crc32(np.ascontiguousarray(self._queries).tobytes())
        return digest([self.version, self.dim, self.shelf.dtype, zlib.crc32(made.tobytes()), asked])

    def without_queries(self) -> Content:
        """The same, with no vector for any query: for a model that learned without them."""
        own = copy.copy(self)
        own._queries = None
        return own

    def asking(self, vector: np.ndarray) -> Content:
        """The same with one more query behind those of the history, for somebody who asks now; nothing is copied.

        Args:
            vector: ``[dim]`` unit vector; its number is ``len(history.items) + len(history.queries)``.
        """
        own = copy.copy(self)
        own._asked = np.asarray(vector, dtype=np.float32)[None]
        return own

    @property
    def covered(self) -> float:
        """Share of the products that have a vector."""
        return float((self._row >= 0).mean()) if len(self._row) else 0.0

    def has(self, products: np.ndarray) -> np.ndarray:
        """``[n]`` bool: which products are on the shelf."""
        return np.asarray(self._row[products] >= 0)

    def fetch(self, what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of entries.

        Args:
            what: ``[n]`` numbers of products and queries as in ``History.what``; -1: nothing.

        Returns:
            ``[n, dim]`` float32, zeros where there is no vector, and ``[n]`` bool which there are.

        Cost: reads the pages of these rows alone; ask for distinct numbers. At most ``MAPPED`` bytes of the shelf
        stay mapped, so what is resident does not grow to the whole shelf; mapping anew costs some microseconds a row.
        """
        out = np.zeros((len(what), self.dim), dtype=np.float32)
        item = (what >= 0) & (what < self._items)
        rows = np.where(item, self._row[np.where(item, what, 0)], -1)
        at = np.flatnonzero(rows >= 0)
        order = at[np.argsort(rows[at], kind="stable")]  # pages in the order in which they lie
        # rows are ascending: a part is as many as map no more than MAPPED bytes
        new = np.diff(rows[order] * self.dim * 4 // AROUND, prepend=-1) != 0
        mapped = self._mapped + np.cumsum(new) * AROUND
        for some in np.split(order, np.flatnonzero(np.diff(mapped // MAPPED)) + 1) if len(order) else ():
            out[some] = self.shelf.take(rows[some])
            if mapped[-1] >= MAPPED:
                self.shelf.let_go()
        self._mapped = int(mapped[-1]) % MAPPED if len(mapped) else self._mapped
        now = self._items + self._of_history
        if self._queries is not None:
            asks = np.flatnonzero((what >= self._items) & (what < now))
            out[asks] = self._queries[what[asks] - self._items]
        if len(self._asked):
            out[what == now] = self._asked[0]
        return out, np.asarray(out.any(axis=1))


def query_vectors(
    history: History, encoder: CompactEncoder, shop: Shop, folder: Path, dim: int
) -> np.ndarray:
    """Vectors of all queries of a history, kept in a folder for this encoder and these queries.

    Photos that cannot be read have none (zeros).

    Returns:
        ``[len(history.queries), dim]`` float32, a memory map.
    """
    key = digest([encoder.version, dim, list(history.queries), shop.fingerprint])
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("stage") != STAGE or manifest["inputs"].get("key") != key:
        requests = [
            Request(None, (name.removeprefix(PHOTO),)) if name.startswith(PHOTO) else Request(name)
            for name in history.queries
        ]
        rows, _ = embed_matrix(requests, encoder, shop.images, dim=dim, label="query vectors")
        with atomic_folder(folder) as out:
            np.save(out / "queries.npy", rows)
            write_manifest(out, stage=STAGE, inputs={"key": key, "encoder": encoder.version})
    found: np.ndarray = np.load(folder / "queries.npy", mmap_mode="r")
    return found


def distinct(*numbers: np.ndarray, size: int) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """The distinct numbers of several arrays, and each array as places among them: what one ``fetch`` serves.

    Args:
        numbers: of -1 .. size - 1.

    Cost: ``O(size)`` bits set and read, and one pass over the numbers; no sort, which took seven times as long.
    """
    flat = np.concatenate([n.ravel() for n in numbers]) + 1
    seen = np.zeros(size + 1, dtype=bool)
    seen[flat] = True
    values = np.flatnonzero(seen)
    place = np.empty(size + 1, dtype=np.int64)  # pages that no number touches are never there
    place[values] = np.arange(len(values))
    ends = np.cumsum([n.size for n in numbers])[:-1]
    parts = np.split(place[flat], ends)
    return values - 1, [part.reshape(n.shape) for part, n in zip(parts, numbers, strict=True)]
