"""Item-to-item pairs: products that one user acted on, one right after the other.

MOON (2511.11305, Table 2) trains on pairs of a product and a product; how they were found is not known. That they are
neighbours in what a user did is our design.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from moonshelf.shop.splits import CUTS
from moonshelf.types import ACTIONS

WITHIN = timedelta(minutes=30)
"""Longest time between the two: later acts belong to another errand."""


def train_until(events: pl.DataFrame, searches: pl.DataFrame | None) -> datetime | None:
    """The time before which events may be learned from: the first dated search of val or test, else 80% of the events.

    None when all events have one time (nothing to cut), or there are none.
    """
    if searches is not None:
        first = searches.filter(pl.col("split") != "train")["time"].min()
        if isinstance(first, datetime):
            return first
    times = events["time"].sort()
    if not len(times) or times[0] == times[-1]:
        return None
    at: datetime = times[int(CUTS[0] * len(times))]
    return at


def item_pairs(
    events: pl.DataFrame, *, before: datetime | None = None, within: timedelta = WITHIN
) -> pl.DataFrame:
    """Products that users acted on next, after a product.

    Two rows of a user pair up when nothing lies between them in time, the products differ, and ``within`` holds.
    Rows of equal time count in the order of the table. Acts other than click, cart and purchase are passed over.

    Args:
        events: ``user_id``, ``time``, ``product_id``, ``action``.
        before: rows from this time on are left out.
        within: longest time between the two.

    Returns:
        ``asked`` (the first product), ``product_id`` (the next one), ``action`` (the strongest that was done with the
        next one), a row a pair of products, in order of first appearance.
    """
    rows = events.filter(pl.col("action").is_in(ACTIONS))
    if before is not None:
        rows = rows.filter(pl.col("time") < before)
    strength = pl.col("action").replace_strict({a: i for i, a in enumerate(ACTIONS)}, return_dtype=pl.Int32)
    rows = rows.with_row_index("row").sort("user_id", "time", "row")
    met = rows.select(
        pl.col("product_id").shift(1).over("user_id").alias("asked"),
        "product_id",
        "action",
        "row",
        (pl.col("time") - pl.col("time").shift(1).over("user_id")).alias("apart"),
        strength.alias("strength"),
    ).filter((pl.col("asked") != pl.col("product_id")) & (pl.col("apart") <= within))
    strongest = met.sort("strength", descending=True, maintain_order=True).unique(
        ["asked", "product_id"], keep="first", maintain_order=True
    )
    first = met.group_by("asked", "product_id").agg(pl.col("row").min().alias("first"))
    return (
        strongest.join(first, on=["asked", "product_id"])
        .sort("first")
        .select("asked", "product_id", "action")
    )
