"""What the data is: counts, and pictures by category."""

from __future__ import annotations

import numpy as np
import polars as pl

from moonshelf.report.inputs import Findings, mapping
from moonshelf.report.markup import DASH, Html, count, fold, section, sentence, some, table, tag
from moonshelf.report.pictures import Pictures
from moonshelf.shop.shop import Shop

MOSAIC_BUDGET = 1_000_000
_ROWS, _LINE, _ONE_LINE = 12, 11, 4  # categories, tiles a line, categories from which each has one line
_MOST_CATEGORIES = 200
_NONE = "(no category)"


def data_section(found: Findings) -> Html:
    """Tables, products, photos and searches in numbers, then a mosaic by category."""
    check = found.check
    times = mapping(check, "times")
    head = ["table", "file", "rows read", "kept", "rejected", *(["time (UTC)"] if times else [])]
    rows = [
        [
            name,
            tag("code", t.get("file") or DASH),
            count(t.get("read")),
            count(t.get("kept")),
            count(t.get("rejected")),
            *([_span(times.get(name))] if times else []),
        ]
        for name, t in mapping(check, "tables").items()
        if isinstance(t, dict)
    ]
    return section("data", "The data", _facts(found), table(head, rows, left=2), *_mosaic(found.shop))


def _span(times: object) -> str:
    known = isinstance(times, list) and len(times) == 2
    return " to ".join(str(t)[:16] for t in times) if known and isinstance(times, list) else ""


def _facts(found: Findings) -> Html:
    products, images = mapping(found.check, "products"), mapping(found.check, "images")
    boxes = [
        (
            "products",
            products.get("total"),
            f"{count(products.get('without_image'))} without photo, "
            f"{count(products.get('without_text'))} without text",
        ),
        ("usable photos", images.get("ok"), f"{count(images.get('rejected'))} rejected"),
    ]
    searches = found.shop.searches
    if searches is not None:
        photos = len(searches) - searches["query_image_id"].null_count()
        texts = len(searches) - searches["query_text"].null_count()
        boxes.append(("searches", len(searches), f"{photos:,} with a photo, {texts:,} with a text"))
    if found.shop.products is not None:
        names = found.shop.products["category"]
        boxes.append(
            (
                "categories",
                names.drop_nulls().n_unique(),
                f"{count(names.null_count())} products without",
            )
        )
    return tag(
        "dl",
        *(tag("div", tag("dt", a), tag("dd", count(b), tag("small", c))) for a, b, c in boxes),
        class_="facts",
    )


def _level(products: pl.DataFrame) -> pl.DataFrame:
    """``products`` with a column ``group``: the first level of the category path that has several values."""
    parts = pl.col("category").str.split(" > ")
    frame = products
    for depth in (1, 2, 3):
        group = parts.list.head(depth).list.join(" > ").fill_null(_NONE).alias("group")
        frame = products.with_columns(group)
        if frame["group"].n_unique() > 1:
            break
    return frame


def even(values: list[str], wanted: int) -> list[str]:
    """``wanted`` of the values, evenly spread over the list; all of them when there are fewer."""
    if len(values) <= wanted:
        return values
    return [values[int(i)] for i in np.linspace(0, len(values) - 1, wanted)]


def _mosaic(shop: Shop) -> list[Html]:
    if shop.products is None or not len(shop.products):
        return [
            sentence("There is no products table, so there is nothing to show by category.", class_="none")
        ]
    products = _level(shop.products)
    main = products.select("product_id", "group", pl.col("image_ids").list.first().alias("image"))
    groups = (
        main.group_by("group", maintain_order=True)
        .agg(pl.len().alias("n"), pl.col("image").drop_nulls())
        .sort("n", "group", descending=[True, False])
    )
    asked = _asked(shop, main)
    pictures = Pictures(shop.images, MOSAIC_BUDGET)
    blocks = []
    for name, n, images in groups.head(_ROWS).iter_rows():
        queries = asked.get(name, [])
        short = len(groups) > _ONE_LINE or len(images) < 1.4 * _LINE
        each = _LINE if short else 2 * _LINE + 1
        wanted = min(len(queries), (each + 1) // 3)
        tiles = [tag("span", pictures.photo(i), class_="product") for i in even(images, each - wanted)]
        if queries:
            tiles.append(tag("span", class_="gap"))
            tiles += [tag("span", pictures.photo(i), class_="asked") for i in even(queries, wanted)]
        told = f" {some(n, 'product')}" + (f", {some(len(queries), 'query photo')}" if queries else "")
        if not tiles:
            tiles = [tag("span", "no photos", class_="none")]
        blocks.append(
            tag(
                "div",
                tag("h3", name, tag("small", told)),
                tag("div", *tiles, class_="tiles"),
                class_="shelfrow",
            )
        )
    out = [
        tag("h3", "What it looks like"),
        sentence(_legend(len(groups), bool(asked)), class_="small"),
        *blocks,
    ]
    if pictures.skipped:
        out.append(
            sentence(
                f"{count(pictures.skipped)} photos were left out to keep this file small.", class_="small"
            )
        )
    if len(groups) > _ROWS:
        rows = groups.head(_MOST_CATEGORIES).select("group", "n").iter_rows()
        whole = table(
            ["category", "products", "query photos"],
            [[g, count(n), count(len(asked.get(g, [])))] for g, n in rows],
        )
        more = len(groups) - _MOST_CATEGORIES
        last = [sentence(f"and {more:,} more.", class_="small")] if more > 0 else []
        out.append(fold(f"All {len(groups):,} categories", whole, *last))
    return out


def _legend(groups: int, asked: bool) -> str:
    shown = f"The {_ROWS} largest of {groups:,} categories" if groups > _ROWS else "Every category"
    parts = (
        "product photos, then, behind the line, photos that people searched with"
        if asked
        else "product photos"
    )
    return f"{shown}: {parts}. Evenly drawn from the tables, not chosen."


def _asked(shop: Shop, main: pl.DataFrame) -> dict[str, list[str]]:
    if shop.searches is None:
        return {}
    photos = (
        shop.searches.select("product_id", "query_image_id")
        .drop_nulls()
        .unique("query_image_id", maintain_order=True)
    )
    joined = photos.join(main.select("product_id", "group"), on="product_id", maintain_order="left")
    return dict(joined.group_by("group", maintain_order=True).agg("query_image_id").iter_rows())
