"""What is known of a product, a user and a row beside their ids: small whole numbers for embedding tables.

Number 0 is always "unknown". Columns with more values than a table holds are hashed into it; how many of them share a
place with others is told. What counts acts or days does so as of the row's own moment.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from moonshelf.arrays import count_below
from moonshelf.progress import say
from moonshelf.ranking.history import QUERY, History
from moonshelf.ranking.match import SIZE as match_size
from moonshelf.ranking.match import match
from moonshelf.ranking.rows import DAY, Rows
from moonshelf.shop.shop import Shop

PRICES = 20  # buckets of equally many products
AGES = (1, 3, 7, 14, 30, 60, 120, 365)  # days since a product came; bucket edges
FAMES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # acts on a product before the row; bucket edges
LEVELS = 4  # of a category path
OWN = "item.category"  # a product's own deepest category, where some paths are longer than others
ATTRIBUTES = 6  # columns at most
ROW_SIZES = (len(FAMES) + 1, len(AGES) + 2, match_size)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers in ``0 .. size - 1``.

    Attributes:
        name: ``item.category``, ``user.age`` and so on.
        size: of its embedding table.
        values: one a product or user.
        collisions: share of the distinct values that share their number with another; 0 unless hashed.
        known: the values by number, from 1, of a column that is neither hashed nor of quantities.
        edges: of the buckets of a quantity; None: the column is of names.
    """

    name: str
    size: int
    values: np.ndarray
    collisions: float = 0.0
    known: tuple[str, ...] = ()
    edges: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Features:
    """Columns of products ``[P]`` and of users ``[U]``; rows look theirs up by number."""

    item: tuple[Column, ...]
    user: tuple[Column, ...]

    @cached_property
    def item_table(self) -> np.ndarray:
        """``[P, F]`` int32, made once."""
        return np.stack([c.values for c in self.item], axis=1) if self.item else np.zeros((0, 0), np.int32)

    @property
    def group(self) -> int:
        """The column of each product's own deepest category; -1 where products have none."""
        levels = [at for at, c in enumerate(self.item) if c.name.startswith("item.category")]
        own = [at for at in levels if self.item[at].name == OWN]
        return own[0] if own else levels[-1] if levels else -1

    @cached_property
    def user_table(self) -> np.ndarray:
        """``[U, G]`` int32, made once."""
        return np.stack([c.values for c in self.user], axis=1) if self.user else np.zeros((0, 0), np.int32)

    def told(self) -> dict[str, float]:
        """Collisions of every hashed column."""
        return {c.name: c.collisions for c in (*self.item, *self.user) if c.collisions}

    def spec(self) -> dict[str, list[dict[str, Any]]]:
        """What gives the same numbers to the same values again, as plain objects; see ``like``."""

        def plain(c: Column) -> dict[str, Any]:
            return {
                "name": c.name,
                "size": c.size,
                "known": list(c.known),
                "edges": c.edges and list(c.edges),
            }

        return {"item": [plain(c) for c in self.item], "user": [plain(c) for c in self.user]}


def build_features(
    shop: Shop, history: History, *, buckets: int = 100_000, like: Mapping[str, Any] | None = None
) -> Features:
    """Category at every level, brand, price and the most common attributes of products; every column of the table
    users.

    Args:
        buckets: largest table; columns with more values are hashed into it.
        like: ``Features.spec`` of the features that a model was trained with: the same columns with the same numbers;
            values that were not known then are unknown, columns that are gone hold nothing but unknowns.
    """
    if like is not None:
        own = {c.name: c for side in _columns(shop, history, buckets, like) for c in side}
        sides = []
        for side, n in (("item", len(history.items)), ("user", len(history.users))):
            none = np.zeros(n, dtype=np.int32)
            sides.append(tuple(own.get(c["name"], Column(c["name"], c["size"], none)) for c in like[side]))
        return Features(*sides)
    found = _columns(shop, history, buckets, None)
    # of one value alone nothing can be learned
    told = [tuple(c for c in side if (c.values != c.values[:1]).any()) for side in found]
    return Features(*told)


def _columns(
    shop: Shop, history: History, buckets: int, like: Mapping[str, Any] | None
) -> tuple[list[Column], list[Column]]:
    was = {c["name"]: c for side in (like or {}).values() for c in side}

    def names(name: str, values: Sequence[str | None]) -> Column:
        return _column(name, values, buckets, was.get(name))

    def quantity(name: str, values: np.ndarray) -> Column:
        return _quantiles(name, values, PRICES, was.get(name))

    assert shop.products is not None
    products = shop.products
    paths = [path.split(" > ") if path else [] for path in products["category"].fill_null("")]
    deepest = max((len(p) for p in paths), default=0)
    item = [
        names(
            f"item.category{level + 1}",
            [" > ".join(p[: level + 1]) if len(p) > level else None for p in paths],
        )
        for level in range(min(deepest, LEVELS))
    ]
    depths = {min(len(p), LEVELS) for p in paths if p}
    if len(depths) > 1 if like is None else OWN in was:  # else the deepest level is everybody's own
        item.append(names(OWN, [" > ".join(p[:LEVELS]) or None for p in paths]))
    item.append(names("item.brand", products["brand"].to_list()))
    item.append(quantity("item.price", products["price"].to_numpy()))
    maps = [json.loads(text or "{}") for text in products["attributes"]]
    keys = Counter(key for own in maps for key in own)
    often = [key for key, n in keys.most_common() if n >= 0.05 * len(maps) and key != "brand"][:ATTRIBUTES]
    if like is not None:
        often = [c["name"][len("item.is ") :] for c in like["item"] if c["name"].startswith("item.is ")]
    item += [
        names(f"item.is {key}", [None if (v := own.get(key)) is None else str(v) for own in maps])
        for key in often
    ]
    user: list[Column] = []
    if shop.users is not None:
        place = pl.DataFrame({"user_id": history.users}, schema={"user_id": pl.String})
        known = place.join(
            shop.users.unique("user_id", keep="first"), on="user_id", how="left", maintain_order="left"
        )
        for name in known.columns[1:]:
            series, own = known[name], f"user.{name}"
            amount = series.dtype.is_numeric() or series.dtype in (pl.Date, pl.Datetime)
            if series.dtype in (pl.Categorical, pl.Enum):
                series = series.cast(pl.String)
            if not amount and series.dtype not in (pl.Boolean, pl.String):
                say(f"ranking: column {name} of users is {series.dtype}; it is not read")
            elif own in was and amount != (
                was[own]["edges"] is not None
            ):  # then of another kind: all unknown
                say(f"ranking: column {name} of users is {series.dtype} now; the model cannot read it")
            elif amount:
                if series.dtype in (pl.Date, pl.Datetime):
                    series = series.cast(pl.Datetime("us")).dt.epoch("us")
                user.append(quantity(own, series.cast(pl.Float64).to_numpy()))
            else:
                user.append(names(own, series.cast(pl.String).to_list()))
    return item, user


def _column(
    name: str, values: Sequence[str | None], buckets: int, was: Mapping[str, Any] | None = None
) -> Column:
    there = sorted({value for value in values if value}) if was is None else list(was["known"])
    size, collisions = len(there) + 1, 0.0
    if (len(there) < buckets) if was is None else bool(there):
        number = {value: i + 1 for i, value in enumerate(there)}
    else:
        size = buckets if was is None else int(was["size"])
        number = {value: 1 + zlib.crc32(value.encode()) % (size - 1) for value in set(values) if value}
        if was is None:
            counts = np.bincount(list(number.values()), minlength=buckets)
            collisions = float(counts[counts > 1].sum() / len(there))
        there = []
    found = np.array([number.get(value, 0) if value else 0 for value in values], dtype=np.int32)
    return Column(name, size, found, collisions, tuple(there))


def _quantiles(name: str, values: np.ndarray, buckets: int, was: Mapping[str, Any] | None = None) -> Column:
    """Bucket 0 is for what is missing or no number."""
    values = np.asarray(values, dtype=np.float64)
    there = np.isfinite(values)
    if was is not None:
        edges = np.array(was["edges"] or ())
    elif there.any():
        edges = np.unique(np.quantile(values[there], np.linspace(0, 1, buckets + 1)[1:-1]))
    else:
        return Column(name, 1, np.zeros(len(values), dtype=np.int32))
    number = np.where(there, 1 + np.searchsorted(edges, np.where(there, values, 0), side="right"), 0)
    return Column(name, len(edges) + 2, number.astype(np.int32), edges=tuple(edges.tolist()))


@dataclass(frozen=True, slots=True)
class Popularity:
    """Acts on products in order of product, then time: how many one had had by any moment.

    Attributes:
        start: ``[P + 1]`` int64, where each product's acts begin. time: ``[A]`` int64 microseconds.
    """

    start: np.ndarray
    time: np.ndarray

    @classmethod
    def of(cls, history: History) -> Popularity:
        """Of a history; a sort of its log."""
        acts = history.kind < QUERY
        what, time = history.what[acts], history.time[acts]
        order = np.lexsort((time, what))
        counts = np.bincount(what, minlength=len(history.items))
        return cls(np.concatenate(([0], np.cumsum(counts))).astype(np.int64), time[order])

    def before(self, rows: Rows) -> np.ndarray:
        """``[N]`` int64: acts of any user on a row's product strictly before the row's own moment.

        Counting all of them would tell the future.
        """
        begin, end = self.start[rows.item], self.start[rows.item + 1]
        found: np.ndarray = count_below(self.time, begin, end, rows.time) - begin
        return found


def fame(popularity: Popularity, rows: Rows) -> np.ndarray:
    """``[N]`` int32 bucket of ``Popularity.before``: 1 to ``len(FAMES)``."""
    return np.searchsorted(np.array(FAMES), popularity.before(rows), side="right").astype(np.int32)


def shop_came(shop: Shop) -> np.ndarray:
    """``[P]`` int64 microseconds at which products came, -1 where it is not known."""
    assert shop.products is not None
    return shop.products["created_at"].dt.epoch("us").fill_null(-1).to_numpy()


def age(shop: Shop, rows: Rows) -> np.ndarray:
    """``[N]`` int32 bucket of how many days a row's product had been there, 0 where it is not known."""
    came = shop_came(shop)[rows.item]
    days = (rows.time - came) / DAY
    known = (came >= 0) & (rows.time > 0) & (days >= 0)
    return np.where(known, 1 + np.searchsorted(np.array(AGES), days, side="right"), 0).astype(np.int32)


def row_columns(
    shop: Shop, history: History, rows: Rows, asked: str | None = None, popularity: Popularity | None = None
) -> np.ndarray:
    """``[N, 3]`` features of the rows themselves: ``fame``, ``age``, ``match``; sizes are ``ROW_SIZES``.

    Args:
        asked: see ``match``. popularity: of the history, where it is at hand; None sorts the log.
    """
    popularity = popularity or Popularity.of(history)
    return np.stack((fame(popularity, rows), age(shop, rows), match(shop, history, rows, asked)), axis=1)
