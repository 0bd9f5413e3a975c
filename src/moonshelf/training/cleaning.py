"""The filters of ``shop.clean`` over the pairs of one shop, each with the line that it leaves in the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from moonshelf.errors import InputError
from moonshelf.shop.clean import Cleaned, entity_filter, exposure_histogram, merge_spu, rebalance
from moonshelf.shop.gazetteer import Gazetteer
from moonshelf.shop.shop import Shop

Filter = Literal["spu", "rebalance", "entities", "hardest"]


def clean_pairs(
    pairs: pl.DataFrame,
    shop: Shop,
    filters: Sequence[Filter],
    *,
    seed: int,
    required: bool,
    stage: str = "posttrain",
) -> tuple[pl.DataFrame, list[str], list[pl.DataFrame]]:
    """Run filters in the order given; ``hardest`` is left to ``SearchPairs.keep_hardest``, as it needs an encoder.

    Args:
        pairs: ``key``, ``product_id``, ``action``, ``query_text``.
        shop: whose products and impressions the filters look at.
        seed: of the re-balancing.
        required: a filter that the shop's tables do not allow is an error, not a line.
        stage: whose settings an error names.

    Returns:
        What is left, a line a filter, and what each filter dropped: the rows of ``pairs`` with ``shop``, ``filter``
        and ``reason``.

    Raises:
        InputError: no impressions to re-balance by, no names to look for.
    """
    lines: list[str] = []
    dropped: list[pl.DataFrame] = []
    if shop.products is None:
        return pairs, lines, dropped
    columns = dict(
        zip(
            ("spu", "category", "title"),
            (
                dict(shop.products.select("product_id", name).iter_rows())
                for name in ("spu_id", "category", "title")
            ),
            strict=True,
        )
    )
    for name in filters:
        lacking = ""
        if name == "spu":
            found = merge_spu(pairs, columns["spu"])
        elif name == "rebalance":
            lacking = "" if shop.impressions is not None and len(shop.impressions) else "impressions"
            if not lacking:
                assert shop.impressions is not None
                categories = {p: c or "" for p, c in columns["category"].items()}
                shown = exposure_histogram(shop.impressions, categories)
                found = rebalance(pairs, categories, shown, seed=seed)
        elif name == "entities":
            gazetteer = Gazetteer.of_products(shop.products)
            lacking = "" if len(gazetteer) else "brands, categories or attributes"
            if not lacking:
                found = entity_filter(pairs, {p: t or "" for p, t in columns["title"].items()}, gazetteer)
        else:
            continue
        if lacking and required:
            raise InputError(
                f"the filter {name} needs {lacking}, which this shop does not have",
                where=str(shop.source),
                mend=f"take {name} out of {stage}.clean",
            )
        lines.append(f"clean, {name}, {shop.name}: {f'left out, no {lacking}' if lacking else found}")
        if not lacking:
            pairs = found.kept
            dropped.append(named(found, name, shop.name))
    return pairs, lines, dropped


def named(found: Cleaned, name: str, shop: str) -> pl.DataFrame:
    """The pairs that a filter dropped, with its name and the shop's: what ``dropped.parquet`` of a stage holds."""
    asked = ("product_id", "query_image_id", "query_text", "action", "reason")
    have = [name for name in asked if name in found.dropped.columns]
    return found.dropped.select(pl.lit(shop).alias("shop"), pl.lit(name).alias("filter"), *have)
