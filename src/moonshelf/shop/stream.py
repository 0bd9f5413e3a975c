"""Images one after the other, from the ``images`` table or from files, never many at a time."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from moonshelf.shop.fetch import is_address, place
from moonshelf.shop.quotes import check_quotes
from moonshelf.shop.raw import check_names, check_not_empty, csv_header, unreadable
from moonshelf.shop.schema import SCHEMAS
from moonshelf.shop.tables import check_columns

BATCH = 64
MAX_FILE = 512 << 20
_URL = re.compile(r"^\s*([A-Za-z][A-Za-z0-9+.-]+://|data:)")
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]|^\\\\")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that could not be read at all."""

    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """One image on its way into the audit: bytes, or why there are none; ``path`` when it stays a file."""

    image_id: str
    data: bytes | None
    reason: str = ""
    row: int = 0
    path: str | None = None


def image_rows(path: Path) -> Iterator[Source]:
    """Stream the rows of an ``images`` table; bytes are base64 text in CSV and JSONL.

    Memory: a batch of 64 images and a few Parquet pages, whatever the size of the file or its row groups.
    A page is the least that can be read: writers put up to 1,024 values into one, so large photos want
    small pages (``write_batch_size`` of PyArrow).

    Raises:
        InputError: unreadable file, a missing column, a column twice.
    """
    batches = {".parquet": _parquet_rows, ".csv": _csv_rows, ".jsonl": _jsonl_rows}[path.suffix]
    try:
        if path.suffix != ".parquet":
            check_not_empty(path)
        for row, image_id, data in batches(path):
            if isinstance(data, Unreadable):
                yield Source("", None, data.reason, row)
            else:
                yield _source(row, image_id, data)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def count_rows(path: Path) -> int | None:
    """Rows of a Parquet file from its footer; None for other files (not worth reading twice)."""
    return int(pq.read_metadata(path).num_rows) if path.suffix == ".parquet" else None


def _source(row: int, image_id: Any, data: Any) -> Source:
    if isinstance(image_id, bool) or not isinstance(image_id, (str, int)) or not str(image_id).strip():
        return Source(
            "", None, "missing value: image_id" if image_id in (None, "") else "wrong type: image_id", row
        )
    name = str(image_id)
    try:
        name.encode()
        data = base64.b64decode(data, validate=True) if isinstance(data, str) else data
    except UnicodeEncodeError:
        return Source("", None, "image_id is not valid Unicode", row)
    except (binascii.Error, ValueError):
        return Source(name, None, "bytes are not base64", row)
    if data is not None and not isinstance(data, bytes):
        return Source(name, None, "wrong type: bytes", row)
    return Source(name, data, "" if data else "missing", row)


Row = tuple[int, Any, Any]
"""Number in the file from 1, image id, bytes."""


def _parquet_rows(path: Path) -> Iterator[Row]:
    # A buffered stream reads page by page: real tables come as one row group of any size.
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
        names = file.schema_arrow.names
        check_names(names, path)
        check_columns(names, SCHEMAS["images"], path)
        row = 0
        for batch in file.iter_batches(batch_size=BATCH, columns=["image_id", "bytes"], use_threads=False):
            ids, data = batch.column("image_id"), batch.column("bytes")
            for i in range(batch.num_rows):
                row += 1
                try:
                    yield row, ids[i].as_py(), data[i].as_py()
                except UnicodeDecodeError:
                    yield row, None, Unreadable("not valid UTF-8")


def _csv_rows(path: Path) -> Iterator[Row]:
    names = csv_header(path)
    check_columns(names, SCHEMAS["images"], path)
    check_quotes(path)
    ragged: dict[int, str] = {}

    def skip(bad: Any) -> str:
        reason = f"{bad.actual_columns} fields where the header has {bad.expected_columns}"
        ragged[len(ragged) if bad.number is None else bad.number - 1] = reason
        return "skip"

    reader = pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=64 << 20),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pa_csv.ConvertOptions(
            include_columns=["image_id", "bytes"],
            column_types={"image_id": pa.binary(), "bytes": pa.large_binary()},
            check_utf8=False,
        ),
    )
    row = 0
    with reader:
        for batch in reader:
            for image_id, data in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                row += 1
                while row in ragged:
                    yield row, None, Unreadable(ragged.pop(row))
                    row += 1
                try:
                    yield (
                        row,
                        image_id.decode() if image_id else None,
                        (data or b"").decode("ascii", "replace"),
                    )
                except UnicodeDecodeError:
                    yield row, None, Unreadable("image_id is not valid UTF-8")
    for row, reason in sorted(ragged.items()):
        yield row, None, Unreadable(reason)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    seen: set[str] = set()
    row = 0
    with path.open("rb") as handle:
        for line in handle:
            if not line.strip():
                continue
            row += 1
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                yield row, None, Unreadable("not a JSON object")
                continue
            if not seen >= {"image_id", "bytes"}:
                seen |= set(record)
                check_columns(sorted(seen), SCHEMAS["images"], path)
            yield row, record.get("image_id"), record.get("bytes")


def image_files(
    root: Path, ids: Iterable[str], fetched: Path | None = None, failed: Mapping[str, str] | None = None
) -> Iterator[Source]:
    """Stream images that are paths relative to the shop folder ``root``, or addresses that were fetched.

    A path that leaves the folder (``..``, absolute, a symlink outwards) is refused. An address is looked up in the
    download folder ``fetched``; ``failed`` says why it is not there.
    """
    home = root.resolve()
    for image_id in ids:
        if fetched is not None and is_address(image_id):
            held, why = place(fetched, image_id), (failed or {}).get(image_id, "missing")
            yield Source(image_id, held.read_bytes() if held.is_file() else None, why)
            continue
        reason, path = locate(home, image_id)
        if path is None:
            yield Source(image_id, None, reason)
            continue
        try:
            if path.stat().st_size > MAX_FILE:
                yield Source(image_id, None, f"larger than {MAX_FILE >> 20} MiB")
                continue
            yield Source(image_id, path.read_bytes(), "", path=str(path))
        except OSError:
            yield Source(image_id, None, "missing")


def locate(home: Path, image_id: str) -> tuple[str, Path | None]:
    """Where the file of ``image_id`` is: ("", path), or (reason, None). ``home`` must be resolved."""
    if _URL.match(image_id):
        return "a URL: download it into the shop folder, or fetch http(s) addresses with --fetch", None
    if _DRIVE.match(image_id) or image_id.startswith("/"):
        return "path leaves the shop folder: write it relative to the folder", None
    try:
        path = (home / image_id).resolve()
        if not path.is_relative_to(home):
            return "path leaves the shop folder: write it relative to the folder", None
        return ("", path) if path.is_file() else ("missing", None)
    except (OSError, ValueError, RuntimeError):  # name too long, NUL inside, a loop of links
        return "missing", None
