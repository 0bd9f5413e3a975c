"""What every user did, in order of time, as flat arrays that are read through a memory map.

A row to be scored needs no copy of its user's past: two numbers, where the user begins in the log and how far it may
look (``History.until``), say which slice it is. Nothing at or after a row's own moment is ever in that slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf.arrays import count_below
from moonshelf.errors import InputError, TooLittleData
from moonshelf.shop.shop import Shop
from moonshelf.types import ACTIONS
from moonshelf.workspace import atomic_folder, digest, read_manifest, write_frame, write_json, write_manifest

STAGE = "history"
QUERY = len(ACTIONS)
"""Kind of an entry that is a query; items are 0 click, 1 cart, 2 purchase."""
_ARRAYS = ("what", "time", "kind", "start")


@dataclass(frozen=True, slots=True)
class History:
    """See the module.

    Attributes:
        items: product ids; entry ``what < len(items)`` is one of them.
        queries: texts, then photos as ``photo:ID``; entry ``what`` is number ``what - len(items)`` of them.
        users: user ids.
        what: ``[E]`` int32, what was acted on or asked for.
        time: ``[E]`` int64, microseconds since 1970 (UTC), ascending within a user.
        kind: ``[E]`` uint8, the action or ``QUERY``.
        start: ``[U + 1]`` int64, where each user begins.
        told: what was left out, by reason.
    """

    items: tuple[str, ...]
    queries: tuple[str, ...]
    users: tuple[str, ...]
    what: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    start: np.ndarray
    told: dict[str, int] = field(default_factory=dict)

    def until(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Where the past of each (user, moment) ends: entries of the user that are strictly earlier.

        Args:
            users: ``[n]`` numbers of users; -1: somebody without a past.
            times: ``[n]`` int64 microseconds.

        Returns:
            ``[n]`` int64: the slice is ``what[start[user] : until]``; for user -1 it is 0.

        Cost: a binary search a row, all rows at once; nothing is copied.
        """
        known = np.maximum(users, 0)
        found = count_below(self.time, self.start[known], self.start[known + 1], times)
        return np.where(users < 0, 0, found)

    def slices(self, users: np.ndarray, until: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """The last ``most`` entries of each past, left-aligned in order of time.

        Returns:
            ``[n, L]`` int64 positions in the log (0 where there is none) and ``[n, L]`` bool which there are; ``L`` is
            the longest past, at most ``most`` and at least 1.
        """
        begin = np.where(users < 0, 0, self.start[np.maximum(users, 0)])
        length = np.minimum(until - begin, most)
        width = max(1, int(length.max(initial=0)))
        offset = np.arange(width)
        there = offset < length[:, None]
        at = (until - length)[:, None] + offset
        return np.where(there, at, 0), there


def build_history(shop: Shop) -> History:
    """All acts and queries of a shop's users.

    Acts are the events with a known product and a user; a query is an entry of its own, before the act that it led to.
    Where no event names its query, the queries are those of the searches with a user and a time. Without events, acts
    are the clicks of the impressions. Rows that occur several times count once.

    Everybody and every text that any table names has a number, whether it led to an act or not: were those alone known
    that did, being known would tell the label.

    Raises:
        TooLittleData: the shop has neither events nor clicked impressions.

    Cost: 5 million events take some seconds and 1 GB.
    """
    events = _acts(shop)
    if shop.products is None or not len(events):
        raise TooLittleData(
            "there are no events to learn from", where=shop.name, mend="add the table events, or impressions"
        )
    items = shop.products["product_id"]
    texts, asked = _plain(events["query_text"]), None
    if not len(texts.unique().drop_nulls()):
        asked = _searched(shop)
    names = _named("query", texts.alias("query"), asked, _shown(shop, "query_text"))
    users = _named("user_id", events["user_id"], asked, _shown(shop, "user_id"), shop.users)
    # numbers in place of names first, a column at a time: of millions of rows the names are what takes room
    acts = pl.DataFrame(
        {
            "user": _number(events["user_id"], users),
            "time": events["time"].dt.epoch("us"),
            "what": _number(events["product_id"], items),
            "kind": _number(events["action"], pl.Series(ACTIONS)).cast(pl.UInt8),
            "asks": _number(texts, names),
        }
    )
    del texts
    # the shop has put aside, as rejected rows, what names products that it does not have
    acts = acts.drop_nulls(["what", "kind"])
    told = {"of another action": len(events) - len(acts)}
    if asked is None:
        asks = acts.select("user", "time", "asks").drop_nulls()
    else:
        asks = asked.select(
            _number(asked["user_id"], users).alias("user"),
            "time",
            _number(asked["query"], names).alias("asks"),
        )
    asks = asks.select(
        "user", "time", (pl.col("asks") + len(items)).alias("what"), pl.lit(QUERY, pl.UInt8).alias("kind")
    )
    acts = acts.drop("asks")
    # at one moment a query comes before the act that it led to
    rows = pl.concat([asks, acts]).sort("user", "time", pl.col("kind") != QUERY, "kind", "what")
    del acts, asks
    # what is there twice stands together now: no table of millions of rows is needed to find it
    again = np.zeros(len(rows), dtype=bool)
    again[1:] = True
    for column in rows:
        values = column.to_numpy()
        again[1:] &= values[1:] == values[:-1]
    told["twice"] = int((again & (rows["kind"].to_numpy() != QUERY)).sum())
    if again.any():
        rows = rows.filter(~again)
    counts = np.bincount(rows["user"].to_numpy(), minlength=len(users))
    return History(
        tuple(items.to_list()),
        tuple(names),
        tuple(users.to_list()),
        rows["what"].to_numpy().astype(np.int32),
        rows["time"].to_numpy().astype(np.int64),
        rows["kind"].to_numpy(),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        {reason: n for reason, n in told.items() if n},
    )


def _acts(shop: Shop) -> pl.DataFrame:
    """The events, or the clicks of the impressions where there are none of an action that we know."""
    events = shop.events
    if events is not None and (shop.impressions is None or events["action"].is_in(ACTIONS).any()):
        return events
    columns = ["user_id", "time", "product_id", "query_text"]
    if shop.impressions is None:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
    clicked = shop.impressions.filter(pl.col("clicked") > 0).select(columns)
    clicked = clicked.drop_nulls(["user_id", "time"])
    return clicked.with_columns(pl.lit(ACTIONS[0]).alias("action"))


def _shown(shop: Shop, column: str) -> pl.Series | None:
    if shop.impressions is None:
        return None
    found = shop.impressions[column]
    return found if column == "user_id" else _plain(found).alias("query")


def _named(column: str, *tables: pl.Series | pl.DataFrame | None) -> pl.Series:
    """Every value of a column in several tables, once, in order."""
    parts = [
        (t[column] if isinstance(t, pl.DataFrame) else t).rename("id").unique()
        for t in tables
        if t is not None
    ]
    return pl.concat(parts).drop_nulls().unique().sort()


def _number(values: pl.Series, ids: pl.Series) -> pl.Series:
    """The place of each value among distinct ids, null where it is none of them."""
    place = pl.DataFrame({"id": ids}).with_row_index("number")
    return pl.DataFrame({"id": values}).join(place, on="id", how="left", maintain_order="left")["number"]


def _plain(texts: pl.Series) -> pl.Series:
    """Without spaces around them; empty ones as null."""
    text = pl.col(texts.name).str.strip_chars()
    return pl.DataFrame(texts).select(pl.when(text.str.len_chars() > 0).then(text)).to_series()


def _searched(shop: Shop) -> pl.DataFrame:
    """``user_id``, ``time``, ``query`` of the searches that have them."""
    empty = pl.DataFrame(schema={"user_id": pl.String, "time": pl.Int64, "query": pl.String})
    if shop.searches is None:
        return empty
    query = pl.coalesce(_plain(shop.searches["query_text"]), pl.format("photo:{}", "query_image_id"))
    return shop.searches.select("user_id", pl.col("time").dt.epoch("us"), query.alias("query")).drop_nulls()


def save_history(history: History, folder: Path, shop: Shop) -> Path:
    """Write the arrays; :func:`load_history` maps them."""
    with atomic_folder(folder) as out:
        for name in _ARRAYS:
            np.save(out / f"{name}.npy", getattr(history, name))
        for name in ("items", "queries", "users"):
            write_frame(
                pl.DataFrame({"id": getattr(history, name)}, schema={"id": pl.String}),
                out / f"{name}.parquet",
            )
        write_json(out / "told.json", history.told)
        write_manifest(out, stage=STAGE, inputs={"shop": shop.fingerprint, "key": _key(shop)})
    return folder


def _key(shop: Shop) -> str:
    return digest([shop.fingerprint, STAGE, 2])


def load_history(folder: Path, shop: Shop | None = None) -> History:
    """Map what :func:`save_history` wrote; its pages come and go as they are read.

    Raises:
        InputError: nothing is there, or it was made of another shop.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("stage") != STAGE:
        raise InputError(
            "there is no history here", where=str(folder), mend="make it with build_history and save_history"
        )
    if shop is not None and manifest["inputs"]["key"] != _key(shop):
        raise InputError(
            "this history is of another shop",
            where=str(folder),
            mend="make it again with build_history and save_history",
        )
    names: dict[str, Any] = {
        name: tuple(pl.read_parquet(folder / f"{name}.parquet")["id"].to_list())
        for name in ("items", "queries", "users")
    }
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    return History(**names, **arrays)
