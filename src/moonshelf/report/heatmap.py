"""Heatmaps: which regions and which words made a query match a product, several encoders side by side, as PNG."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from moonshelf.encoder import CompactEncoder, Item, prepare_photo
from moonshelf.encoder.saliency import Method, Saliency, saliency
from moonshelf.errors import InputError
from moonshelf.report.sheet import GAP, INK, LABEL, MARGIN, PAPER, SOFT, drawable, load_font, wrap
from moonshelf.shop.decode import read_image
from moonshelf.workspace import atomic_write

SIZE = 256  # pixels that photos are prepared to: an 8 x 8 grid, whatever size the encoder was trained at
PANEL = 300
WARM, COLD = (214, 61, 47), (58, 96, 178)  # for the match, against it
WORDS_HEIGHT = 74


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a match: a photo, a text, or both."""

    image: Image.Image | None = None
    text: str | None = None


def sides(
    image: str | None, text: str | None, against_image: str | None, against_text: str | None
) -> tuple[Side, Side]:
    """Query and product of a command line: a text asks for a photo, unless the product is named on its own.

    Raises:
        InputError: one of the two is empty, or a file is no picture.
    """
    if against_image or against_text:
        query, product = Side(_opened(image), text), Side(_opened(against_image), against_text)
    else:
        query, product = Side(None, text), Side(_opened(image), None)
    if not (query.text or query.image) or not (product.text or product.image):
        raise InputError(
            "a match has two sides",
            mend="give --image and --text, or the query by these and the product by --against-image, --against-text",
        )
    return query, product


def _opened(path: str | None) -> Image.Image | None:
    return None if path is None else read_image(path)


@dataclass(frozen=True, slots=True)
class Explained:
    """Both sides as one encoder sees them."""

    query: Saliency
    product: Saliency


@contextlib.contextmanager
def at_size(encoder: CompactEncoder, size: int) -> Iterator[None]:
    """The encoder takes photos of another size for a while."""
    config = encoder.config
    encoder.config = replace(config, image_size=size)
    try:
        yield
    finally:
        encoder.config = config


def explain(encoder: CompactEncoder, query: Side, product: Side, method: Method = "gradient") -> Explained:
    """Where the similarity of two sides comes from, seen from either."""
    core = encoder.config.core
    with at_size(encoder, SIZE):
        items = [
            Item(
                side.text or None,
                prepare_photo(side.image, SIZE, core=core) if side.image is not None else (),
            )
            for side in (query, product)
        ]
        first, second = encoder.encode(items)
        return Explained(
            saliency(encoder, items[0], second, method), saliency(encoder, items[1], first, method)
        )


def heatmap(
    encoders: Mapping[str, CompactEncoder],
    query: Side,
    product: Side,
    out: Path,
    method: Method = "gradient",
) -> dict[str, Any]:
    """Draw both sides for every encoder (before and after training, say) and write the PNG.

    Red regions give more of the match than the photo's mean, blue ones less; red words speak for it, blue ones against
    it. Every map has its own scale.

    Returns:
        By encoder: ``similarity``, and for either side ``regions`` (rows of the grid) and ``words``.
    """
    found = {name: explain(encoder, query, product, method) for name, encoder in encoders.items()}
    rows = [
        ("query", query, [e.query for e in found.values()]),
        ("product", product, [e.product for e in found.values()]),
    ]
    heights = [LABEL + PANEL * (s.image is not None) + WORDS_HEIGHT * bool(s.text) for _, s, _ in rows]
    width = 2 * MARGIN + (1 + len(found)) * (PANEL + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + LABEL + sum(heights) + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), load_font(17)
    for column, (name, e) in enumerate(found.items(), 1):
        title = wrap(f"{name}: similarity {e.query.similarity:.2f}", font, PANEL, 1)[0]
        draw.text((MARGIN + column * (PANEL + GAP), MARGIN), title, font=font, fill=INK)
    top = MARGIN + LABEL
    for (label, side, maps), height in zip(rows, heights, strict=True):
        draw.text((MARGIN, top), label, font=load_font(15), fill=SOFT)
        for column, one in enumerate([None, *maps]):
            left, y = MARGIN + column * (PANEL + GAP), top + LABEL
            if side.image is not None:
                sheet.paste(_overlaid(side.image, one), (left, y))
                y += PANEL
            if side.text and one is None:
                _plain_text(draw, side.text, left, y + 8)
            elif side.text and one is not None:
                _words(draw, one.words, left, y + 8)
        top += height
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, buffer.getvalue())
    return {
        name: {"similarity": e.query.similarity, "query": _plain(e.query), "product": _plain(e.product)}
        for name, e in found.items()
    }


def _plain(one: Saliency) -> dict[str, Any]:
    return {"regions": one.regions.round(6).tolist(), "words": [[w, round(v, 6)] for w, v in one.words]}


def _overlaid(image: Image.Image, one: Saliency | None) -> Image.Image:
    """The photo as the encoder sees it, a square; red where it gives more to the match than on average."""
    square = image.convert("RGB").resize((PANEL, PANEL), Image.Resampling.BICUBIC)
    if one is None or not one.regions.size:
        return square
    # A cosine does not change when everything grows alike, so gradients times values add up to nothing over all inputs:
    # beside a text that carries the match a whole photo lies below zero. What tells is where it is above its own mean.
    grid = one.regions[0] - one.regions[0].mean()
    most = float(np.abs(grid).max()) or 1.0
    fine = Image.fromarray((grid / most).astype(np.float32)).resize((PANEL, PANEL), Image.Resampling.BICUBIC)
    value = np.clip(np.asarray(fine), -1, 1)[..., None]
    grey = np.asarray(square.convert("L"), dtype=np.float32)[..., None] * 0.75 + 50
    colour = np.where(value >= 0, np.array(WARM, dtype=np.float32), np.array(COLD, dtype=np.float32))
    share = np.abs(value) ** 0.8 * 0.75
    return Image.fromarray(np.clip(grey * (1 - share) + colour * share, 0, 255).astype(np.uint8))


def _plain_text(draw: ImageDraw.ImageDraw, text: str, left: int, top: int) -> None:
    font = load_font(15)
    for i, line in enumerate(wrap(drawable(text, font, "?"), font, PANEL, 3)):
        draw.text((left, top + 20 * i), line, font=font, fill=INK)


def _words(draw: ImageDraw.ImageDraw, words: Sequence[tuple[str, float]], left: int, top: int) -> None:
    """Words in a row, wrapped, each on ground of its colour; what does not fit is left away."""
    font = load_font(15)
    most = max((abs(value) for _, value in words), default=0.0) or 1.0
    x, y = left, top
    for word, value in words:
        shown = wrap(drawable(word, font, "?"), font, PANEL, 1)[0]
        wide = round(font.getlength(shown))
        if x + wide > left + PANEL and x > left:
            x, y = left, y + 22
        if y > top + WORDS_HEIGHT - 24:
            return
        share = abs(value) / most * 0.7
        ground = tuple(round(255 * (1 - share) + c * share) for c in (WARM if value > 0 else COLD))
        draw.rounded_rectangle((x - 2, y - 1, x + wide + 2, y + 19), 4, fill=ground)
        draw.text((x, y), shown, font=font, fill=INK)
        x += wide + 8
