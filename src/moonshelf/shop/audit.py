"""The image audit: every image is decoded once, hashed, and either usable or rejected with a reason.

Streaming: at most a few images are in memory; the index costs some 3 KB an image (docs/LOG.md, E10).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from moonshelf.shop.decode import PIXEL_LIMIT, ImageError, decode_sized
from moonshelf.shop.duplicates import THUMB_BYTES, near_groups, signature
from moonshelf.shop.images import IMAGE_INDEX
from moonshelf.shop.stream import Source

AUDIT_SIDE = 64  # the short side a JPEG is decoded to: twice what the hash needs
WORKERS = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
_CHUNK = 4096
DUPLICATE = "duplicate id: the first row is kept"


@dataclass(frozen=True, slots=True)
class _Found:
    """What one look at one image gave."""

    source: Source
    reason: str = ""
    size: tuple[int, int] | None = None
    sha256: str | None = None
    phash: int = 0
    thumb: bytes = b""


def inspect(source: Source, pixel_limit: int = PIXEL_LIMIT) -> _Found:
    """Decode (at reduced scale where the format can) and hash one image."""
    if source.data is None:
        return _Found(source, source.reason)
    sha = hashlib.sha256(source.data).hexdigest()
    try:
        rgb, size = decode_sized(source.data, short_side=AUDIT_SIDE, pixel_limit=pixel_limit)
    except ImageError as error:
        return _Found(source, error.reason, sha256=sha)
    phash, thumb = signature(rgb)
    return _Found(source, "", size, sha, phash, thumb)


def _in_order(sources: Iterable[Source], pixel_limit: int, workers: int) -> Iterator[_Found]:
    """``inspect`` in threads, results in the order of the sources, a bounded number under way."""
    if workers <= 1:
        yield from (inspect(source, pixel_limit) for source in sources)
        return
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[_Found]] = deque()
        try:
            for source in sources:
                under_way.append(pool.submit(inspect, source, pixel_limit))
                if len(under_way) >= 4 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def audit_images(
    sources: Iterable[Source],
    out: BinaryIO,
    thumbs: BinaryIO,
    *,
    pixel_limit: int = PIXEL_LIMIT,
    workers: int = WORKERS,
    advance: Callable[[int], None] = lambda n: None,
    seen: set[str] | None = None,
) -> tuple[pl.DataFrame, list[tuple[int, str, str]]]:
    """Audit ``sources`` and store the bytes of the usable ones that are not files in ``out``.

    Args:
        sources: images in order; ids may repeat (the first is kept).
        out: binary file, written from its current position; equal bytes are stored once.
        thumbs: binary file that takes the colour thumbnails of the usable images, in order.
        pixel_limit: largest width x height.
        workers: decoding threads.
        advance: called with the number of images done.
        seen: ids that are taken already; extended.

    Returns:
        Rows of ``IMAGE_INDEX`` (without groups: see ``with_groups``), and the refused rows as
        (row, image_id, reason).
    """
    seen = set() if seen is None else seen
    stored: dict[str, int] = {}
    refused: list[tuple[int, str, str]] = []
    chunks: list[pl.DataFrame] = []
    rows: list[tuple[object, ...]] = []
    for found in _in_order(sources, pixel_limit, workers):
        advance(1)
        source = found.source
        if not source.image_id or source.image_id in seen:
            refused.append((source.row, source.image_id, DUPLICATE if source.image_id else found.reason))
            continue
        seen.add(source.image_id)
        if found.reason:
            refused.append((source.row, source.image_id, found.reason))
        else:
            thumbs.write(found.thumb)
        offset = None
        if not found.reason and source.path is None and source.data is not None and found.sha256 is not None:
            if found.sha256 not in stored:
                stored[found.sha256] = out.tell()
                out.write(source.data)
            offset = stored[found.sha256]
        width, height = found.size or (None, None)
        size = None if source.data is None else len(source.data)
        status = "rejected" if found.reason else "ok"
        phash = None if found.reason else found.phash
        described = (source.image_id, status, found.reason or None, width, height, size, found.sha256, phash)
        rows.append((*described, None, None, offset, source.path))
        if len(rows) >= _CHUNK:
            chunks.append(pl.DataFrame(rows, schema=IMAGE_INDEX, orient="row"))
            rows = []
    chunks.append(pl.DataFrame(rows, schema=IMAGE_INDEX, orient="row"))
    return pl.concat(chunks), refused


def with_groups(index: pl.DataFrame, thumbs: Path) -> pl.DataFrame:
    """Fill ``duplicate_of`` and ``near_group`` of an audit; ``thumbs`` is the file that it wrote.

    Exact duplicates (same sha256) name the first image of those bytes; every usable image has a group.
    """
    ok = index.filter(pl.col("status") == "ok").with_row_index("n")
    if len(ok) == 0:
        return index.select(list(IMAGE_INDEX)).cast(IMAGE_INDEX)
    first = ok.select(pl.col("n").first().over("sha256"), pl.col("image_id").first().over("sha256"))
    same = first["n"].to_numpy().astype(np.int64)
    pictures = np.memmap(thumbs, dtype=np.uint8, mode="r", shape=(len(ok), THUMB_BYTES))
    aspect = np.array([math.log(w / h) for w, h in zip(ok["width"], ok["height"], strict=True)])
    groups = near_groups(ok["phash"].to_numpy(), pictures, aspect, same)
    own = pl.Series(np.arange(len(ok)) == same)
    known = ok.select("image_id").with_columns(
        pl.select(pl.when(own).then(None).otherwise(first["image_id"])).to_series().alias("duplicate_of"),
        pl.Series("near_group", groups),
    )
    joined = index.drop("duplicate_of", "near_group").join(
        known, on="image_id", how="left", maintain_order="left"
    )
    return joined.select(list(IMAGE_INDEX)).cast(IMAGE_INDEX)
