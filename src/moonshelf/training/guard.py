"""What no training may see, in any of the shops that take part: the queries of val and test, and creatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text


def held_searches(shop: Shop) -> pl.DataFrame | None:
    """The searches of val and test; None when there is no table."""
    return None if shop.searches is None else shop.searches.filter(pl.col("split") != "train")


def held_photos(shop: Shop, *, creatives: bool = True) -> set[str]:
    """Query photos of val and test; creatives too, since their splits belong to later stages."""
    searches = held_searches(shop)
    held: set[str] = set() if searches is None else set(searches["query_image_id"].drop_nulls())
    if creatives and shop.creatives is not None:
        held |= set(shop.creatives["image_id"].drop_nulls())
    return held


def held_hashes(shops: Sequence[Shop], *, creatives: bool = True) -> frozenset[str]:
    """SHA-256 of those photos, to find the same bytes in any shop."""
    found: set[str] = set()
    for shop in shops:
        rows = shop.images.table.filter(
            pl.col("image_id").is_in(list(held_photos(shop, creatives=creatives)))
        )
        found |= set(rows["sha256"].drop_nulls())
    return frozenset(found)


def barred_photos(shop: Shop, hashes: Iterable[str]) -> set[str]:
    """Photos of a shop with one of these contents, and their near duplicates."""
    pictures = shop.images.table.filter(pl.col("status") == "ok").select("image_id", "near_group", "sha256")
    unsafe = pictures.filter(pl.col("sha256").is_in(list(hashes)))
    return set(pictures.filter(pl.col("near_group").is_in(unsafe["near_group"].implode()))["image_id"])


def held_texts(shops: Sequence[Shop]) -> frozenset[str]:
    """Query texts of val and test (of queries without photo) in their plain form."""
    found: set[str] = set()
    for shop in shops:
        searches = held_searches(shop)
        if searches is not None:
            rows = searches.filter(pl.col("query_image_id").is_null())
            found |= {plain_text(text) for text in rows["query_text"].drop_nulls()}
    return frozenset(found)
