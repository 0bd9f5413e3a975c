"""Read one table of a shop folder into its normal form, with every refused row and value on record.

A missing required column, an unreadable file, two files for one table or two columns of one name
stop with one line. Everything else is the trouble of a row: it goes to ``rejects`` with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from moonshelf.errors import InputError
from moonshelf.shop.columns import convert
from moonshelf.shop.raw import Problem, RawTable, find_table, read_raw
from moonshelf.shop.schema import DTYPES, ROW, SCHEMAS, Column, Table

__all__ = ["REJECTS", "SCHEMAS", "TableRead", "read_table", "reject_rows"]

REJECTS = pl.Schema(
    {
        "table": pl.String(),
        "row": pl.Int64(),
        "column": pl.String(),
        "reason": pl.String(),
        "value": pl.String(),
        "kept": pl.Boolean(),
    }
)
"""One refused row or value; ``row`` counts data rows from 1; ``kept``: the row stayed, the value went."""

LONG_TEXT = 10_000  # characters; longer text is kept whole but worth a word: encoders read its beginning


@dataclass(frozen=True, slots=True)
class TableRead:
    """A table in its normal form.

    Args:
        frame: the kept rows: ``ROW``, every column of the contract in its type, then other columns.
        rejects: schema ``REJECTS``.
        notes: lines for the check report.
        path: the file, or None when the shop has no such table (then ``frame`` is empty).
        rows_read: data rows in the file.
        given: columns of the contract that the file has.
    """

    frame: pl.DataFrame
    rejects: pl.DataFrame
    notes: list[str]
    path: Path | None
    rows_read: int
    given: tuple[str, ...]


def empty_rejects() -> pl.DataFrame:
    """A reject frame without rows."""
    return pl.DataFrame(schema=REJECTS)


def reject_rows(
    table: str,
    frame: pl.DataFrame,
    column: str,
    reason: str | pl.Expr,
    *,
    value: str = "",
    kept: bool = False,
) -> pl.DataFrame:
    """Make reject lines of the rows of ``frame`` (which has ``ROW``); ``value`` names the column to quote."""
    quoted = pl.col(value).cast(pl.String).str.slice(0, 200) if value else pl.lit(None, pl.String)
    return frame.select(
        pl.lit(table).alias("table"),
        pl.col(ROW).alias("row"),
        pl.lit(column).alias("column"),
        (pl.lit(reason) if isinstance(reason, str) else reason).alias("reason"),
        quoted.alias("value"),
        pl.lit(kept).alias("kept"),
    ).cast(REJECTS)


def _from_problems(table: str, problems: Iterable[Problem], kept: bool) -> pl.DataFrame:
    rows = [(table, p.row, p.column, p.reason, p.value[:200], kept) for p in problems]
    return pl.DataFrame(rows, schema=REJECTS, orient="row")


def read_table(folder: Path, name: str) -> TableRead:
    """Read the table ``name`` of the shop in ``folder``; absent tables give an empty frame.

    Raises:
        InputError: the file cannot be used at all (see the module).
        ValueError: ``name`` is ``images`` (streamed, see ``stream``) or no table of the contract.
    """
    if name == "images" or name not in SCHEMAS:
        raise ValueError(f"{name} is not a table that is read whole")
    schema = SCHEMAS[name]
    path = find_table(folder, name)
    if path is None:
        return TableRead(_normal(pl.DataFrame({ROW: []}), schema, ()), empty_rejects(), [], None, 0, ())
    raw = read_raw(path, schema)
    check_columns(raw.frame.columns, schema, path)
    return _clean(raw, schema, path)


def check_columns(names: list[str], schema: Table, path: Path) -> None:
    """Stop when a required column, or all of a one-of group, is missing.

    Raises:
        InputError: with the file, the column and what to do.
    """
    there = [name for name in names if name != ROW]
    found = (
        f"it has {', '.join(there[:12])}{', ...' if len(there) > 12 else ''}"
        if there
        else "it has no columns"
    )
    hint = " (fields of a CSV are separated by commas)" if path.suffix == ".csv" and len(there) == 1 else ""
    for column in schema.columns:
        if column.required and column.name not in there:
            mend = f"add the column {column.name}; {found}{hint}"
            raise InputError(f"{path.name} has no column {column.name}", where=str(path), mend=mend)
    if schema.one_of and not set(schema.one_of) & set(there):
        both = " or ".join(schema.one_of)
        raise InputError(
            f"{path.name} has no column {both}", where=str(path), mend=f"add one of them; {found}{hint}"
        )


def _clean(raw: RawTable, schema: Table, path: Path) -> TableRead:
    name, frame = schema.name, raw.frame
    notes = list(raw.notes)
    rejects = [_from_problems(name, raw.problems, False)]
    doomed = pl.repeat(False, len(frame), dtype=pl.Boolean, eager=True)
    given = tuple(c.name for c in schema.columns if c.name in frame.columns)
    by_column: dict[str, list[Problem]] = {}
    for problem in raw.bad_values:
        by_column.setdefault(problem.column, []).append(problem)
    for column in schema.columns:
        early = by_column.pop(column.name, [])
        if column.name not in given:
            continue
        before = frame[column.name]
        read = convert(before, column)
        notes += [f"{name}.{note}" for note in read.notes]
        drop = column.required or column.strict
        rejects.append(_from_problems(name, early, not drop))
        known = frame[ROW].is_in([p.row for p in early])
        reasons = read.reasons
        if column.required:
            missing = pl.when(read.values.is_null()).then(pl.lit("missing value")).otherwise(None)
            reasons = pl.select(pl.coalesce(reasons, missing)).to_series()
        refused = reasons.is_not_null() & ~known
        if refused.any():
            lines = pl.DataFrame({ROW: frame[ROW], "reason": reasons, "value": _quote(before)}).filter(
                refused
            )
            rejects.append(
                reject_rows(name, lines, column.name, pl.col("reason"), value="value", kept=not drop)
            )
        if drop:
            doomed = doomed | reasons.is_not_null() | known
        frame = frame.with_columns(read.values.alias(column.name))
        if column.kind in ("text", "category"):
            long = int((read.values.str.len_chars() > LONG_TEXT).sum() or 0)
            if long:
                notes.append(
                    f"{name}.{column.name}: {long} longer than {LONG_TEXT:,} characters; kept whole, "
                    "encoders read the beginning"
                )
    for leftover in by_column.values():  # values of columns beside the contract
        rejects.append(_from_problems(name, leftover, True))
    frame = frame.filter(~doomed)
    frame, more = _row_rules(frame, schema, given)
    rejects += more
    frame = _normal(frame, schema, given)
    notes += _extras(frame, schema)
    if path.suffix != ".parquet":
        frame = _infer_extras(frame, schema)
    if raw.rows_read == 0:
        notes.append(f"{name}: {path.name} has no rows")
    return TableRead(frame, pl.concat(rejects), notes, path, raw.rows_read, given)


def _quote(values: pl.Series) -> pl.Series:
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        return pl.Series([None if v is None else str(v)[:200] for v in values.to_list()], dtype=pl.String)
    return values.cast(pl.String, strict=False).str.slice(0, 200)


def _row_rules(
    frame: pl.DataFrame, schema: Table, given: tuple[str, ...]
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Rules on more than one value: one-of, unique key, clicks <= impressions, split given or not."""
    rejects = []

    def drop(bad: pl.Series, column: str, reason: str, value: str = "") -> None:
        nonlocal frame
        if bad.any():
            rejects.append(reject_rows(schema.name, frame.filter(bad), column, reason, value=value))
            frame = frame.filter(~bad)

    if schema.one_of:
        has = [frame[name].is_not_null() for name in schema.one_of if name in given]
        none = ~has[0] if len(has) == 1 else ~(has[0] | has[1])
        drop(none, " or ".join(schema.one_of), "missing value: neither is there")
    if schema.key is not None:
        drop(
            ~frame[schema.key].is_first_distinct(),
            schema.key,
            "duplicate id: the first row is kept",
            schema.key,
        )
    if schema.name == "creatives":
        drop(frame["clicks"] > frame["impressions"], "clicks", "more clicks than impressions", "clicks")
    if "split" in given and frame["split"].is_not_null().any():
        drop(frame["split"].is_null(), "split", "missing value: other rows have a split")
    return frame, rejects


def _normal(frame: pl.DataFrame, schema: Table, given: tuple[str, ...]) -> pl.DataFrame:
    """Every column of the contract, in its order and type, then the others."""

    def fill(column: Column) -> pl.Expr:
        dtype = DTYPES[column.kind]
        if column.name in given:
            return pl.col(column.name).cast(dtype)
        return pl.lit(column.default, dtype).alias(column.name)

    names = {column.name for column in schema.columns}
    others = [name for name in frame.columns if name not in names and name != ROW]
    return frame.select(pl.col(ROW).cast(pl.Int64), *[fill(column) for column in schema.columns], *others)


def _extras(frame: pl.DataFrame, schema: Table) -> list[str]:
    names = {column.name for column in schema.columns} | {ROW}
    others = [name for name in frame.columns if name not in names]
    if not others or schema.open_ended:
        return []
    listed = ", ".join(others[:8]) + (", ..." if len(others) > 8 else "")
    return [f"{schema.name}: {len(others)} columns beside the contract are kept and not used: {listed}"]


def _infer_extras(frame: pl.DataFrame, schema: Table) -> pl.DataFrame:
    """Columns beside the contract come as text from CSV and JSONL; those of numbers become numbers.

    ``007`` stays text: only whole numbers that print back the same count as whole numbers.
    """
    names = {column.name for column in schema.columns} | {ROW}
    for name in [n for n in frame.columns if n not in names and frame[n].dtype == pl.String]:
        text = frame[name]
        if text.null_count() == len(text):
            continue
        whole = text.cast(pl.Int64, strict=False)
        if (whole.cast(pl.String) == text).fill_null(False).sum() == len(text) - text.null_count():
            frame = frame.with_columns(whole.alias(name))
            continue
        plain = text.str.contains(r"^\s*[+-]?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?\s*$")
        number = text.str.strip_chars().cast(pl.Float64, strict=False)
        if (plain & number.is_not_null()).fill_null(False).sum() == len(text) - text.null_count():
            frame = frame.with_columns(number.alias(name))
    return frame
