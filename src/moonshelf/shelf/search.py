"""Search a shelf by text, by photo or by both, and print what was found."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moonshelf.encoder.core import prepare_photo
from moonshelf.encoder.inputs import Item, Pixels
from moonshelf.errors import InputError
from moonshelf.shelf.index import Index, allowed_rows, build_index
from moonshelf.shelf.store import Shelf
from moonshelf.shelf.stream import Embedder
from moonshelf.shelf.vectors import cut
from moonshelf.shop.decode import read_image

TITLE_WIDTH, CATEGORY_WIDTH = 44, 32


@dataclass(frozen=True, slots=True)
class Hit:
    """One product found. ``score`` is the cosine; ``image_id`` is its main photo, if it has one."""

    rank: int
    product_id: str
    score: float
    title: str
    category: str
    price: float | None
    image_id: str | None


def search(
    shelf: Shelf,
    encoder: Embedder,
    *,
    text: str | None = None,
    image: Image.Image | str | Path | None = None,
    k: int = 10,
    category: str | None = None,
    price: tuple[float | None, float | None] | None = None,
    index: Index | None = None,
) -> list[Hit]:
    """The ``k`` products nearest to a text, a photo, or both as one query.

    Args:
        image: a picture, or the path of a file.
        category: keep this category and those below it, see ``index.allowed_rows``.
        price: lowest and highest price, None = open.
        index: an index over ``shelf`` that is used again; None builds one (exact for small shelves).

    Raises:
        InputError: no query, a file that is no photo, an encoder of another version than the shelf's.
    """
    if k < 1:
        raise InputError(f"cannot show {k} products", where="k", mend="give a number of at least 1")
    query = query_vector(shelf, encoder, text=text, image=image)[None]
    found = index or build_index(shelf)
    scores, rows = found.search(query, min(k, max(len(shelf), 1)), allowed_rows(shelf, category, price))
    pairs = [(float(s), int(r)) for s, r in zip(scores[0], rows[0], strict=True) if r >= 0]
    return [
        _hit(rank, score, shelf.products.row(row, named=True)) for rank, (score, row) in enumerate(pairs, 1)
    ]


def query_vector(
    shelf: Shelf, encoder: Embedder, *, text: str | None = None, image: Image.Image | str | Path | None = None
) -> np.ndarray:
    """``[dim]`` unit vector of a text, a photo, or both as one query, to be compared with a shelf.

    Raises:
        InputError: no query, a file that is no photo, an encoder of another version than the shelf's.
    """
    text = (text or "").strip() or None
    if text is None and image is None:
        raise InputError("there is nothing to search for", mend="give a text, a photo or both")
    if encoder.version != shelf.encoder_version:
        raise InputError(
            f"the shelf was made by encoder {shelf.encoder_version}, this is {encoder.version}",
            where=str(shelf.path),
            mend="use the encoder of the shelf, or embed the shop again",
        )
    size = encoder.image_size
    if image is not None and not isinstance(image, Image.Image):
        image = read_image(image, short_side=2 * size if encoder.config.core else size)
    pixels: tuple[Pixels, ...] = ()
    if image is not None:
        pixels = prepare_photo(image.convert("RGB"), size, core=encoder.config.core)
    return np.asarray(cut(encoder.embed(encoder.collate([Item(text, pixels)])).numpy(), shelf.dim)[0])


def _hit(rank: int, score: float, row: dict[str, Any]) -> Hit:
    return Hit(
        rank,
        row["product_id"],
        score,
        row["title"] or "",
        row["category"] or "",
        row["price"],
        row["image_id"],
    )


def hits_json(hits: list[Hit]) -> list[dict[str, Any]]:
    """Hits as plain objects, for ``--json``."""
    return [asdict(hit) for hit in hits]


def shown_width(text: str) -> int:
    """Columns a text takes on a terminal: Chinese, Japanese and Korean characters take two, accents none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def fit(text: str, width: int) -> str:
    """One line of at most ``width`` columns, cut with an ellipsis; control characters become spaces."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if shown_width(text) <= width:
        return text
    out, used = "", 1  # one column for the ellipsis
    for c in text:
        used += shown_width(c)
        if used > width:
            break
        out += c
    return out.rstrip() + "…"


def format_hits(hits: list[Hit]) -> str:
    """A table with aligned columns, also with Chinese titles; one line when nothing was found."""
    if not hits:
        return "nothing found"
    head = ("", "score", "product", "title", "category", "price")
    rows = [
        (
            str(hit.rank),
            f"{hit.score:.3f}",
            fit(hit.product_id, 24),
            fit(hit.title, TITLE_WIDTH),
            fit(hit.category, CATEGORY_WIDTH),
            "" if hit.price is None else f"{hit.price:.2f}",
        )
        for hit in hits
    ]
    keep = [i for i in range(len(head)) if any(row[i] for row in rows)]
    widths = [max(shown_width(row[i]) for row in (head, *rows)) for i in range(len(head))]
    right = {0, 1, 5}
    lines = []
    for row in (head, *rows):
        cells = []
        for i in keep:
            space = " " * (widths[i] - shown_width(row[i]))
            cells.append(space + row[i] if i in right else row[i] + space)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
