"""Turn one raw column into its contract type, with a reason for every value that cannot be.

``convert`` never raises for a value: a bad one becomes null and gets a reason. What happens to its
row (rejected, or kept without the value) is decided in ``tables``.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from moonshelf.shop.schema import DTYPES, TIME, Column

_ISO = re.compile(
    r"\s*(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|z|UTC|[+-]\d{2}(?::?\d{2})?)?\s*"
)


@dataclass(frozen=True, slots=True)
class Converted:
    """A column of its contract type, why values were refused (null = fine), and notes for the report."""

    values: pl.Series
    reasons: pl.Series
    notes: tuple[str, ...] = ()


def convert(raw: pl.Series, column: Column) -> Converted:
    """Read ``raw`` (any dtype) as ``column.kind``.

    Args:
        raw: values as the file gave them; text when the file was CSV or JSONL.
        column: the contract of the column.

    Returns:
        The values as ``DTYPES[column.kind]``, one reason or null for each row, and notes.
    """
    if raw.dtype == pl.Null:
        return Converted(_nulls(raw, DTYPES[column.kind]), _nulls(raw, pl.String()))
    if isinstance(raw.dtype, (pl.Categorical, pl.Enum)):
        raw = raw.cast(pl.String)
    result = _READERS[column.kind](raw.alias(column.name))
    if column.low is not None or column.high is not None:
        result = _limit(result, column)
    if column.choices:
        result = _choose(result, column)
    if column.default is not None:
        filled = result.values.fill_null(column.default)
        result = Converted(filled, result.reasons, result.notes)
    return result


def _nulls(like: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(like.name, [None] * len(like), dtype=dtype)


def _flag(bad: pl.Series, reason: str) -> pl.Series:
    """``reason`` where ``bad`` is true, null elsewhere."""
    return pl.select(
        pl.when(bad.fill_null(False)).then(pl.lit(reason)).otherwise(None).cast(pl.String)
    ).to_series()


def _first(a: pl.Series, b: pl.Series) -> pl.Series:
    return pl.select(pl.coalesce(a, b)).to_series()


def _all_wrong(raw: pl.Series, dtype: pl.DataType, wanted: str) -> Converted:
    reason = f"wrong type: a column of {raw.dtype} where {wanted} is expected"
    return Converted(_nulls(raw, dtype), _flag(raw.is_not_null(), reason))


def _text(raw: pl.Series) -> Converted:
    notes: tuple[str, ...] = ()
    if raw.dtype.is_float():
        # a table library turns whole numbers with gaps into floats; 15970.0 is the id 15970
        whole = raw.is_nan() | (raw == raw.round(0))
        if not whole.fill_null(True).all():
            return _all_wrong(raw, pl.String(), "text")
        raw = raw.fill_nan(None).cast(pl.Int64, strict=False)
    if raw.dtype.is_integer():
        notes = (f"{raw.name}: numbers were read as text",)
        raw = raw.cast(pl.String)
    if raw.dtype != pl.String:
        return _all_wrong(raw, pl.String(), "text")
    values = pl.select(pl.when(raw.str.strip_chars() != "").then(raw).otherwise(None)).to_series()
    return Converted(values.alias(raw.name), _nulls(raw, pl.String()), notes)


def _trimmed(raw: pl.Series) -> Converted:
    result = _text(raw)
    return Converted(result.values.str.strip_chars(), result.reasons, result.notes)


def _category(raw: pl.Series) -> Converted:
    """``"A>B > C "`` -> ``"A > B > C"``."""
    result = _trimmed(raw)
    values = result.values.str.replace_all(r"\s*>\s*", " > ").str.strip_chars(" >")
    values = pl.select(pl.when(values != "").then(values).otherwise(None)).to_series().alias(raw.name)
    return Converted(values, result.reasons, result.notes)


def _float(raw: pl.Series) -> Converted:
    if raw.dtype == pl.String:
        text = raw.str.strip_chars()
        text = pl.select(pl.when(text != "").then(text).otherwise(None)).to_series()
        values = text.str.to_lowercase().cast(pl.Float64, strict=False)
        reasons = _flag(text.is_not_null() & values.is_null(), "not a number")
    elif raw.dtype.is_numeric():
        values, reasons = raw.cast(pl.Float64, strict=False), _nulls(raw, pl.String())
    else:
        return _all_wrong(raw, pl.Float64(), "a number")
    nan = int(values.is_nan().sum() or 0)
    notes = (f"{raw.name}: {nan} NaN taken as missing",) if nan else ()
    values = values.fill_nan(None)
    reasons = _first(reasons, _flag(values.is_infinite(), "not a finite number"))
    return Converted(_blank(values, reasons).alias(raw.name), reasons, notes)


def _int(raw: pl.Series) -> Converted:
    if raw.dtype.is_integer():
        values = raw.cast(pl.Int64, strict=False)
        return Converted(values, _flag(raw.is_not_null() & values.is_null(), "number too large"))
    read = _float(raw)
    bad = (read.values != read.values.round(0)) | (read.values.abs() >= 2.0**53)
    reasons = _first(read.reasons, _flag(bad, "not a whole number"))
    return Converted(_blank(read.values, reasons).cast(pl.Int64, strict=False), reasons, read.notes)


def _zero_one(raw: pl.Series) -> Converted:
    if raw.dtype == pl.Boolean:
        raw = raw.cast(pl.Int8)
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars().str.to_lowercase().replace({"true": "1", "false": "0"})
    read = _float(raw)
    reasons = _first(read.reasons, _flag(~read.values.is_in([0.0, 1.0]), "not 0 or 1"))
    return Converted(_blank(read.values, reasons).cast(pl.Int8, strict=False), reasons, read.notes)


def parse_time(text: str) -> tuple[datetime, bool] | None:
    """An ISO 8601 date or time -> (UTC time, whether it was naive); None when it is not one."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    try:
        when = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micro
        )
        if zone is not None and zone[0] in "+-":
            digits = zone[1:].replace(":", "").ljust(4, "0")
            away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            when = when - away if zone[0] == "+" else when + away
    except (ValueError, OverflowError):
        return None
    return when.replace(tzinfo=UTC), zone is None


def _time(raw: pl.Series) -> Converted:
    naive_note = (f"{raw.name}: times without a zone were taken as UTC",)
    fine = _nulls(raw, pl.String())
    if raw.dtype == pl.Date:
        return Converted(raw.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), fine, naive_note)
    if isinstance(raw.dtype, pl.Datetime):
        if raw.dtype.time_zone is None:
            return Converted(raw.dt.cast_time_unit("us").dt.replace_time_zone("UTC"), fine, naive_note)
        return Converted(raw.dt.cast_time_unit("us").dt.convert_time_zone("UTC"), fine)
    if raw.dtype != pl.String:
        return _all_wrong(raw, TIME, "a time (ISO 8601, such as 2024-05-01T12:00:00Z)")
    blank = raw.str.strip_chars() == ""
    known = {text: parse_time(text) for text in raw.drop_nulls().unique().to_list()}
    read = [None if text is None else known[text] for text in raw.to_list()]
    values = pl.Series(raw.name, [None if r is None else r[0] for r in read], dtype=TIME)
    reasons = _flag(raw.is_not_null() & ~blank & values.is_null(), "not an ISO 8601 time")
    naive = any(r is not None and r[1] for r in known.values())
    return Converted(values, reasons, naive_note if naive else ())


def _list(raw: pl.Series) -> Converted:
    if isinstance(raw.dtype, (pl.List, pl.Array)):
        inner = raw.dtype.inner
        if not (inner in (pl.String, pl.Null) or inner.is_integer() or isinstance(inner, pl.Categorical)):
            return _all_wrong(raw, DTYPES["list"], "a list of text")
        values = raw.cast(pl.List(pl.String)).list.eval(pl.element().filter(pl.element() != ""))
        return Converted(values, _nulls(raw, pl.String()))
    return _json_column(raw, _read_list, DTYPES["list"], "a JSON list of text")


def _map(raw: pl.Series) -> Converted:
    if isinstance(raw.dtype, pl.Struct):
        raw = pl.Series(
            raw.name,
            [None if v is None else json.dumps(v, default=str) for v in raw.to_list()],
            dtype=pl.String,
        )
    return _json_column(raw, _read_map, pl.String(), "a JSON object")


def _json_column(raw: pl.Series, read: Callable[[Any], Any], dtype: pl.DataType, wanted: str) -> Converted:
    if raw.dtype != pl.String:
        return _all_wrong(raw, dtype, wanted)
    values: list[Any] = []
    reasons: list[str | None] = []
    for text in raw.to_list():
        value, reason = None, None
        if text is not None and text.strip():
            with contextlib.suppress(ValueError, RecursionError):
                value = read(json.loads(text))
            reason = f"not {wanted}" if value is None else None
        values.append(value)
        reasons.append(reason)
    return Converted(pl.Series(raw.name, values, dtype=dtype), pl.Series("reason", reasons, dtype=pl.String))


def _scalar(value: Any) -> str | None:
    """A JSON scalar as valid text; None for null, NaN and text that is not Unicode (lone surrogates)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, (dict, list)):
        return _valid(json.dumps(value, ensure_ascii=False))
    return _valid(value if isinstance(value, str) else json.dumps(value))


def _valid(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _read_list(value: Any) -> list[str] | None:
    if not isinstance(value, list) or any(isinstance(v, (dict, list, bool, float)) for v in value):
        return None
    texts = [_scalar(v) for v in value if v is not None and v != ""]
    return [t for t in texts if t is not None] if None not in texts else None


def _read_map(value: Any) -> str | None:
    """Attributes as canonical JSON text: string values, lists joined by commas, empty values left out."""
    if not isinstance(value, dict):
        return None
    out: dict[str, str] = {}
    for key, v in value.items():
        text = ", ".join(t for t in map(_scalar, v) if t) if isinstance(v, list) else _scalar(v)
        name = _valid(key)
        if name and text:
            out[name] = text
    return json.dumps(out, ensure_ascii=False)


def _bytes(raw: pl.Series) -> Converted:
    if raw.dtype != pl.Binary:
        return _all_wrong(raw, pl.Binary(), "bytes")
    return Converted(raw, _nulls(raw, pl.String()))


def _blank(values: pl.Series, reasons: pl.Series) -> pl.Series:
    """Null where there is a reason."""
    return pl.select(pl.when(reasons.is_null()).then(values).otherwise(None)).to_series().alias(values.name)


def _limit(read: Converted, column: Column) -> Converted:
    reasons = read.reasons
    if column.low is not None:
        reasons = _first(reasons, _flag(read.values < column.low, f"below {column.low:g}"))
    if column.high is not None:
        reasons = _first(reasons, _flag(read.values > column.high, f"above {column.high:g}"))
    return Converted(_blank(read.values, reasons), reasons, read.notes)


def _choose(read: Converted, column: Column) -> Converted:
    lower = read.values.str.to_lowercase()
    bad = lower.is_not_null() & ~lower.is_in(list(column.choices))
    reasons = _first(read.reasons, _flag(bad, f"not one of {', '.join(column.choices)}"))
    return Converted(_blank(lower, reasons).alias(column.name), reasons, read.notes)


_READERS: dict[str, Callable[[pl.Series], Converted]] = {
    "id": _text,
    "text": _trimmed,
    "category": _category,
    "float": _float,
    "int": _int,
    "flag": _zero_one,
    "time": _time,
    "list": _list,
    "map": _map,
    "bytes": _bytes,
}
