"""Queries and gallery of the search task: who asks, what is right, what is set aside."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from moonshelf.errors import InputError, TooLittleData
from moonshelf.shelf.embed import BOTH, Modality, product_request
from moonshelf.shelf.stream import Request
from moonshelf.shop.shop import Shop

Kind = Literal["image", "text"]
SpuRule = Literal["mask", "count"]


@dataclass(frozen=True, slots=True)
class Gallery:
    """The products that are searched, ours first, then the distractors.

    Attributes:
        ids: product ids; distractors are ``shop:id``.
        requests: what of each is embedded, in the order of ``ids``.
        shops: ``(shop, first row, last row + 1)``; the photos of these rows come from that shop.
        main: main photo of each row, or None.
        left_out: products with neither usable photo nor text (in the modalities used).
    """

    ids: tuple[str, ...]
    requests: tuple[Request, ...]
    shops: tuple[tuple[Shop, int, int], ...]
    main: tuple[str | None, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Distinct queries of a split.

    Attributes:
        keys: photo id or text of each query.
        requests: the query as it is embedded.
        positives: gallery rows of the products acted on.
        masked: gallery rows set aside (same SPU as a positive, under the rule ``mask``).
        product: product id of the first positive, for clusters and categories.
        category: its category path.
        dropped: queries that were not asked, by reason.
    """

    keys: tuple[str, ...]
    requests: tuple[Request, ...]
    positives: tuple[np.ndarray, ...]
    masked: tuple[np.ndarray, ...]
    product: tuple[str, ...]
    category: tuple[str, ...]
    dropped: dict[str, int] = field(default_factory=dict)


def build_gallery(
    shop: Shop,
    distractors: Sequence[Shop],
    *,
    use: Sequence[Modality] = BOTH,
    max_images: int,
    limit: int | None = None,
    seed: int = 0,
) -> Gallery:
    """All products of ``shop``, then those of the distractors (photos, when a shop has no products).

    Args:
        limit: at most this many rows a distractor shop, drawn with ``seed``.

    Raises:
        InputError: the shop has no products, or one shop is given twice.
    """
    if shop.products is None or not len(shop.products):
        raise InputError("the shop has no products to search", where=shop.name, mend="add a products table")
    marks = [shop.fingerprint, *(d.fingerprint for d in distractors)]
    if len(set(marks)) != len(marks):
        raise InputError("a distractor shop is the shop itself or given twice", mend="name each shop once")
    rng = np.random.default_rng(seed)
    ids: list[str] = []
    requests: list[Request] = []
    main: list[str | None] = []
    left: list[str] = []
    shops: list[tuple[Shop, int, int]] = []
    for number, source in enumerate((shop, *distractors)):
        first, prefix = len(ids), f"{source.name}:" if number else ""
        for name, request, photo in _rows(source, use, max_images, limit if number else None, rng):
            if not request.text and not request.image_ids:
                left.append(prefix + name)
                continue
            ids.append(prefix + name)
            requests.append(request)
            main.append(photo)
        shops.append((source, first, len(ids)))
    return Gallery(tuple(ids), tuple(requests), tuple(shops), tuple(main), tuple(left))


def _rows(
    shop: Shop, use: Sequence[Modality], max_images: int, limit: int | None, rng: np.random.Generator
) -> list[tuple[str, Request, str | None]]:
    bare = shop.products is None or not len(shop.products)
    names = shop.images.ids if bare or shop.products is None else shop.products["product_id"].to_list()
    if limit is not None and len(names) > limit:
        names = [names[i] for i in np.sort(rng.choice(len(names), limit, replace=False))]
    if bare:
        return [(name, Request(None, (name,)), name) for name in names]
    products = [shop.product(name) for name in names]
    return [
        (p.product_id, product_request(p, use, max_images), p.image_ids[0] if p.image_ids else None)
        for p in products
    ]


def build_queries(
    shop: Shop,
    gallery: Gallery,
    *,
    kind: Kind = "image",
    split: str = "test",
    products: Set[str] | None = None,
    spu: SpuRule = "mask",
    limit: int | None = None,
    seed: int = 0,
) -> QuerySet:
    """The distinct query photos (or texts) of a split and what is right for each.

    Right are all products acted on for that photo or text within the split. ``products`` keeps the searches
    whose product is in the set (a product-disjoint test); the gallery stays whole. ``limit`` asks a random
    sample of that many, the same for every encoder.

    Raises:
        TooLittleData: no searches of this kind in the split.
    """
    column = "query_image_id" if kind == "image" else "query_text"
    if kind not in ("image", "text") or spu not in ("mask", "count"):
        raise InputError(f"unknown task {kind!r} with SPU rule {spu!r}", mend="image or text; mask or count")
    if shop.searches is None:
        raise InputError(
            "the shop has no searches to evaluate on", where=shop.name, mend="add a searches table"
        )
    rows = shop.searches.filter((pl.col("split") == split) & pl.col(column).is_not_null())
    if products is not None:
        rows = rows.filter(pl.col("product_id").is_in(list(products)))
    if (
        kind == "text"
    ):  # a text that came with a photo is half a query, and may repeat one that was trained on
        rows = rows.filter((pl.col(column).str.strip_chars() != "") & pl.col("query_image_id").is_null())
    asked = rows.group_by(column, maintain_order=True).agg(pl.col("product_id").unique(maintain_order=True))
    if limit is not None and len(asked) > limit:
        chosen = np.random.default_rng(seed).choice(len(asked), limit, replace=False)
        asked = asked[np.sort(chosen).tolist()]
    row_of = {name: row for row, name in enumerate(gallery.ids)}
    assert shop.products is not None
    facts = shop.products.select("product_id", "spu_id", "category")
    spu_of = {name: design for name, design, _ in facts.iter_rows() if design}
    category_of = {name: category or "" for name, _, category in facts.iter_rows()}
    same_spu: dict[str, list[int]] = {}
    for name, design in spu_of.items():
        if name in row_of:
            same_spu.setdefault(design, []).append(row_of[name])
    kept: list[tuple[str, np.ndarray, np.ndarray, str]] = []
    dropped: dict[str, int] = {}
    for key, names in asked.iter_rows():
        right = [row_of[name] for name in names if name in row_of]
        if kind == "image" and key not in shop.images:
            dropped["query photo not usable"] = dropped.get("query photo not usable", 0) + 1
        elif not right:
            dropped["product not in the gallery"] = dropped.get("product not in the gallery", 0) + 1
        else:
            kin = {row for name in names if name in spu_of for row in same_spu.get(spu_of[name], [])}
            aside = np.array(sorted(kin - set(right)), dtype=np.int64)
            if spu == "count":  # another SKU of the design is as right as the one acted on
                right, aside = [*right, *aside.tolist()], aside[:0]
            first = next(name for name in names if name in row_of)
            kept.append((key, np.array(right, dtype=np.int64), aside, first))
    if not kept:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in dropped.items())
        raise TooLittleData(
            f"no {kind} queries in split {split!r}" + (f" ({reasons})" if reasons else ""),
            where=shop.name,
            mend=f"add searches with {column} and split {split}",
        )
    return QuerySet(
        keys=tuple(k[0] for k in kept),
        requests=tuple(Request(None, (k[0],)) if kind == "image" else Request(k[0]) for k in kept),
        positives=tuple(k[1] for k in kept),
        masked=tuple(k[2] for k in kept),
        product=tuple(k[3] for k in kept),
        category=tuple(category_of[k[3]] for k in kept),
        dropped=dropped,
    )
