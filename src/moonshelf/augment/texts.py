"""Titles enriched from what else is known of a product: brand, attributes, category, names in the description.

Rules and the shop's own names, no model: the embedded default for the text side of MOON2.0's co-augmentation
(2511.12449, 2.4). Every piece says where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

from moonshelf.shop.gazetteer import Gazetteer
from moonshelf.shop.splits import plain_text
from moonshelf.types import Product

MOST_ATTRIBUTES, MOST_NAMES = 6, 4
LONGEST = 300  # characters of an enriched title


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a made text, and the field it was taken from (``brand``, ``attributes.colour``, ``description``)."""

    text: str
    source: str


def enrich(product: Product, names: Gazetteer) -> list[Piece]:
    """The title, then what it does not say; [] when there is no title or nothing to add.

    Args:
        product: as the shop has it.
        names: what the shop calls its things (``Gazetteer.of_products``).
    """
    title = product.title.strip()
    if not title:
        return []
    said = plain_text(title)
    pieces = [Piece(title, "title")]

    def add(text: str, source: str) -> bool:
        nonlocal said
        text = text.strip()
        plain = plain_text(text)
        if not plain or _says(said, plain) or sum(len(p.text) + 2 for p in pieces) + len(text) > LONGEST:
            return False
        pieces.append(Piece(text, source))
        said += " " + plain
        return True

    add(product.brand, "brand")
    left = MOST_ATTRIBUTES
    for key, value in product.attributes.items():
        if left and value and not value.strip().isdecimal() and add(value, f"attributes.{key}"):
            left -= 1
    add(product.category.rsplit(">", 1)[-1], "category")
    for name in names.find(product.description)[:MOST_NAMES]:
        add(name, "description")
    return pieces if len(pieces) > 1 else []


def written(pieces: list[Piece]) -> str:
    """Pieces as one text: the title, and after a full stop the rest with commas."""
    title, *rest = pieces
    return f"{title.text}. {', '.join(piece.text for piece in rest)}" if rest else title.text


def _says(said: str, plain: str) -> bool:
    """Whether a text names this already: as whole words, or anywhere for Chinese."""
    return plain in said if any("\u3400" <= c <= "\u9fff" for c in plain) else f" {plain} " in f" {said} "
