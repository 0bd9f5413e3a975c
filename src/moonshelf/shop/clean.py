"""Cleaning of behaviour pairs before posttrain: four filters, each on its own, each saying what it dropped and why.

After MOON (2511.11305, data processing for post-training 2): hardest-query de-duplication, SPU merge, category
re-balancing, entity filter. What the paper leaves open is our design and said in each docstring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from moonshelf.shop.gazetteer import Gazetteer

STRENGTH = {"purchase": 3, "cart": 2, "click": 1}
"""How much an action says; stronger ones stand for a pair that occurs several times."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a filter left, and what it took out with a column ``reason``. Row order is kept in both."""

    kept: pl.DataFrame
    dropped: pl.DataFrame

    def __str__(self) -> str:
        reasons = self.dropped.group_by("reason").len().sort("len", descending=True).iter_rows()
        why = "; ".join(f"{n:,} {reason}" for reason, n in reasons)
        total = len(self.kept) + len(self.dropped)
        return f"{len(self.kept):,} of {total:,} pairs kept" + (f" (dropped: {why})" if why else "")


def merge_spu(pairs: pl.DataFrame, spu_of: Mapping[str, str | None]) -> Cleaned:
    """One pair for each query and design: the one with the strongest action, then the earliest.

    SKUs of one SPU look alike; as several products of one query they would be trained on several times, and in one
    batch they would be each other's negatives.

    Args:
        pairs: ``key`` (of the query), ``product_id``, ``action``.
        spu_of: product id -> design; a product without one is its own.
    """
    design = [spu_of.get(p) or f"\0{p}" for p in pairs["product_id"].to_list()]
    order = (
        pairs.select("key", strength=_strength(pairs))
        .with_columns(pl.Series("design", design))
        .with_row_index("row")
    )
    best = order.sort("strength", "row", descending=[True, False]).unique(["key", "design"], keep="first")
    return _cut(pairs, _among(len(pairs), best["row"]), "same query and design as a kept pair")


def rebalance(
    pairs: pl.DataFrame, category_of: Mapping[str, str], exposure: Mapping[str, float], *, seed: int = 0
) -> Cleaned:
    """Cut categories that the pairs over-represent down to their share of what is shown to users.

    A category keeps ``min(n, max(1, ceil(share * N)))`` of its ``n`` pairs, N all pairs, drawn with ``seed``:
    the head is cut, nothing is repeated (our reading: the paper says the histograms are matched by down-sampling).

    Args:
        pairs: with ``product_id``.
        category_of: product id -> category; unknown ones count as category "".
        exposure: category -> number of times its products were shown, any scale; see ``exposure_histogram``.

    Raises:
        ValueError: nothing was shown.
    """
    total = float(sum(exposure.values()))
    if total <= 0:
        raise ValueError("the exposure histogram is empty: leave re-balancing out")
    rng = np.random.default_rng(seed)
    rows_of: dict[str, list[int]] = {}
    for row, product in enumerate(pairs["product_id"].to_list()):
        rows_of.setdefault(category_of.get(product, ""), []).append(row)
    keep: list[int] = []
    for category in sorted(rows_of):
        rows = rows_of[category]
        most = max(1, int(np.ceil(exposure.get(category, 0.0) / total * len(pairs))))
        keep += rows if len(rows) <= most else rng.choice(rows, most, replace=False).tolist()
    return _cut(pairs, _among(len(pairs), keep), "category beyond its share of exposure")


def exposure_histogram(impressions: pl.DataFrame, category_of: Mapping[str, str]) -> dict[str, float]:
    """Category -> rows of ``impressions``; unknown products count as category ""."""
    counts = impressions.group_by("product_id").len().iter_rows()
    found: dict[str, float] = {}
    for product, n in counts:
        category = category_of.get(product, "")
        found[category] = found.get(category, 0.0) + n
    return dict(sorted(found.items()))


def entity_filter(
    pairs: pl.DataFrame, title_of: Mapping[str, str], gazetteer: Gazetteer, *, least: int = 2
) -> Cleaned:
    """Drop pairs whose query text or product title names fewer than ``least`` things that the shop knows.

    A query of photos alone is judged by the title alone.

    Args:
        pairs: ``query_text`` (may be null), ``product_id``.
        title_of: product id -> title.
        gazetteer: the shop's names.
    """
    texts = {t: len(gazetteer.find(t)) for t in pairs["query_text"].drop_nulls().unique().to_list()}
    titles = {p: len(gazetteer.find(title_of.get(p, ""))) for p in pairs["product_id"].unique().to_list()}
    vague = [t is not None and texts[t] < least for t in pairs["query_text"].to_list()]
    bare = [titles[p] < least for p in pairs["product_id"].to_list()]
    reason = [
        f"query names fewer than {least} known things"
        if v
        else f"title names fewer than {least} known things"
        if b
        else None
        for v, b in zip(vague, bare, strict=True)
    ]
    return _split(pairs, pl.Series("reason", reason, dtype=pl.String))


def hardest_query(pairs: pl.DataFrame, similarity: np.ndarray) -> Cleaned:
    """Of the queries that led to one product keep the one the previous encoder finds least alike.

    Popular products come with many easy queries; the hardest one teaches most. On equal similarity the first
    row stays. The price: queries of one product no longer attract each other.

    Args:
        pairs: with ``product_id``.
        similarity: ``[len(pairs)]`` cosine of query and product by an earlier encoder, finite.

    Raises:
        ValueError: another length, or a value that is not finite.
    """
    if len(similarity) != len(pairs) or not np.isfinite(similarity).all():
        raise ValueError(f"{len(similarity)} similarities for {len(pairs)} pairs, or not all finite")
    frame = pairs.select("product_id").with_columns(pl.Series("score", similarity)).with_row_index("row")
    best = frame.sort("score", "row").unique("product_id", keep="first")
    return _cut(pairs, _among(len(pairs), best["row"]), "an easier query of a product")


def _strength(pairs: pl.DataFrame) -> pl.Expr:
    if "action" not in pairs.columns:
        return pl.lit(1)
    return pl.col("action").replace_strict(STRENGTH, default=1)


def _among(n: int, rows: pl.Series | list[int]) -> np.ndarray:
    keep = np.zeros(n, dtype=bool)
    keep[np.asarray(rows, dtype=np.int64)] = True
    return keep


def _cut(pairs: pl.DataFrame, keep: np.ndarray, reason: str) -> Cleaned:
    return _split(pairs, pl.Series("reason", [None if k else reason for k in keep.tolist()], dtype=pl.String))


def _split(pairs: pl.DataFrame, reason: pl.Series) -> Cleaned:
    return Cleaned(pairs.filter(reason.is_null()), pairs.with_columns(reason).filter(reason.is_not_null()))
