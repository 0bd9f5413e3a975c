"""Rows that point at other tables: at products that must exist, at images that must be usable."""

from __future__ import annotations

import polars as pl

from moonshelf.shop.schema import ROW
from moonshelf.shop.tables import reject_rows

Cleaned = tuple[pl.DataFrame, pl.DataFrame]
"""(kept rows, reject lines)."""


def known_products(name: str, frame: pl.DataFrame, products: pl.DataFrame) -> Cleaned:
    """Rows of ``frame`` whose ``product_id`` is in ``products``.

    A creative without a known product stays, its ``product_id`` becomes null; other tables lose the row.
    """
    known = frame["product_id"].is_in(products["product_id"].implode())
    bad = (~known).fill_null(False)
    if name != "creatives":
        lines = reject_rows(name, frame.filter(bad), "product_id", "unknown product_id", value="product_id")
        return frame.filter(~bad), lines
    lines = reject_rows(
        name, frame.filter(bad), "product_id", "unknown product_id", value="product_id", kept=True
    )
    return frame.with_columns(pl.when(known).then(pl.col("product_id")).otherwise(None)), lines


def _why(index: pl.DataFrame) -> pl.DataFrame:
    """image_id -> reason (null when usable)."""
    return index.select(
        pl.col("image_id").alias("__image"), pl.col("reason").alias("__reason"), pl.lit(True).alias("__known")
    )


_REASON = pl.when(pl.col("__known").is_null()).then(pl.lit("missing")).otherwise(pl.col("__reason"))


def usable_images(products: pl.DataFrame, index: pl.DataFrame) -> Cleaned:
    """Keep only usable ids in ``image_ids``, in order; every id that goes is on record, the product stays."""
    each = products.select(ROW, pl.col("image_ids").alias("__image")).explode("__image").drop_nulls("__image")
    each = each.join(_why(index), on="__image", how="left", maintain_order="left").with_columns(
        _REASON.alias("__reason")
    )
    bad = each.filter(pl.col("__reason").is_not_null())
    lines = reject_rows(
        "products", bad, "image_ids", pl.concat_str(pl.lit("image: "), "__reason"), value="__image", kept=True
    )
    good = each.filter(pl.col("__reason").is_null()).unique([ROW, "__image"], maintain_order=True)
    lists = good.group_by(ROW, maintain_order=True).agg(pl.col("__image").alias("__ids"))
    joined = products.join(lists, on=ROW, how="left", maintain_order="left")
    ids = pl.col("__ids").fill_null(pl.lit([], dtype=pl.List(pl.String)))
    return joined.with_columns(ids.alias("image_ids")).drop("__ids"), lines


def usable_image(name: str, frame: pl.DataFrame, index: pl.DataFrame, image: str, text: str) -> Cleaned:
    """One image and one text column: a bad image becomes null where there is text, else the row goes."""
    joined = frame.join(_why(index), left_on=image, right_on="__image", how="left", maintain_order="left")
    joined = joined.with_columns(
        pl.when(pl.col(image).is_null()).then(None).otherwise(_REASON).alias("__reason")
    )
    bad, spoken = pl.col("__reason").is_not_null(), pl.col(text).is_not_null()
    reason = pl.concat_str(pl.lit("image: "), "__reason")
    lines = [
        reject_rows(name, joined.filter(bad & ~spoken), image, reason, value=image),
        reject_rows(name, joined.filter(bad & spoken), image, reason, value=image, kept=True),
    ]
    kept = joined.filter(~bad | spoken).with_columns(
        pl.when(bad).then(None).otherwise(pl.col(image)).alias(image)
    )
    return kept.drop("__reason", "__known"), pl.concat(lines)
