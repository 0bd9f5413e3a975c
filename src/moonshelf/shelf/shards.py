"""The unfinished shelf: shards of 1024 products beside the place where the shelf will be.

``.NAME.embedding/`` holds ``key.json`` and one pair of files a finished shard. The ``.npy`` is renamed
into place last, so a shard that has one is whole; a killed run goes on behind the last whole shard.
"""

from __future__ import annotations

import errno
import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf import workspace
from moonshelf.errors import InputError
from moonshelf.shelf.store import FORMAT, IDS, IDS_SCHEMA, INFO, LEFT_OUT, LEFT_OUT_SCHEMA, SCALES, VECTORS
from moonshelf.shelf.vectors import NUMPY

SHARD_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Shard:
    """Vectors of up to 1024 consecutive products.

    Attributes:
        vectors: ``[n, dim]`` as stored.
        scales: ``[n]`` float32.
        ids: one dict a row with the columns of ``ids.parquet``.
        left_out: dicts with product_id, image_id (None = whole product), reason.
        reused: rows copied from an earlier shelf.
    """

    vectors: np.ndarray
    scales: np.ndarray
    ids: list[dict[str, Any]]
    left_out: list[dict[str, Any]]
    reused: int


def _siblings(out: Path) -> tuple[Path, Path]:
    out = out.absolute()
    return out.with_name(f".{out.name}.embedding"), out.with_name(f".{out.name}.old")


def recover(out: Path) -> None:
    """Put the earlier shelf back when a run was killed between the two renames of ``finish``."""
    old = _siblings(out)[1]
    if old.exists() and not out.exists():
        old.rename(out)


def discard(out: Path) -> None:
    """Remove shards that a finished shelf no longer needs."""
    shutil.rmtree(_siblings(out)[0], ignore_errors=True)


class Unfinished:
    """The folder of shards for one shelf and one key; see the module."""

    def __init__(self, out: Path, key: str, *, resume: bool) -> None:
        self.out = out.absolute()
        self.folder, self._old = _siblings(self.out)
        marker = self.folder / "key.json"
        try:
            same = json.loads(marker.read_text()) == {"key": key}
        except (OSError, ValueError):
            same = False
        try:
            if not (resume and same):
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(parents=True, exist_ok=True)
                workspace.write_json(marker, {"key": key})
        except OSError as error:
            raise _explained(error, self.folder) from error

    def _paths(self, number: int) -> tuple[Path, Path]:
        name = self.folder / f"shard-{number:05d}"
        return name.with_suffix(".npy"), name.with_suffix(".json")

    def has(self, number: int) -> bool:
        """Whether this shard is whole."""
        return self._paths(number)[0].is_file()

    def write(self, number: int, shard: Shard) -> None:
        """Store a shard: description first, vectors last, each renamed into place."""
        vectors, description = self._paths(number)
        about = {"ids": shard.ids, "left_out": shard.left_out, "reused": shard.reused}
        workspace.atomic_write(description, json.dumps(about, ensure_ascii=False).encode())
        both = np.empty(
            len(shard.vectors),
            dtype=[("vector", shard.vectors.dtype, (shard.vectors.shape[1],)), ("scale", "<f4")],
        )
        both["vector"], both["scale"] = shard.vectors, shard.scales
        buffer = io.BytesIO()
        np.save(buffer, both, allow_pickle=False)
        workspace.atomic_write(vectors, buffer.getvalue())

    def read(self, number: int) -> Shard:
        """Load a whole shard."""
        vectors, description = self._paths(number)
        both = np.load(vectors, allow_pickle=False)
        about = json.loads(description.read_text())
        return Shard(both["vector"], both["scale"], about["ids"], about["left_out"], about["reused"])

    def finish(self, count: int, info: dict[str, Any], manifest: dict[str, Any]) -> None:
        """Join the shards into the final folder, put it in place and remove the shards.

        Args:
            count: number of shards.
            info: ``shelf.json`` but for the counts, which are added here.
            manifest: arguments of ``workspace.write_manifest``.

        Raises:
            InputError: the disk is full, or the place cannot be written; the shards stay.
        """
        try:
            final = self.folder / "final"
            shutil.rmtree(final, ignore_errors=True)
            final.mkdir()
            counts = self._join(count, final, info)
            workspace.write_json(
                final / INFO, {"format": FORMAT, **info, "rows": counts["rows"], "counts": counts}
            )
            workspace.write_manifest(
                final, **{**manifest, "metrics": {**counts, **manifest.get("metrics", {})}}
            )
            shutil.rmtree(self._old, ignore_errors=True)
            if self.out.exists():
                self.out.rename(self._old)
            final.rename(self.out)
        except OSError as error:
            raise _explained(error, self.out) from error
        shutil.rmtree(self._old, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _join(self, count: int, final: Path, info: dict[str, Any]) -> dict[str, int]:
        ids: list[pl.DataFrame] = [pl.DataFrame(schema=IDS_SCHEMA)]
        left: list[pl.DataFrame] = [pl.DataFrame(schema=LEFT_OUT_SCHEMA)]
        reused = 0
        with (final / VECTORS).open("wb") as vectors, (final / SCALES).open("wb") as scales:
            for number in range(count):
                shard = self.read(number)
                vectors.write(np.ascontiguousarray(shard.vectors, dtype=NUMPY[info["dtype"]]).tobytes())
                scales.write(np.ascontiguousarray(shard.scales, dtype="<f4").tobytes())
                ids.append(pl.DataFrame(shard.ids, schema=IDS_SCHEMA))
                left.append(pl.DataFrame(shard.left_out, schema=LEFT_OUT_SCHEMA))
                reused += shard.reused
        if info["dtype"] != "i8":
            (final / SCALES).unlink()
        frame, gone = pl.concat(ids), pl.concat(left)
        workspace.write_frame(frame, final / IDS)
        workspace.write_frame(gone, final / LEFT_OUT)
        products = gone["image_id"].null_count()
        return {
            "rows": len(frame),
            "embedded": len(frame) - reused,
            "reused": reused,
            "products_left_out": products,
            "photos_failed": len(gone) - products,
        }


def _explained(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return workspace.full_disk(path)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return InputError("cannot write here", where=str(path), mend="choose a folder you may write to")
    return error
