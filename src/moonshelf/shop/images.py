"""The images of a prepared shop: which there are, which may be used, and their bytes."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import polars as pl
from PIL import Image

from moonshelf.errors import InputError
from moonshelf.shop.decode import PIXEL_LIMIT, ImageError, decode_image

__all__ = ["IMAGE_INDEX", "PIXEL_LIMIT", "ImageError", "ImageStore", "decode_image"]

IMAGE_INDEX = pl.Schema(
    {
        "image_id": pl.String(),
        "status": pl.String(),  # ok | rejected
        "reason": pl.String(),
        "width": pl.Int64(),
        "height": pl.Int64(),
        "num_bytes": pl.Int64(),
        "sha256": pl.String(),
        "phash": pl.UInt64(),
        "duplicate_of": pl.String(),  # the first image of the same bytes
        "near_group": pl.Int64(),
        "offset": pl.Int64(),  # into images.bin; null for images that stay files
        "path": pl.String(),  # absolute path of an image that stays a file
    }
)
"""Columns of ``images.parquet``, the audit. Width and height are upright (after EXIF rotation)."""


class ImageStore:
    """Reads the images of a prepared shop folder. Thread-safe; pickles by path, so workers reopen it.

    Args:
        folder: prepared shop folder with ``images.parquet`` and, unless all images are files, ``images.bin``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._table = pl.read_parquet(self.folder / "images.parquet", memory_map=False)
        ok = self._table.filter(pl.col("status") == "ok")
        self._ids: list[str] = ok["image_id"].to_list()
        self._row = {image_id: row for row, image_id in enumerate(self._ids)}
        self._offsets: list[int | None] = ok["offset"].to_list()
        self._sizes: list[int] = ok["num_bytes"].to_list()
        self._paths: list[str | None] = ok["path"].to_list()
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> Path:
        return self.folder

    def __setstate__(self, folder: Path) -> None:
        self.__init__(folder)  # type: ignore[misc]

    @property
    def table(self) -> pl.DataFrame:
        """The audit: one row an image, rejected ones too, schema ``IMAGE_INDEX``."""
        return self._table

    @property
    def ids(self) -> list[str]:
        """Ids of the images that may be used, in the order of the audit."""
        return list(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._row

    def read(self, image_id: str) -> bytes:
        """The bytes of a usable image.

        Raises:
            ImageError: ``missing`` when there is no usable image of this id, or its file is gone or changed.
        """
        row = self._row.get(image_id)
        if row is None:
            raise ImageError("missing", "no usable image of this id in the shop", image_id)
        path = self._paths[row]
        if path is not None:
            return self._read_file(path, self._sizes[row], image_id)
        start = self._offsets[row]
        assert start is not None
        return self._mapped()[start : start + self._sizes[row]]

    def decode(self, image_id: str, short_side: int | None = None) -> Image.Image:
        """The image as upright RGB; see ``decode_image``. It passed the audit, so no pixel limit applies."""
        try:
            return decode_image(self.read(image_id), short_side=short_side, pixel_limit=2**62)
        except ImageError as error:
            raise ImageError(error.reason, error.detail, image_id) from error

    @staticmethod
    def _read_file(path: str, size: int, image_id: str) -> bytes:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ImageError("missing", "the file is gone since the shop was read", image_id) from error
        if len(data) != size:
            raise ImageError(
                "unreadable", "the file changed since the shop was read; open the shop again", image_id
            )
        return data

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            with self._lock:
                if self._map is None:
                    path = self.folder / "images.bin"
                    try:
                        with path.open("rb") as handle:
                            self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
                    except (OSError, ValueError) as error:
                        raise InputError(
                            "the prepared shop has lost its images",
                            where=str(path),
                            mend="delete the folder, open the shop again",
                        ) from error
        return self._map
