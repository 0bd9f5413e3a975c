"""The data contract of a shop folder, as data: which tables there are and which columns each may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from moonshelf.types import ACTIONS, SPLITS

Kind = Literal["id", "text", "category", "float", "int", "flag", "time", "list", "map", "bytes"]

TIME = pl.Datetime("us", "UTC")
"""The one type of time inside moonshelf: microseconds, UTC."""

SHOWN_IMAGE = "shown_image_id"
"""Column of read creatives: the picture that a row names, whether or not the shop has its bytes."""

ROW = "__row"
"""Column that carries the 1-based data row of the source file through the reading; never written."""

DTYPES: dict[Kind, pl.DataType] = {
    "id": pl.String(),
    "text": pl.String(),
    "category": pl.String(),
    "float": pl.Float64(),
    "int": pl.Int64(),
    "flag": pl.Int8(),
    "time": TIME,
    "list": pl.List(pl.String()),
    "map": pl.String(),
    "bytes": pl.Binary(),
}
"""What each kind is stored as after reading (a map is JSON text with string values)."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the contract.

    Args:
        name: as in the file.
        kind: how values are read and checked; see ``DTYPES`` for what they become.
        required: the column must exist and a row without a value is rejected.
        strict: a bad value rejects the row even when the column is optional (else the value becomes null).
        choices: the only values allowed.
        low: smallest allowed number.
        high: largest allowed number.
        default: put in place of a missing value.
    """

    name: str
    kind: Kind
    required: bool = False
    strict: bool = False
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns, the key that must be unique, and columns of which one must have a value."""

    name: str
    columns: tuple[Column, ...]
    key: str | None = None
    one_of: tuple[str, ...] = ()
    open_ended: bool = False  # columns beside the contract are expected here (context, user features)

    def column(self, name: str) -> Column:
        """The column of this name; KeyError when the contract has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


def _required(name: str, kind: Kind = "id", *, low: float | None = None) -> Column:
    return Column(name, kind, required=True, low=low)


_SPLIT = Column("split", "text", strict=True, choices=SPLITS)

SCHEMAS: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "products",
            (
                _required("product_id"),
                Column("title", "text"),
                Column("description", "text"),
                Column("category", "category"),
                Column("attributes", "map"),
                Column("brand", "text"),
                Column("price", "float", low=0.0),
                Column("spu_id", "id"),
                Column("image_ids", "list"),
                Column("created_at", "time"),
            ),
            key="product_id",
        ),
        Table("images", (_required("image_id"), _required("bytes", "bytes")), key="image_id"),
        Table(
            "searches",
            (
                _required("query_id"),
                _required("product_id"),
                Column("query_text", "text"),
                Column("query_image_id", "id"),
                Column("action", "text", strict=True, choices=ACTIONS, default="click"),
                Column("user_id", "id"),
                Column("time", "time"),
                Column("place", "text"),
                _SPLIT,
            ),
            one_of=("query_text", "query_image_id"),
        ),
        Table(
            "events",
            (
                _required("user_id"),
                _required("time", "time"),
                _required("product_id"),
                _required("action", "text"),
                Column("query_text", "text"),
                Column("price", "float", low=0.0),
            ),
        ),
        Table(
            "impressions",
            (
                _required("product_id"),
                _required("clicked", "flag"),
                Column("user_id", "id"),
                Column("time", "time"),
                Column("query_id", "id"),
                Column("query_text", "text"),
                Column("position", "int", low=0),
                Column("propensity", "float", low=0.0, high=1.0),
            ),
            open_ended=True,
        ),
        Table(
            "relevance",
            (
                _required("query_id"),
                _required("query_text", "text"),
                _required("product_id"),
                _required("grade", "float"),
                _SPLIT,
            ),
        ),
        Table(
            "creatives",
            (
                _required("creative_id"),
                _required("impressions", "int", low=0),
                _required("clicks", "int", low=0),
                Column("image_id", "id"),
                Column("text", "text"),
                Column("product_id", "id"),
                Column("test_id", "id"),
                Column("queries", "list"),
                _SPLIT,
            ),
            key="creative_id",
            one_of=("image_id", "text"),
        ),
        Table("users", (_required("user_id"),), key="user_id", open_ended=True),
    )
}
"""Every table by name. The keys of ``users`` and ``creatives`` follow from "one row is a ..."."""
