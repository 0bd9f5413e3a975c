"""Raw shop folder -> prepared shop folder: read, audit, join, split, write; once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from moonshelf.errors import InputError
from moonshelf.progress import Progress
from moonshelf.shop.audit import DUPLICATE, audit_images, with_groups
from moonshelf.shop.check import build_check
from moonshelf.shop.decode import PIXEL_LIMIT
from moonshelf.shop.fetch import Reach, fetch_photos, is_address
from moonshelf.shop.identity import READER_VERSION, data_digest
from moonshelf.shop.raw import SUFFIXES, find_table
from moonshelf.shop.references import known_products, usable_image, usable_images
from moonshelf.shop.schema import ROW, SCHEMAS, SHOWN_IMAGE
from moonshelf.shop.splits import (
    assign_splits,
    count_leaks,
    creative_keys,
    drop_leaks,
    plain_text,
    query_keys,
)
from moonshelf.shop.stream import count_rows, image_files, image_rows
from moonshelf.shop.tables import REJECTS, TableRead, empty_rejects, read_table, reject_rows
from moonshelf.workspace import MANIFEST, write_frame, write_json, write_manifest

STAGE = "shop"
TABLES = tuple(name for name in SCHEMAS if name != "images")


@dataclass(slots=True)
class Reading:
    """What has been read so far; ``frames`` are cleaned step by step."""

    source: Path
    tables: dict[str, TableRead]
    frames: dict[str, pl.DataFrame]
    index: pl.DataFrame
    rejects: list[pl.DataFrame] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def clean(self, name: str, result: tuple[pl.DataFrame, pl.DataFrame]) -> None:
        """Take over a cleaning step of a table."""
        self.frames[name], lines = result
        self.rejects.append(lines)


def ingest(
    source: Path,
    out: Path,
    *,
    pixel_limit: int = PIXEL_LIMIT,
    mark: str = "",
    fetch: Reach | None = None,
    downloads: Path | None = None,
) -> None:
    """Read the shop in ``source`` and write its prepared form into the empty folder ``out``.

    Args:
        source: raw shop folder.
        out: where to write (made by the caller, who renames it when all is well).
        pixel_limit: largest width x height of an image.
        mark: of the input files (``files_mark``), kept in the manifest.
        fetch: fetch photos that are addresses, from public machines or from any; None refuses them.
        downloads: where fetched photos are kept, needed with ``fetch``.

    Raises:
        InputError: a table that cannot be used at all, or no table.
    """
    start = time.monotonic()
    tables = {name: read_table(source, name) for name in TABLES}
    image_table = find_table(source, "images")
    if image_table is None and all(read.path is None for read in tables.values()):
        raise InputError(
            "no table found",
            where=str(source),
            mend="a shop folder holds at least products.parquet, .csv or .jsonl",
        )
    frames = {name: read.frame for name, read in tables.items() if read.path is not None}
    reading = Reading(source, tables, frames, pl.DataFrame())
    reading.notes += [note for read in tables.values() for note in read.notes]
    reading.notes += _other_files(source)
    _audit(reading, image_table, out, pixel_limit, fetch, downloads)
    _join(reading)
    _split(reading)
    _write(reading, out, image_table)
    data = data_digest(reading.frames, reading.index)
    check = build_check(reading, data=data)
    write_json(out / "check.json", check)
    write_manifest(
        out,
        stage=STAGE,
        inputs={"source": str(source.resolve()), "files": mark, "data": data, "name": source.resolve().name},
        config={"pixel_limit": pixel_limit, "reader": READER_VERSION},
        seconds=time.monotonic() - start,
        metrics={
            "images": check["images"]["ok"],
            "unfetched": reading.facts.get("unfetched", 0),
            **{f"{k}": len(v) for k, v in reading.frames.items()},
        },
    )


def _other_files(source: Path) -> list[str]:
    known = set(SCHEMAS)
    data = (*SUFFIXES, ".json", ".tsv", ".csv.gz", ".xlsx", ".feather", ".arrow")
    names = sorted(p.name for p in source.iterdir() if p.is_file() and p.name.lower().endswith(data))
    others = [
        name
        for name in names
        if not (Path(name).stem in known and Path(name).suffix in SUFFIXES) and name != MANIFEST
    ]
    return [f"{name} is no table of a shop folder: not read" for name in others]


def _references(frames: dict[str, pl.DataFrame]) -> list[str]:
    """Every image id that a table names, once, in order."""
    parts = []
    if "products" in frames:
        parts.append(frames["products"]["image_ids"].explode())
    for name, column in (("searches", "query_image_id"), ("creatives", "image_id")):
        if name in frames:
            parts.append(frames[name][column])
    if not parts:
        return []
    ids = pl.concat([part.cast(pl.String).alias("id") for part in parts]).drop_nulls()
    return [str(i) for i in ids.unique(maintain_order=True).to_list()]


def _audit(
    reading: Reading,
    table: Path | None,
    out: Path,
    pixel_limit: int,
    fetch: Reach | None,
    downloads: Path | None,
) -> None:
    named = _references(reading.frames)
    rows = count_rows_or_none(table)
    seen: set[str] = set()
    chunks: list[pl.DataFrame] = []
    with (out / "images.bin").open("wb") as store, (out / "thumbs.tmp").open("wb") as thumbs:
        if table is not None:
            with Progress(rows, "images: audit", "images") as bar:
                sources = image_rows(table)
                chunk, refused = audit_images(
                    sources, store, thumbs, pixel_limit=pixel_limit, advance=bar.advance, seen=seen
                )
            chunks.append(chunk)
            lines = [
                ("images", row, "image_id" if not i else "bytes", why, i[:200], False)
                for row, i, why in refused
            ]
            reading.rejects.append(pl.DataFrame(lines, schema=REJECTS, orient="row"))
            reading.facts["image_rows"] = len(chunk) + sum(
                1 for _, i, why in refused if not i or why == DUPLICATE
            )
        files = [i for i in named if i not in seen]
        failed: dict[str, str] = {}
        if fetch is not None and downloads is not None:
            failures = fetch_photos([i for i in files if is_address(i)], downloads, reach=fetch)
            failed = {f.address: f.reason for f in failures}
            reading.facts["unfetched"] = len(failed)
        if files or not chunks:
            with Progress(len(files), "images: audit of files", "images") as bar:
                sources = image_files(reading.source, files, downloads if fetch else None, failed)
                chunk, _ = audit_images(
                    sources, store, thumbs, pixel_limit=pixel_limit, advance=bar.advance, seen=seen
                )
            chunks.append(chunk)
    reading.index = with_groups(pl.concat(chunks), out / "thumbs.tmp")
    (out / "thumbs.tmp").unlink()


def count_rows_or_none(table: Path | None) -> int | None:
    """Rows of the images table when that is cheap to know; a broken file is reported by the reading."""
    try:
        return None if table is None else count_rows(table)
    except (OSError, ValueError):
        return None


def _join(reading: Reading) -> None:
    frames, index = reading.frames, reading.index
    if "products" in frames:
        for name in ("searches", "events", "impressions", "relevance", "creatives"):
            if name in frames:
                reading.clean(name, known_products(name, frames[name], frames["products"]))
        reading.clean("products", usable_images(frames["products"], index))
    if "searches" in frames:
        reading.clean(
            "searches", usable_image("searches", frames["searches"], index, "query_image_id", "query_text")
        )
    if "creatives" in frames:
        # which picture stood beside a text tells pairs of texts alone, even where its bytes are not here
        frames["creatives"] = frames["creatives"].with_columns(pl.col("image_id").alias(SHOWN_IMAGE))
        reading.clean("creatives", usable_image("creatives", frames["creatives"], index, "image_id", "text"))


def _split(reading: Reading) -> None:
    frames = reading.frames
    groups: dict[str, int] = dict(
        reading.index.filter(status="ok").select("image_id", "near_group").iter_rows()
    )
    for name, key in _keys(frames, groups):
        assigned = assign_splits(frames[name], key)
        frames[name] = assigned.frame
        reading.notes += [f"{name}: {note}" for note in assigned.notes]
        reading.facts.setdefault("split", {})[name] = assigned.how
    if "searches" in frames:
        reading.facts["leaks"] = count_leaks(frames["searches"], groups)
        kept, dropped = drop_leaks(frames["searches"], groups)
        lines = reject_rows("searches", dropped, "split", pl.col("reason"), value="query_id")
        reading.clean("searches", (kept, lines))


def _keys(frames: dict[str, pl.DataFrame], groups: dict[str, int]) -> Iterator[tuple[str, pl.Series]]:
    """What must not straddle a split, for each table that has one."""
    if "searches" in frames:
        yield "searches", query_keys(frames["searches"], groups)
    if "relevance" in frames:
        yield "relevance", pl.Series("key", [plain_text(t) for t in frames["relevance"]["query_text"]])
    if "creatives" in frames:
        yield "creatives", creative_keys(frames["creatives"], frames.get("products"))


def _write(reading: Reading, out: Path, image_table: Path | None) -> None:
    for name, frame in reading.frames.items():
        write_frame(frame.drop(ROW), out / f"{name}.parquet")
    write_frame(reading.index, out / "images.parquet")
    lines = [read.rejects for read in reading.tables.values()] + reading.rejects
    all_lines = pl.concat([empty_rejects(), *lines]).sort("table", "row", maintain_order=True)
    reading.rejects = [all_lines]
    write_frame(all_lines, out / "rejects.parquet")
    reading.facts["image_file"] = image_table.name if image_table is not None else None
