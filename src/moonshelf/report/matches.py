"""Heatmaps of a shop's own searches, before and after training, and the deletion test on them: a stage of ``run``.

Three kinds: a photo that found a product's photo, a text that found a photo, a photo that found photo and text. Shops
without searches ask with a product's own title and photo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moonshelf.encoder import CompactEncoder, Item, prepare_photo
from moonshelf.errors import InputError
from moonshelf.evaluation.faithful import deletion_test
from moonshelf.progress import Progress
from moonshelf.report.about_searches import choose
from moonshelf.report.heatmap import SIZE, Side, at_size, heatmap
from moonshelf.shop.images import ImageError
from moonshelf.shop.shop import Shop
from moonshelf.types import Product
from moonshelf.workspace import atomic_folder, digest, write_json, write_manifest

TESTED = 8  # pairs in the deletion test for every pair that is drawn
KINDS = {
    "image": "photo against photo",
    "text": "text against photo",
    "joint": "photo against photo and text",
}
_MARK = "matches.json"


@dataclass(frozen=True, slots=True)
class Match:
    """A query and a product that is right for it."""

    photo: str | None
    text: str | None
    product: Product

    def sides(self, kind: str, shop: Shop) -> tuple[Side, Side]:
        """Query and product as a kind shows them."""
        image = shop.images.decode(self.product.image_ids[0])
        words = self.product.title or None
        if kind == "text":
            return Side(None, self.text), Side(image, None)
        asked = shop.images.decode(self.photo) if self.photo else image
        return Side(asked, None), Side(image, words if kind == "joint" else None)


def draw_matches(
    work: Path,
    shop: Shop,
    encoders: Mapping[str, CompactEncoder],
    examples: Mapping[str, Sequence[dict[str, Any]]],
    *,
    each: int = 2,
) -> Path | None:
    """Write ``work/heatmaps``: PNGs and ``matches.json``; nothing when they are there for these encoders already.

    Args:
        encoders: name -> encoder, the trained one last.
        examples: ``image`` and ``text`` searches as an evaluation keeps them; either may be empty.
        each: pairs drawn of a kind; ``TESTED`` times as many take part in the deletion test.

    Returns:
        The folder; None when the shop has no product with a photo.

    Cost: about a second a pair and encoder, and the deletion test: 12 forward passes at 256 px a pair.
    """
    found = {kind: _matches(shop, kind, examples, each * TESTED) for kind in KINDS}
    if not any(found.values()):
        return None
    folder = work / "heatmaps"
    chosen = {kind: [(m.photo, m.text, m.product.product_id) for m in own] for kind, own in found.items()}
    key = digest([shop.fingerprint, chosen, each, {name: e.version for name, e in encoders.items()}])
    if _key(folder) == key:
        return folder
    last = [*encoders.values()][-1]
    pairs: list[dict[str, Any]] = []
    faithful: dict[str, dict[str, Any]] = {}
    total = sum(min(each, len(own)) + bool(own) for own in found.values())
    with atomic_folder(folder, (_MARK,)) as out, Progress(total, "heatmaps") as bar:
        for kind, own in found.items():
            for number, match in enumerate(own[:each]):
                try:
                    query, product = match.sides(kind, shop)
                except ImageError:  # gone since the audit
                    continue
                file = f"{kind}-{number}.png"
                values = heatmap(encoders, query, product, out / file)
                pairs.append(
                    {
                        "kind": kind, "file": file, "query_text": query.text, "query_image_id": match.photo,
                        "product_id": match.product.product_id,
                        "similarity": {name: v["similarity"] for name, v in values.items()},
                    }
                )  # fmt: skip
                bar.advance()
            if own and (test := _faithful(last, shop, kind, own)):
                faithful[kind] = test
                bar.advance()
        told = {"shop": shop.fingerprint, "pairs": pairs, "faithful": faithful, "encoders": [*encoders]}
        write_json(out / _MARK, told)
        write_manifest(out, stage="heatmaps", inputs={"key": key})
    return folder


def _key(folder: Path) -> str:
    try:
        return str(json.loads((folder / "manifest.json").read_text())["inputs"]["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _matches(
    shop: Shop, kind: str, examples: Mapping[str, Sequence[dict[str, Any]]], most: int
) -> list[Match]:
    """Pairs of a kind, those to draw first: of different categories, the same ones each time."""
    assert shop.products is not None
    asked = list(examples.get("text" if kind == "text" else "image", ()))
    if not asked:  # products ask for themselves
        ids = shop.products["product_id"].to_list()
        sample = np.sort(np.random.default_rng(0).permutation(len(ids))[: 8 * most])
        asked = [{"query_id": ids[i], "positives": [ids[i]]} for i in sample]
    found: list[Match] = []
    for example in choose(asked, min(len(asked), 4 * most), lambda e: _category(shop, e)):
        product = _product(shop, example)
        if product is None or not product.image_ids or product.image_ids[0] not in shop.images:
            continue
        photo, text = example.get("query_image_id"), example.get("query_text")
        if photo is None and text is None:
            photo, text = product.image_ids[-1], product.title or None
        if kind == "text" and not text:
            continue
        if kind != "text" and (photo is None or photo not in shop.images):
            continue
        if kind == "joint" and not product.title:
            continue
        if kind == "image" and photo == product.image_ids[0]:  # a photo against itself says nothing
            continue
        found.append(Match(photo, text, product))
        if len(found) == most:
            break
    return found


def _product(shop: Shop, example: dict[str, Any]) -> Product | None:
    right = example.get("positives")
    try:
        return shop.product(str(right[0])) if isinstance(right, list) and right else None
    except InputError:  # of another shop
        return None


def _category(shop: Shop, example: dict[str, Any]) -> str:
    product = _product(shop, example)
    return product.category if product else ""


def _faithful(encoder: CompactEncoder, shop: Shop, kind: str, matches: Sequence[Match]) -> dict[str, Any]:
    """The deletion test of the products' photos against what asked for them; {} where it cannot be made.

    Encoders that look at core regions are left out: blurring a part of the whole photo leaves it sharp in its core.
    """
    if encoder.config.core:
        return {}
    with at_size(encoder, SIZE):
        items: list[Item] = []
        asked: list[Item] = []
        for match in matches:
            try:
                query, product = match.sides(kind, shop)
            except ImageError:  # gone since the audit
                continue
            assert product.image is not None
            look = [
                prepare_photo(one, SIZE, core=False) if one is not None else ()
                for one in (query.image, product.image)
            ]
            asked.append(Item(query.text, look[0]))
            items.append(Item(product.text, look[1]))
        if not items:
            return {}
        found = deletion_test(encoder, items, encoder.encode(asked))
    return {name: getattr(found, name).as_dict() for name in ("top", "random", "ratio")}
