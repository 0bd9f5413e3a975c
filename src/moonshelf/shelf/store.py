"""A shelf: the vectors of a shop's products on disk, memory-mapped, with what is needed to show a hit."""

from __future__ import annotations

import json
import mmap
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf.errors import InputError
from moonshelf.shelf.vectors import NUMPY, unpack

FORMAT = 1
INFO, VECTORS, SCALES, IDS, LEFT_OUT = (
    "shelf.json",
    "vectors.bin",
    "scales.bin",
    "ids.parquet",
    "left_out.parquet",
)
LEFT_OUT_SCHEMA = pl.Schema({"product_id": pl.String(), "image_id": pl.String(), "reason": pl.String()})
IDS_SCHEMA = pl.Schema(
    {
        "product_id": pl.String(),
        "title": pl.String(),
        "category": pl.String(),
        "price": pl.Float64(),
        "image_id": pl.String(),  # the main photo
        "content": pl.String(),  # hash of the text and photos the vector was made from
    }
)


class Shelf:
    """Product vectors of one encoder version, in the order of the shop's products. Open with ``Shelf.open``.

    Attributes:
        path: the folder.
        info: what ``shelf.json`` says: rows, dim, dtype, encoder_version, use, shop, counts, key.
        vectors: ``[N, dim]`` memory map as stored (f32, f16 or i8); ``rows`` gives float32.
        scales: ``[N]`` float32 for i8, else None.
    """

    def __init__(
        self, path: Path, info: dict[str, Any], vectors: np.ndarray, scales: np.ndarray | None
    ) -> None:
        self.path, self.info, self.vectors, self.scales = path, info, vectors, scales

    @classmethod
    def open(cls, path: str | Path) -> Shelf:
        """Open a shelf folder, or the ``shelf/`` folder inside a work folder. Cost: no vector is read.

        Raises:
            InputError: there is no shelf, or its files do not fit together.
        """
        given = Path(path)
        folder = next((p for p in (given, given / "shelf") if (p / INFO).is_file()), None)
        if folder is None:
            raise InputError(
                "there is no shelf here", where=str(given), mend="make one with: moonshelf embed"
            )
        again = "make the shelf again with: moonshelf embed"
        try:
            info = json.loads((folder / INFO).read_text())
            rows, dim, dtype = int(info["rows"]), int(info["dim"]), NUMPY[info["dtype"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "the shelf's description cannot be read", where=str(folder / INFO), mend=again
            ) from error
        if info.get("format") != FORMAT:
            raise InputError(f"the shelf has format {info.get('format')}", where=str(folder), mend=again)
        vectors = _map(folder / VECTORS, dtype, (rows, dim), again)
        scales = _map(folder / SCALES, np.dtype("<f4"), (rows,), again) if info["dtype"] == "i8" else None
        if not (folder / IDS).is_file():
            raise InputError("the shelf has lost its product ids", where=str(folder / IDS), mend=again)
        return cls(folder, info, vectors, scales)

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.info["dim"])

    @property
    def dtype(self) -> str:
        """``f32``, ``f16`` or ``i8``."""
        return str(self.info["dtype"])

    @property
    def encoder_version(self) -> str:
        """Version of the encoder; queries must come from the same."""
        return str(self.info["encoder_version"])

    @cached_property
    def products(self) -> pl.DataFrame:
        """One row a vector: product_id, title, category, price, image_id, content."""
        return pl.read_parquet(self.path / IDS)

    @cached_property
    def product_ids(self) -> list[str]:
        """Product id of each row."""
        return self.products["product_id"].to_list()

    @cached_property
    def left_out(self) -> pl.DataFrame:
        """What has no vector, and why: product_id, image_id (null = the whole product), reason."""
        return pl.read_parquet(self.path / LEFT_OUT)

    def rows(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Float32 unit rows ``[stop - start, dim]``."""
        part = slice(start, stop)
        return unpack(self.vectors[part], None if self.scales is None else self.scales[part])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Float32 unit rows ``[len(rows), dim]`` at the given row numbers."""
        return unpack(self.vectors[rows], None if self.scales is None else self.scales[rows])

    def let_go(self) -> None:
        """Take the vectors' pages out of this process; the system's file cache keeps them, reading maps them again.

        Where the system has no such call they stay until it takes them itself.
        """
        mapped = getattr(self.vectors, "_mmap", None)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _map(path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...], mend: str) -> np.ndarray:
    size = int(np.prod(shape)) * dtype.itemsize
    if not path.is_file() or path.stat().st_size != size:
        raise InputError(
            "the shelf is damaged: a file has not the size it should have", where=str(path), mend=mend
        )
    if size == 0:  # an empty file cannot be mapped
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)
