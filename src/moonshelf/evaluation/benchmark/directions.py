"""Nine retrieval directions: text, photo and both, against text, photo and both (MBE2.0, 2511.12449, has five).

Queries come from the shop's searches, or, where there are none, from products that ask for themselves (made data: a
title, a photo). A gallery never shows the very text or photo that asks: beside a query with a title it shows what else
is written about the product, and a query with a photo against photos is a later photo of the product, or a made view of
the one it has.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from moonshelf.errors import TooLittleData
from moonshelf.evaluation.benchmark.inputs import Source, rest_text, whole_text
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text
from moonshelf.types import Product

View = Literal["text", "image", "joint"]
SIDES: tuple[View, ...] = ("text", "image", "joint")
DIRECTIONS: tuple[tuple[View, View], ...] = tuple((a, b) for a in SIDES for b in SIDES)


@dataclass(frozen=True, slots=True)
class Direction:
    """One retrieval task.

    Attributes:
        query, against: the views on either side.
        queries, gallery: what is embedded.
        positives, masked: for each query rows of the gallery that are right, and that count neither way (another SKU
            of the design; a row that looks just like a right one).
        products: the product of each query, for clusters.
        made: how many of the queries nobody asked.
        left_out: queries that this direction cannot ask, by reason.
        own: products ask for themselves; all queries are made.
    """

    query: View
    against: View
    queries: tuple[Source, ...]
    gallery: tuple[Source, ...]
    positives: tuple[np.ndarray, ...]
    masked: tuple[np.ndarray, ...]
    products: tuple[str, ...]
    made: int
    left_out: dict[str, int]
    own: bool

    @property
    def name(self) -> str:
        """``text>joint`` and so on."""
        return f"{self.query}>{self.against}"


@dataclass(frozen=True, slots=True)
class Question:
    """A query in the views that it has, and the products that are right; ``own``: a product asks for itself."""

    text: str | None
    photo: str | None
    right: tuple[str, ...]
    own: bool = False
    made_pair: bool = False  # text and photo come from two searches


def questions_of_searches(shop: Shop, split: str, limit: int | None, seed: int) -> dict[View, list[Question]]:
    """Searches of a split by view; where none has both, a text and a photo that led to one product are paired."""
    assert shop.searches is not None
    rows = shop.searches.filter(pl.col("split") == split)
    found: dict[View, list[Question]] = {"text": [], "image": [], "joint": []}
    asked = ["query_text", "query_image_id"]
    together = rows.group_by(asked, maintain_order=True).agg(pl.col("product_id").unique(maintain_order=True))
    for text, photo, right in together.iter_rows():
        text = text if text and text.strip() else None
        photo = photo if photo is not None and photo in shop.images else None
        if text or photo:
            view: View = "joint" if text and photo else "text" if text else "image"
            found[view].append(Question(text, photo, tuple(right)))
    if not found["joint"]:
        said: dict[str, str] = {}
        for one in found["text"]:
            for product_id in one.right:
                said.setdefault(product_id, one.text or "")
        seen: set[str] = set()
        for one in found["image"]:
            mate = next((p for p in one.right if p in said and p not in seen), None)
            if mate is not None:
                seen.add(mate)
                found["joint"].append(Question(said[mate], one.photo, (mate,), made_pair=True))
    return {view: _sample(questions, limit, seed) for view, questions in found.items()}


def questions_of_products(shop: Shop, products: Sequence[str]) -> list[Question]:
    """Products that ask for themselves: with their title, and a later photo or the one that they have."""
    out = []
    for product_id in products:
        product = shop.product(product_id)
        photos = product.image_ids
        photo = photos[min(1, len(photos) - 1)] if photos else None
        out.append(Question(product.title or None, photo, (product_id,), own=True))
    return out


def build_directions(
    shop: Shop,
    *,
    split: str = "test",
    products: Set[str] | None = None,
    ask: Literal["searches", "products"] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[Direction]:
    """All directions that the shop can be asked in.

    Args:
        split: of the searches.
        products: these are asked for. Where products ask, they are the gallery too; else it is the whole shop.
        ask: who asks; default: searches where the split has any.
        limit: at most so many queries a view, a random sample that is the same for every encoder.
        seed: of the sample.

    Raises:
        TooLittleData: nothing can be asked.
    """
    assert shop.products is not None
    ids = shop.products["product_id"].to_list()
    has = shop.searches is not None and bool((shop.searches["split"] == split).any())
    ask = ask or ("searches" if has else "products")
    by_view: dict[View, list[Question]]
    if ask == "searches" and has:
        by_view = questions_of_searches(shop, split, limit, seed)
        if products is not None:
            by_view = {v: [q for q in qs if products & set(q.right)] for v, qs in by_view.items()}
        shown = ids
    else:
        shown = [p for p in ids if products is None or p in products]
        if limit is not None and len(shown) > limit:
            chosen = np.sort(np.random.default_rng(seed).choice(len(shown), limit, replace=False))
            shown = [shown[i] for i in chosen]
        own = questions_of_products(shop, shown)
        by_view = {
            "text": [q for q in own if q.text],
            "image": [q for q in own if q.photo],
            "joint": [q for q in own if q.text and q.photo],
        }
    items = [shop.product(p) for p in shown]
    groups = shop.leak_groups()
    made = [_direction(query, against, by_view[query], items, groups) for query, against in DIRECTIONS]
    made = [one for one in made if len(one.queries) and len(one.gallery) > 1]
    if not made:
        raise TooLittleData(
            "there is nothing to ask this shop", where=shop.name, mend="add titles and photos, or searches"
        )
    return made


def _direction(
    query: View,
    against: View,
    questions: Sequence[Question],
    items: Sequence[Product],
    groups: dict[str, int],
) -> Direction:
    own = bool(questions) and questions[0].own
    titled = own and query != "image"  # the title asks: the gallery shows the rest
    same_photo = own and query != "text" and against != "text"  # a photo asks photos
    gallery: list[Source] = []
    row: dict[str, int] = {}
    for item in items:
        tell = rest_text if titled else whole_text
        text = tell(item) if against != "image" else ""
        photo = item.image_ids[0] if item.image_ids and against != "text" else None
        lacking = (against != "image" and not text) or (against != "text" and photo is None)
        partly = (
            against == "joint" and bool(text or photo) and not own
        )  # a real gallery has such products, too
        if lacking and not partly:
            continue
        row[item.product_id] = len(gallery)
        gallery.append(Source(text or None, photo, marked=tell(item, marked=True) if text else ""))
    alike: dict[object, list[int]] = {}
    for item in items:
        if item.product_id in row:
            at = row[item.product_id]
            group = groups.get(item.product_id)
            for key in (
                ("group", group) if group is not None else None,
                gallery[at],
                _title(item, query, own),
            ):
                if key is not None:
                    alike.setdefault(key, []).append(at)
    by_id = {item.product_id: item for item in items}
    queries, positives, masked, products = [], [], [], []
    left_out: dict[str, int] = {}
    for one in questions:
        right = sorted({row[p] for p in one.right if p in row})
        if not right:
            left_out["its product cannot be shown so"] = left_out.get("its product cannot be shown so", 0) + 1
            continue
        photo = None if query == "text" else one.photo
        views_alone = same_photo and photo is not None and photo == gallery[right[0]].photo
        queries.append(Source(None if query == "image" else one.text, photo, made=views_alone))
        aside: set[int] = set()
        for product_id in one.right:
            if product_id in row:
                item = by_id[product_id]
                group = groups.get(product_id)
                for key in (
                    ("group", group) if group is not None else None, gallery[row[product_id]], _title(item, query, own)
                ):  # fmt: skip
                    aside |= set(alike.get(key, ())) if key is not None else set()
        positives.append(np.array(right, dtype=np.int64))
        masked.append(np.array(sorted(aside - set(right)), dtype=np.int64))
        products.append(next(p for p in one.right if p in row))
    made = len(queries) if own else sum(q.made_pair for q in questions if set(q.right) & set(row))
    return Direction(
        query,
        against,
        tuple(queries),
        tuple(gallery),
        tuple(positives),
        tuple(masked),
        tuple(products),
        made,
        left_out,
        own,
    )


def _title(item: Product, query: View, own: bool) -> object:
    """Products of one title are not told apart by it."""
    plain = plain_text(item.title)
    return ("title", plain) if own and query == "text" and plain else None


def _sample(questions: list[Question], limit: int | None, seed: int) -> list[Question]:
    if limit is None or len(questions) <= limit:
        return questions
    return [
        questions[i]
        for i in np.sort(np.random.default_rng(seed).choice(len(questions), limit, replace=False))
    ]
