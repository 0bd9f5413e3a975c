"""Who is trained on and who is tested on: splits without leakage.

An explicit ``split`` column wins. Else a global cut in time, 80/10/10. Else a seeded hash of the
query. Duplicates of one query (photo or text) never straddle: where the user's own split lets them, the
row of the less protected side (train before val before test) is taken out, and counted.

A *product* may be searched for on both sides: tomorrow's queries ask for today's products, and that is
what the main figure measures. ``product_disjoint`` is the other question (designs never trained on); it
keeps one ``spu_id`` and shared photos on one side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from moonshelf.shop.duplicates import Sets

CUTS = (0.8, 0.9)  # train below the first, val below the second, test above


@dataclass(frozen=True, slots=True)
class Assigned:
    """A frame whose ``split`` is filled, how that was done (explicit, time, hash, none), and notes."""

    frame: pl.DataFrame
    how: str
    notes: tuple[str, ...] = ()


def assign_splits(
    frame: pl.DataFrame, key: pl.Series, *, seed: int = 0, cuts: tuple[float, float] = CUTS
) -> Assigned:
    """Fill the column ``split`` with train/val/test.

    Args:
        frame: has ``split`` (used when any value is there) and, for a cut in time, ``time``.
        key: one value a row; rows of one key always share a split (a query; its photo's duplicate group).
        seed: of the hash, used only where there is neither split nor time.
        cuts: shares at which val and test begin.

    Returns:
        The frame in the same order. In time: a key counts at its first time; the cuts are the times at
        80% and 90% of the keys, equal times stay together; undated rows go to train, with a note.
    """
    name = "split"
    if len(frame) == 0:
        return Assigned(frame, "none")
    if frame[name].is_not_null().any():
        return Assigned(frame, "explicit")
    if "time" in frame.columns and frame["time"].is_not_null().any():
        timed = _by_time(frame, key, cuts)
        if timed is not None:
            undated = int(frame["time"].null_count())
            note = (f"{undated} rows without a time were put into train",) if undated else ()
            return Assigned(frame.with_columns(timed.alias(name)), "time", note)
    known = {k: hash_split(str(k), seed, cuts) for k in key.unique().to_list()}
    values = pl.Series(name, [known[k] for k in key.to_list()], dtype=pl.String)
    return Assigned(frame.with_columns(values), "hash")


def hash_split(key: str, seed: int = 0, cuts: tuple[float, float] = CUTS) -> str:
    """train/val/test of a key: the first 8 bytes of SHA-256 of ``"seed:key"`` as a share of 2^64."""
    share = int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:8], "big") / 2**64
    return "train" if share < cuts[0] else "val" if share < cuts[1] else "test"


def _by_time(frame: pl.DataFrame, key: pl.Series, cuts: tuple[float, float]) -> pl.Series | None:
    """Split by the first time of each key; None when all times are equal (nothing to cut)."""
    first = pl.DataFrame({"key": key, "time": frame["time"]}).select(pl.col("time").min().over("key"), "key")
    whole = first.unique("key")["time"].drop_nulls().sort()
    at = [whole[min(int(cut * len(whole)), len(whole) - 1)] for cut in cuts]
    if whole[0] >= at[0]:
        return None
    time = pl.col("time")
    split = pl.when(time.is_null() | (time < at[0])).then(pl.lit("train"))
    return first.select(split.when(time < at[1]).then(pl.lit("val")).otherwise(pl.lit("test"))).to_series()


def query_keys(searches: pl.DataFrame, image_groups: Mapping[str, int]) -> pl.Series:
    """One key a row of ``searches``: the duplicate group of its photo, else its text, else its ``query_id``.

    Texts that differ only in case, width of characters or spaces are one query.
    """
    groups = [image_groups.get(i) if i is not None else None for i in searches["query_image_id"].to_list()]
    ids, texts = searches["query_id"].to_list(), searches["query_text"].to_list()
    return pl.Series(
        "key",
        [
            f"g:{group}" if group is not None else f"t:{text}" if (text := plain_text(raw)) else f"q:{query}"
            for query, group, raw in zip(ids, groups, texts, strict=True)
        ],
        dtype=pl.String,
    )


def creative_keys(creatives: pl.DataFrame, products: pl.DataFrame | None) -> pl.Series:
    """One key a row of ``creatives``: its test, else the design of its product (or the product), else itself.

    Tests that share a design, directly or by others, have the first name of theirs, and so have creatives of that
    design without a test. Where more than half of all tests hang together the product says nothing (one for a whole
    site), and tests stay apart.
    """
    test, product, own = (
        pl.concat_str(pl.lit(c), name).alias(name)
        for c, name in zip("tpc", ("test_id", "product_id", "creative_id"), strict=True)
    )
    named = creatives.select(test, product, own)
    if products is not None:
        designs = products.select("product_id", pl.concat_str(pl.lit("s"), "spu_id").alias("design"))
        asked = creatives.select("product_id").join(
            designs, on="product_id", how="left", maintain_order="left"
        )
        named = named.with_columns(pl.coalesce(asked["design"], "product_id").alias("product_id"))
    tests = sorted(named["test_id"].drop_nulls().unique().to_list())
    place, sets, first = {name: i for i, name in enumerate(tests)}, Sets(len(tests)), dict[str, int]()
    for name, design in named.select("test_id", "product_id").drop_nulls().unique().iter_rows():
        sets.join(first.setdefault(design, place[name]), place[name])
    roots = [sets.find(i) for i in range(len(tests))]
    if roots and max(Counter(roots).values()) > len(tests) / 2:
        roots, first = list(range(len(tests))), {}
    keys = []
    for name, design, itself in named.iter_rows():
        at = place[name] if name is not None else first.get(design)
        keys.append(tests[roots[at]] if at is not None else design if design is not None else itself)
    return pl.Series("key", keys, dtype=pl.String)


def plain_text(text: str | None) -> str:
    """A text as a key: NFKC, folded case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text or "").casefold().split())


def _protected(searches: pl.DataFrame, image_groups: Mapping[str, int]) -> pl.DataFrame:
    """``split`` and, a row, whether its photo or its query is in val, in test."""
    frame = pl.DataFrame(
        {"key": query_keys(searches, image_groups), "query": searches["query_id"], "split": searches["split"]}
    )

    def inside(split: str) -> pl.Expr:
        chosen = pl.col("split") == split
        return chosen.any().over("key") | chosen.any().over("query")

    return frame.select("split", inside("val").alias("val"), inside("test").alias("test"))


def count_leaks(searches: pl.DataFrame, image_groups: Mapping[str, int]) -> dict[str, int]:
    """Rows whose query photo (or query) is also in a more protected split, e.g. ``{"train in test": 3}``."""
    if len(searches) == 0:
        return {"train in val": 0, "train in test": 0, "val in test": 0}
    at = _protected(searches, image_groups)
    train, val = pl.col("split") == "train", pl.col("split") == "val"
    counts = at.select(
        (train & pl.col("val")).sum().alias("train in val"),
        (train & pl.col("test")).sum().alias("train in test"),
        (val & pl.col("test")).sum().alias("val in test"),
    )
    return {name: int(counts[name][0]) for name in counts.columns}


def drop_leaks(searches: pl.DataFrame, image_groups: Mapping[str, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take out train rows that repeat a val or test query, and val rows that repeat a test query.

    The test side is never touched. A repeat is the same ``query_id``, the same text (of a query
    without photo), or a photo of the same duplicate group (same bytes, or the same picture in another size).

    Args:
        searches: with ``query_id``, ``query_text``, ``query_image_id``, ``split``.
        image_groups: image id -> duplicate group (``near_group`` of the audit).

    Returns:
        (kept rows, dropped rows with a column ``reason``).
    """
    if len(searches) == 0:
        return searches, searches.with_columns(pl.lit(None, pl.String).alias("reason"))
    at = _protected(searches, image_groups)
    reason = at.select(
        pl.when((pl.col("split") != "test") & pl.col("test"))
        .then(pl.lit("duplicate of a test query"))
        .when((pl.col("split") == "train") & pl.col("val"))
        .then(pl.lit("duplicate of a val query"))
        .otherwise(None)
        .cast(pl.String)
        .alias("reason")
    )["reason"]
    return searches.filter(reason.is_null()), searches.with_columns(reason).filter(reason.is_not_null())


def product_disjoint(
    product_ids: Sequence[str], groups: Mapping[str, int], fraction: float, seed: int = 0
) -> frozenset[str]:
    """Products to hold out so that no design is on both sides.

    Groups (one ``spu_id``, shared photos: ``Shop.leak_groups``) are taken whole, in a seeded order, as
    long as they fit into ``round(fraction * N)`` products.

    Args:
        product_ids: the catalogue.
        groups: product id -> group; a product without one stands alone.
        fraction: share of the products to hold out, 0 < fraction < 1.
        seed: of the order.

    Returns:
        The held-out product ids, at most ``round(fraction * N)`` and at least one whole group.

    Raises:
        ValueError: ``fraction`` is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"fraction must be between 0 and 1, not {fraction}")
    members: dict[object, list[str]] = {}
    for product_id in sorted(set(product_ids)):
        members.setdefault(groups.get(product_id, product_id), []).append(product_id)
    bundles = sorted(members.values())
    want = round(fraction * sum(map(len, bundles)))
    held: list[str] = []
    for i in np.random.default_rng(seed).permutation(len(bundles)):
        if len(held) + len(bundles[i]) <= want:
            held += bundles[i]
    if not held and bundles:
        held = min(bundles, key=len)
    return frozenset(held)
