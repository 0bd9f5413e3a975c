"""Who asks in posttrain: searches, products that a user acted on before another one, products for themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from moonshelf.encoder import product_text
from moonshelf.progress import say
from moonshelf.shop.follows import item_pairs, train_until
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text, query_keys

Photos = Callable[[str], tuple[str, ...]]
"""Product id -> the photos of it that may be used."""
OWN = "own"  # in place of an action: nobody acted
COLUMNS = pl.Schema(
    dict.fromkeys(("product_id", "query_image_id", "query_text", "key", "action", "asked"), pl.String())
)
"""A pair: the right product, photo and text of the query, its key, the action, the product that asks where one does."""


def from_searches(shop: Shop, pictures: dict[str, int]) -> pl.DataFrame:
    """The searches of split train that ask with a photo or a text; the key tells equal queries."""
    if shop.searches is None:
        return pl.DataFrame(schema=COLUMNS)
    frame = shop.searches.with_columns(query_keys(shop.searches, pictures)).filter(
        (pl.col("split") == "train")
        & (pl.col("query_image_id").is_not_null() | pl.col("query_text").is_not_null())
    )
    asked = pl.lit(None, dtype=pl.String).alias("asked")
    return frame.select("product_id", "query_image_id", "query_text", "key", "action", asked)


def from_events(shop: Shop, designs: Mapping[str, int], photos: Photos) -> pl.DataFrame:
    """Products that a user acted on right before another one, with what they have: first photo, whole text.

    Left out: variants of one design, as they say nothing about what goes together, and products with neither.

    Args:
        designs: product id -> design.
    """
    if shop.events is None:
        return pl.DataFrame(schema=COLUMNS)
    rows = item_pairs(shop.events, before=train_until(shop.events, shop.searches))
    found: list[tuple[str, str | None, str | None, str, str, str]] = []
    bare = 0
    for asked, product_id, action in rows.iter_rows():
        if asked not in designs or product_id not in designs or designs[asked] == designs[product_id]:
            continue
        shown, text = photos(asked), product_text(shop.product(asked))
        if shown or text:
            found.append((product_id, shown[0] if shown else None, text or None, f"p:{asked}", action, asked))
        else:
            bare += 1
    say(
        f"product to product, {shop.name}: {len(found):,} pairs from {len(shop.events):,} events"
        + (f" ({bare:,} whose first product has neither photo nor text left out)" if bare else "")
    )
    return pl.DataFrame(found, schema=COLUMNS, orient="row")


def from_products(shop: Shop, photos: Photos) -> pl.DataFrame:
    """Every product as the query for itself: a later photo where there is one, and its title. Made data."""
    assert shop.products is not None
    found: list[tuple[str, str | None, str | None, str, str, str]] = []
    for product_id in shop.products["product_id"].to_list():
        shown, product = photos(product_id), shop.product(product_id)
        photo, text = shown[min(1, len(shown) - 1)] if shown else None, product.title or None
        if photo or text:
            found.append((product_id, photo, text, f"o:{product_id}", OWN, product_id))
    return pl.DataFrame(found, schema=COLUMNS, orient="row")


def namesakes(rows: pl.DataFrame) -> pl.DataFrame:
    """For queries of products for themselves: all products of the same title, which are not wrong answers to it.

    Returns:
        ``key``, ``product_id``.
    """
    own = rows.filter(pl.col("action") == OWN)
    titles = pl.Series("title", [plain_text(text) for text in own["query_text"]], dtype=pl.String)
    own = own.select("key", "product_id", titles).filter(pl.col("title") != "")
    return own.select("key", "title").join(own.select("title", "product_id"), on="title").drop("title")
