"""The rows that click models learn from: who saw or took what when, with what result.

Two sources. *Impressions*: every shown product with its click, and the cart or purchase that followed it. *Acts*, where
nothing says what was shown: each act is a positive, and products drawn by popularity are its negatives (made data, and
named so). A row holds numbers alone; a user's past is a slice of the history, a product's vector a row of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking.history import QUERY, History
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import CUTS
from moonshelf.types import ACTIONS, Action

DAY = 86_400_000_000  # microseconds
PAUSE = 30 * 60 * 1_000_000
FOLLOWS = 7 * DAY  # a cart or purchase counts for the impression that it follows within this time
Part = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of equal length N.

    Attributes:
        user: int32 number in the history, -1 for somebody whom it does not know.
        item: int32 number of the product.
        query: int32 number of the query in the history, -1 without one or with an unknown one.
        time: int64 microseconds.
        until: int64, where the user's past ends (``History.until``).
        label: ``[N, 3]`` bool: click, cart, purchase.
        position: int16 from 1, 0 where it is not known.
        propensity: float32 probability that the logging policy showed this product there; NaN where it is not known.
        page: int64, rows of one list shown (or of one positive with its negatives) share a number.
        weight: float32 of the row in training.
        made: whether negatives were drawn, not shown.
        told: what was left out or mended, by reason.
    """

    user: np.ndarray
    item: np.ndarray
    query: np.ndarray
    time: np.ndarray
    until: np.ndarray
    label: np.ndarray
    position: np.ndarray
    propensity: np.ndarray
    page: np.ndarray
    weight: np.ndarray
    made: bool = False
    told: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.item)

    def take(self, at: np.ndarray) -> Rows:
        """Some of the rows, by number or mask."""
        columns = {f.name: getattr(self, f.name)[at] for f in fields(self) if f.name not in ("made", "told")}
        return Rows(**columns, made=self.made, told=self.told)

    def units(self) -> np.ndarray:
        """``[N]`` int64: who a row belongs to, for metrics and intervals: its user, or its page where unknown."""
        return np.where(self.user >= 0, self.user.astype(np.int64), -1 - self.page)

    def clicked(self, action: Action = "click") -> np.ndarray:
        """``[N]`` bool: one of the labels."""
        found: np.ndarray = self.label[:, ACTIONS.index(action)]
        return found


def from_impressions(
    shop: Shop, history: History, *, follows: int = FOLLOWS, cuts: Sequence[int] = ()
) -> Rows:
    """Every impression, in order of time.

    A cart or purchase of the user and product counts for the last impression before it, within ``follows``; acts before
    any impression of theirs count for none. Impressions without a time come first and have no past. A page is what one
    user was shown under one ``query_id`` (or without one, at all) with no pause of half an hour. With a ``query_id`` it
    has one past, that of its first row: a click that is logged between two rows of one list would tell of both. The
    query that it answers is not in the past, since tables often name only queries that led to a click. Places count
    from 1; a table that counts from 0 is read as such.

    Args:
        cuts: moments, ascending; an act from a cut on counts for no impression before it, so that rows to learn from
            know nothing of what is reported on.

    Raises:
        TooLittleData: there are no impressions, or none (or all) of them were clicked.
    """
    frame = shop.impressions
    if frame is None or not len(frame):
        raise TooLittleData(
            "there are no impressions", where=shop.name, mend="add the table impressions, or learn from acts"
        )
    if frame["clicked"].n_unique() < 2:
        raise TooLittleData(
            f"all {len(frame):,} impressions have the same label",
            where=shop.name,
            mend="add what was clicked and what was not",
        )
    told: dict[str, int] = {}
    before = len(frame)
    frame = frame.unique(maintain_order=True)
    told["twice"] = before - len(frame)
    frame = frame.with_columns(pl.col("time").dt.epoch("us").fill_null(0))
    told["without a time"] = int((frame["time"] == 0).sum())
    told["without a user"] = int(frame["user_id"].null_count())
    frame = frame.with_row_index("seen").sort("time", "seen")
    item = _numbers(frame["product_id"], history.items)
    user = _numbers(frame["user_id"], history.users)
    query = _numbers(frame["query_text"].str.strip_chars(), history.queries)
    time = frame["time"].to_numpy().astype(np.int64)
    page = _pages(frame)
    label = np.zeros((len(frame), len(ACTIONS)), dtype=bool)
    label[:, 0] = frame["clicked"].to_numpy() > 0
    for kind in (1, 2):
        rows, early = _followed(history, user, item, time, kind, follows, np.asarray(cuts, dtype=np.int64))
        label[rows, kind] = True
        told[f"{ACTIONS[kind]} before any impression of it"] = early
    n = len(frame)
    begin = np.full(int(page.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begin, page, time)
    since = np.where(frame["query_id"].is_not_null().to_numpy(), begin[page], time)
    position = frame["position"]
    if position.min() == 0:
        position = position + 1
        told["with a place counted from 0"] = n - position.null_count()
    return Rows(
        user, item, query, time, _before(history, user, query, since), label,
        position.fill_null(0).clip(0, np.iinfo(np.int16).max).to_numpy().astype(np.int16),
        frame["propensity"].cast(pl.Float32).fill_null(float("nan")).to_numpy(),
        page, np.ones(n, dtype=np.float32),
        told={reason: count for reason, count in told.items() if count},
    )  # fmt: skip


def _before(history: History, user: np.ndarray, query: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Where pasts end: before these moments, and before a row's own query if that came last, within ``PAUSE``."""
    until = history.until(user, since)
    wanted = np.where(query >= 0, len(history.items) + query.astype(np.int64), -1)
    first = history.start[np.maximum(user, 0)]
    while True:
        last = np.maximum(until - 1, 0)
        own = (
            (until > first)
            & (user >= 0)
            & (history.what[last] == wanted)
            & (since - history.time[last] <= PAUSE)
        )
        if not own.any():
            return until
        until = until - own


def _numbers(values: pl.Series, ids: Sequence[str]) -> np.ndarray:
    place = pl.DataFrame({"id": ids}, schema={"id": pl.String}).with_row_index("number")
    found = pl.DataFrame({"id": values}).join(place, on="id", how="left", maintain_order="left")["number"]
    return found.cast(pl.Int32).fill_null(-1).to_numpy()


def _pages(frame: pl.DataFrame) -> np.ndarray:
    """``[N]`` int64 numbers of pages; a row without a user and a ``query_id`` is a page of its own."""
    known = pl.col("query_id").is_not_null() | (pl.col("user_id").is_not_null() & (pl.col("time") > 0))
    alone = pl.when(known).then(pl.lit(-1)).otherwise(pl.col("seen").cast(pl.Int64))
    keys = ["query_id", "user_id", "alone"]
    later = pl.col("time").diff().over(keys).fill_null(0) > PAUSE
    numbered = (
        frame.select("query_id", "user_id", "time", "seen", alone.alias("alone"))
        .with_columns(later.cum_sum().over(keys).alias("sitting"))
        .select(pl.struct(*keys, "sitting").rank("dense"))
    )
    return numbered.to_series().to_numpy().astype(np.int64)


def _followed(
    history: History,
    user: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    kind: int,
    follows: int,
    cuts: np.ndarray,
) -> tuple[np.ndarray, int]:
    """Rows whose product the user went on to act on, and how many acts came before every impression of theirs."""
    at = np.flatnonzero(history.kind == kind)
    acts = pl.DataFrame(
        {
            "user": (np.searchsorted(history.start, at, side="right") - 1).astype(np.int32),
            "item": history.what[at],
            "time": history.time[at],
        }
    ).sort("time")
    shown = pl.DataFrame({"user": user, "item": item, "time": time, "row": np.arange(len(user))}).filter(
        (pl.col("user") >= 0) & (pl.col("time") > 0)
    )
    met = acts.join_asof(
        shown.sort("time"), on="time", by=["user", "item"], tolerance=follows, check_sortedness=False
    )
    pairs = shown.select("user", "item", pl.col("time").min().over("user", "item").alias("first")).unique()
    early = acts.join(pairs, on=["user", "item"]).filter(pl.col("time") < pl.col("first"))
    met = met.drop_nulls("row")
    row, act = met["row"].to_numpy(), met["time"].to_numpy()
    same = np.searchsorted(cuts, time[row], side="right") == np.searchsorted(cuts, act, side="right")
    return np.unique(row[same]), len(early)


def from_acts(
    history: History,
    *,
    actions: Sequence[Action] = ACTIONS,
    negatives: int = 4,
    seed: int = 0,
    since: int | None = None,
    popular_before: int | None = None,
    popular_since: int | None = None,
    around: int | None = None,
    came: np.ndarray | None = None,
) -> Rows:
    """A positive for each act of a user, with ``negatives`` products drawn by popularity. Made data.

    A product is drawn with the share of the acts that it has, never one that the user acted on. ``page`` is the
    positive's number.

    Args:
        actions: acts that count as positives; a purchase is no click, so name what is learned.
        since: positives from this moment on, in microseconds.
        popular_before: popularity, and what a user acted on, are counted up to this moment: what comes after a cut must
            not be known before it, not even by its absence among the negatives.
        popular_since: popularity is counted from this moment on, for lists to report: were it counted over all time,
            being new would tell a later positive from its negatives.
        around: draw from the acts within so many microseconds of the positive instead: what was wanted *then*. Drawn by
            the popularity of all time, many negatives are products that were not there yet, or not any more, and a
            model learns to tell the season, not the taste.
        came: ``[P]`` int64 when products came, in microseconds, -1 where it is not known: none is drawn before it came,
            or its age would tell that it is a negative.

    Raises:
        TooLittleData: no such acts, or they are all of one product.
    """
    kinds = [ACTIONS.index(action) for action in actions]
    acts = history.kind != QUERY
    wanted = np.isin(history.kind, kinds)
    if since is not None:
        wanted &= history.time >= since
    at = np.flatnonzero(wanted)
    known = acts if popular_before is None else acts & (history.time < popular_before)
    counted = known if popular_since is None else known & (history.time >= popular_since)
    popularity = np.bincount(history.what[counted], minlength=len(history.items)).astype(np.float64)
    if not len(at) or (popularity > 0).sum() < 2:
        raise TooLittleData(
            f"{len(at)} acts of {', '.join(actions)}, {int((popularity > 0).sum())} products to draw from",
            mend="add events",
        )
    user = np.searchsorted(history.start, at, side="right").astype(np.int32) - 1
    taken = np.unique(_users(history)[known].astype(np.int64) * len(history.items) + history.what[known])
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(popularity) / popularity.sum()
    order = np.flatnonzero(counted)
    order = order[np.argsort(history.time[order], kind="stable")]
    times_of = history.time[order]
    near = np.zeros((len(at), 2), dtype=np.int64)
    if around is not None:
        near[:, 0] = np.searchsorted(times_of, history.time[at] - around, side="left")
        near[:, 1] = np.searchsorted(times_of, history.time[at] + around, side="right")
    drawn = np.full((len(at), negatives), -1, dtype=np.int64)
    for _ in range(50):  # those that the user knows, or that were drawn for this positive already, once more
        missing = np.argwhere(drawn < 0)
        if not len(missing):
            break
        if around is None:
            found = np.searchsorted(cumulative, rng.random(len(missing)), side="right")
            guess = np.minimum(found, len(popularity) - 1)
        else:
            low, high = near[missing[:, 0]].T
            pick = low + (rng.random(len(missing)) * (high - low)).astype(np.int64)
            guess = history.what[order[np.minimum(pick, len(order) - 1)]].astype(np.int64)
        key = user[missing[:, 0]].astype(np.int64) * len(history.items) + guess
        place = np.minimum(np.searchsorted(taken, key), len(taken) - 1)
        again = (drawn[missing[:, 0]] == guess[:, None]).any(1) | (taken[place] == key)
        if came is not None:
            again |= came[guess] > history.time[at][missing[:, 0]]
        kept = missing[~again]
        drawn[kept[:, 0], kept[:, 1]] = guess[~again]
        drawn = _once(drawn)
    item = np.concatenate((history.what[at][:, None], drawn), axis=1)
    there = item >= 0
    n = item.shape[1]
    label = np.zeros((*item.shape, len(ACTIONS)), dtype=bool)
    label[np.arange(len(at)), 0, history.kind[at]] = True
    time = np.repeat(history.time[at], n).reshape(item.shape)
    flat = there.ravel()
    users = np.repeat(user, n)[flat]
    times = time.ravel()[flat].astype(np.int64)
    total = int(flat.sum())
    lacking = int((~there).sum())
    return Rows(
        users, item.ravel()[flat].astype(np.int32), np.full(total, -1, dtype=np.int32), times,
        history.until(users, times), label.reshape(-1, len(ACTIONS))[flat],
        np.zeros(total, dtype=np.int16), np.full(total, np.nan, dtype=np.float32),
        np.repeat(np.arange(len(at), dtype=np.int64), n)[flat], np.ones(total, dtype=np.float32),
        made=True, told={"negatives that could not be drawn": lacking} if lacking else {},
    )  # fmt: skip


def _users(history: History) -> np.ndarray:
    return np.repeat(np.arange(len(history.users), dtype=np.int32), np.diff(history.start))


def _once(drawn: np.ndarray) -> np.ndarray:
    """The first of equal products in a row stays, the others are drawn again (-1)."""
    for column in range(1, drawn.shape[1]):
        same = (drawn[:, :column] == drawn[:, column : column + 1]).any(1) & (drawn[:, column] >= 0)
        drawn[same, column] = -1
    return drawn


def moments_of(rows: Rows, cuts: tuple[float, float] = CUTS) -> tuple[int, int]:
    """The moments, in microseconds, at which shares ``cuts`` of the pages have begun: where val and test begin."""
    ranked = np.sort(_begins(rows)[0])
    val, test = (int(ranked[min(int(cut * len(ranked)), len(ranked) - 1)]) for cut in cuts)
    return val, test


def _begins(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The first time of each page, and each row's page as a place among them."""
    order, where = np.unique(rows.page, return_inverse=True)
    first = np.full(len(order), np.iinfo(np.int64).max)
    np.minimum.at(first, where, rows.time)
    return first, where


def split_by_time(
    rows: Rows, *, cuts: tuple[float, float] = CUTS, at: tuple[datetime | int, datetime | int] | None = None
) -> dict[Part, Rows]:
    """Train, val and test by one cut in time for all users; rows of one page stay together.

    Args:
        cuts: shares of the pages at which val and test begin, by the first time of each.
        at: or the moments themselves; whole numbers are microseconds.

    Raises:
        TooLittleData: a part would be empty.
    """
    first, where = _begins(rows)
    if at is None:
        moments = moments_of(rows, cuts)
    else:
        val, test = (m if isinstance(m, int) else int(m.timestamp() * 1_000_000) for m in at)
        moments = (val, test)
    if moments[0] > moments[1]:
        raise InputError("val must begin before test", mend="give the two moments in order")
    part = np.searchsorted(np.array(moments), first[where], side="right")
    found: dict[Part, Rows] = {
        "train": rows.take(part == 0),
        "val": rows.take(part == 1),
        "test": rows.take(part == 2),
    }
    for name, own in found.items():
        if not len(own):
            raise TooLittleData(
                f"no rows are left for {name} by cuts in time", mend="add rows of other times"
            )
    return found
