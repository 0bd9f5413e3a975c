"""Read a table file as it is: Parquet with its types, CSV and JSONL as text, with row numbers.

A file that cannot be read stops with one line; a row that cannot be read is a problem of that row.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from moonshelf.errors import InputError
from moonshelf.shop.quotes import check_quotes
from moonshelf.shop.schema import ROW, Table

SUFFIXES = (".parquet", ".csv", ".jsonl")
_WHOLE = "write the file again, whole"


@dataclass(frozen=True, slots=True)
class Problem:
    """A row (1-based, header not counted) or one value of it that could not be read."""

    row: int
    column: str
    reason: str
    value: str


@dataclass(slots=True)
class RawTable:
    """Columns as the file has them, plus ``ROW``; ``problems`` are rows that are not in the frame."""

    frame: pl.DataFrame
    rows_read: int
    problems: list[Problem] = field(default_factory=list)
    bad_values: list[Problem] = field(default_factory=list)  # the row is in the frame, this value is null
    notes: list[str] = field(default_factory=list)


def find_table(folder: Path, name: str) -> Path | None:
    """The file of a table, or None when the shop has none.

    Raises:
        InputError: two files claim to be the table, or it is not a plain file.
    """
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    if len(found) > 1:
        both = " and ".join(path.name for path in found)
        raise InputError(
            f"two files for the table {name}: {both}", where=str(folder), mend="keep one of them"
        )
    if found and not found[0].is_file():
        raise InputError(
            f"{found[0].name} is not a file", where=str(folder), mend="write the table as one file"
        )
    return found[0] if found else None


def check_names(names: list[str], path: Path) -> None:
    """Stop on two columns of one name: nobody can say which is meant.

    Raises:
        InputError: a name is there twice.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"the column {twice[0]} is there twice", where=str(path), mend="rename or remove one of them"
        )


def read_raw(path: Path, table: Table) -> RawTable:
    """Read the whole file (never the images: those are streamed, see ``stream``).

    Raises:
        InputError: the file cannot be read at all.
    """
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        check_not_empty(path)
        return _read_csv(path) if path.suffix == ".csv" else _read_jsonl(path, table)
    except OSError as error:
        raise unreadable(path, error) from error


def check_not_empty(path: Path) -> None:
    """Stop on a file of no bytes: something that wrote it has failed.

    Raises:
        InputError: it is one.
    """
    if path.stat().st_size == 0:
        raise InputError(
            "the file is empty", where=str(path), mend="write at least its columns, or remove it"
        )


def unreadable(path: Path, error: BaseException) -> InputError:
    """The line for a table file that cannot be read."""
    kind = {".parquet": "Parquet", ".csv": "CSV", ".jsonl": "JSON lines"}[path.suffix]
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError(f"the file cannot be read as {kind} ({first[:160]})", where=str(path), mend=_WHOLE)


def _read_parquet(path: Path) -> RawTable:
    try:
        with pq.ParquetFile(path) as file:
            check_names(file.schema_arrow.names, path)
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise unreadable(path, error) from error
    bad: list[Problem] = []
    columns: dict[str, pl.Series] = {}
    for name in table.column_names:
        values = table.column(name)
        if pa.types.is_map(values.type):  # a list of pairs in Arrow; JSON text from here on
            texts = [
                None if v is None else json.dumps(dict(v), ensure_ascii=False, default=str)
                for v in values.to_pylist()
            ]
            columns[name] = pl.Series(name, texts, dtype=pl.String)
            continue
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            binary = values.cast(pa.large_binary())
            columns[name], problems = _decode(name, binary, range(1, len(table) + 1))
            bad += problems
            continue
        try:
            columns[name] = pl.Series(name, pl.from_arrow(values))
        except Exception as error:  # polars has no type for it; the message names the column
            raise InputError(
                f"the column {name} has a type that cannot be read ({values.type})",
                where=str(path),
                mend="write it as text or numbers",
            ) from error
    frame = pl.DataFrame(columns) if columns else pl.DataFrame()
    rows = pl.Series(ROW, range(1, table.num_rows + 1), dtype=pl.Int64)
    return RawTable(frame.with_columns(rows), table.num_rows, bad_values=bad)


def _decode(name: str, binary: Any, rows: Any) -> tuple[pl.Series, list[Problem]]:
    """Bytes to text; a value that is not UTF-8 becomes null and a problem."""
    try:
        text = binary.cast(pa.large_string())
        return pl.Series(name, pl.from_arrow(text), dtype=pl.String), []
    except pa.ArrowInvalid:
        pass
    values: list[str | None] = []
    problems = []
    for row, value in zip(rows, binary.to_pylist(), strict=True):
        try:
            values.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            values.append(None)
            problems.append(Problem(row, name, "text is not UTF-8", value.decode(errors="replace")))
    return pl.Series(name, values, dtype=pl.String), problems


def csv_header(path: Path) -> list[str]:
    """The column names of a CSV file.

    Raises:
        InputError: not UTF-8, no header, or a name twice.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        try:
            names = next((row for row in csv.reader(handle) if row), [])
        except csv.Error:
            names = []
    if any("\ufffd" in name or "\0" in name for name in names):
        names = []
    if not names:
        raise InputError(
            "the file has no CSV header in UTF-8",
            where=str(path),
            mend="save it as CSV UTF-8 with a header line",
        )
    check_names(names, path)
    return names


def _read_csv(path: Path) -> RawTable:
    names = csv_header(path)
    check_quotes(path)
    ragged: list[Problem] = []

    def skip(row: Any) -> str:
        reason = f"{row.actual_columns} fields where the header has {row.expected_columns}"
        ragged.append(Problem(row.number - 1, "", reason, str(row.text)))
        return "skip"

    try:
        table = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=64 << 20),
            parse_options=pa_csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.large_binary() for name in names},
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowException as error:
        raise unreadable(path, error) from error
    total = table.num_rows + len(ragged)
    gone = {problem.row for problem in ragged}
    rows = [row for row in range(1, total + 1) if row not in gone]
    columns: dict[str, pl.Series] = {ROW: pl.Series(ROW, rows, dtype=pl.Int64)}
    bad: list[Problem] = []
    for name in table.column_names:
        text, problems = _decode(name, table.column(name), rows)
        columns[name] = pl.select(pl.when(text != "").then(text).otherwise(None)).to_series().alias(name)
        bad += problems
    frame = pl.DataFrame(columns)
    odd = frame[ROW].is_in([problem.row for problem in bad])
    blank = frame.select(pl.all_horizontal(pl.exclude(ROW).is_null())).to_series() & ~odd
    empty = int(blank.sum())
    notes = [f"{path.name}: {empty} lines without any value are no rows"] if empty else []
    return RawTable(frame.filter(~blank), total - empty, ragged, bad, notes)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _read_jsonl(path: Path, table: Table) -> RawTable:
    kinds = {column.name: column.kind for column in table.columns}
    records: list[dict[str, str | None]] = []
    rows: list[int] = []
    problems: list[Problem] = []
    bad: list[Problem] = []
    names: dict[str, None] = {}
    number = 0
    with path.open("rb") as handle:
        for line in handle:
            if not line.strip():
                continue
            number += 1
            try:
                record = json.loads(
                    line.decode("utf-8-sig" if number == 1 else "utf-8"), object_pairs_hook=_pairs
                )
                if not isinstance(record, dict):
                    raise ValueError("not a JSON object")
            except (ValueError, RecursionError) as error:
                reason = f"the line is not a JSON object ({str(error)[:80]})"
                problems.append(Problem(number, "", reason, line[:200].decode(errors="replace")))
                continue
            out: dict[str, str | None] = {}
            for name, value in record.items():
                text, reason = _as_text(value, kinds.get(name))
                out[name] = text
                if reason:
                    bad.append(Problem(number, name, reason, repr(value)[:200]))
            names.update(dict.fromkeys(out))
            records.append(out)
            rows.append(number)
    columns = {ROW: pl.Series(ROW, rows, dtype=pl.Int64)}
    for name in names:
        columns[name] = pl.Series(name, [record.get(name) for record in records], dtype=pl.String)
    return RawTable(pl.DataFrame(columns), number, problems, bad)


def _as_text(value: Any, kind: str | None) -> tuple[str | None, str]:
    """A JSON value as the text that ``columns.convert`` reads, or a reason why it cannot be."""
    text: str | None
    if isinstance(value, (list, dict)):
        if kind is not None and kind not in ("list", "map"):
            return None, f"wrong type: a JSON {'list' if isinstance(value, list) else 'object'}"
        text = json.dumps(value, ensure_ascii=False)
    elif value is None or isinstance(value, str):
        text = value
    elif isinstance(value, bool) and kind not in (None, "flag"):
        return None, "wrong type: true or false"
    else:
        text = json.dumps(value)
    try:
        return (None if text is None else text.encode().decode()), ""
    except UnicodeEncodeError:
        return None, "text is not valid Unicode"
