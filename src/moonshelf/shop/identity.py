"""When two shops are the same: by their files (quick, to know what was read before) and by what they hold."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from moonshelf.shop.decode import PIXEL_LIMIT
from moonshelf.shop.fetch import Reach
from moonshelf.shop.raw import SUFFIXES
from moonshelf.shop.schema import ROW
from moonshelf.workspace import MANIFEST, digest

READER_VERSION = 6  # raise it when reading changes what a prepared folder holds
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm")
_ROWS = 100_000


def data_digest(frames: Mapping[str, pl.DataFrame], index: pl.DataFrame) -> str:
    """16 hex digits of what a shop holds after reading: its cleaned tables and the bytes of its images.

    The same data in another place has the same digest, so trained encoders, shelves and results still belong to it.

    Args:
        frames: cleaned tables by name.
        index: the image index; its hashes stand for the images.
    """
    state = hashlib.sha256()
    for name, frame in [*sorted(frames.items()), ("images", index.select("image_id", "status", "sha256"))]:
        state.update(f"{name} {len(frame)} {frame.schema}\n".encode())
        for rows in frame.drop(ROW, strict=False).iter_slices(_ROWS):
            # as text: the bytes of a table in memory depend on how many threads had cut it into pieces
            out = io.BytesIO()
            rows.write_ndjson(out)
            state.update(out.getbuffer())
    return state.hexdigest()[:16]


def files_mark(source: Path, pixel_limit: int = PIXEL_LIMIT, fetch: Reach | None = None) -> str:
    """16 hex digits of the names, sizes and times of the input files, the pixel limit and the reader version.

    Input files are the top-level tables and, unless there is a table of images, the files anywhere below; hidden
    folders and artefact folders (those with a manifest) are no input. Cost: one ``stat`` a file, nothing is read.
    """
    photos = not any((source / f"images{suffix}").exists() for suffix in SUFFIXES)
    files: list[tuple[str, int, int]] = []
    for top, folders, names in os.walk(source):
        if top != str(source) and MANIFEST in names:
            folders[:] = []
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if top != str(source) and not photos:
            folders[:] = []
            continue
        wanted = SUFFIXES + (_IMAGE_SUFFIXES if photos else ())
        for name in sorted(names):
            path = Path(top, name)
            if (top != str(source) or name.lower().endswith(wanted)) and path.is_file():
                stat = path.stat()
                files.append((str(path.relative_to(source)), stat.st_size, stat.st_mtime_ns))
    return digest(
        [READER_VERSION, str(source.resolve()), pixel_limit, files, *(["fetched"] if fetch else [])]
    )
