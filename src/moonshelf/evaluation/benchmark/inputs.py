"""What the benchmark asks to be embedded: texts, photos and both, each under a key that says what it is."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from moonshelf.encoder import product_text
from moonshelf.shop.shop import Shop
from moonshelf.types import Product, Shown
from moonshelf.workspace import digest


@dataclass(frozen=True, slots=True)
class Source:
    """One input: a text, a photo of the shop, or both. Equal sources are embedded once.

    ``made``: the photo is seen through :func:`made_view`. ``marked``: the text as encoders with guided experts read it.
    """

    text: str | None = None
    photo: str | None = None
    made: bool = False
    marked: str = ""

    @property
    def key(self) -> str:
        """Names the input in files of vectors: 16 hex digits of what it is made of, then readable parts."""
        parts = [
            f"photo:{self.photo}" if self.photo else "",
            "made" if self.made else "",
            (self.text or "")[:40],
        ]
        mark = digest([self.text, self.photo, self.made])
        return f"{mark} " + "|".join(part for part in parts if part)


def load(sources: Sequence[Source], shop: Shop) -> list[Shown]:
    """Decode the photos of some sources."""
    out = []
    for source in sources:
        image = None
        if source.photo is not None:
            image = shop.images.decode(source.photo)
            image = made_view(image, source.photo) if source.made else image
        out.append(Shown(source.text, image, source.marked))
    return out


def made_view(image: Image.Image, name: str) -> Image.Image:
    """Another look at a photo where a shop has but one: a crop of 60 to 85% of each side, mirrored or not, turned by up
    to 12 degrees, in other light. A function of the photo's name. Made data, and called so wherever it is used.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    image = image.convert("RGB")
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    border = tuple(int(v) for v in np.asarray(image)[[0, 0, -1, -1], [0, -1, 0, -1]].mean(0))
    image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=border)
    (w, h), share = image.size, rng.uniform(0.6, 0.85, 2)
    cw, ch = max(1, int(w * share[0])), max(1, int(h * share[1]))
    x, y = int(rng.integers(0, w - cw + 1)), int(rng.integers(0, h - ch + 1))
    image = image.crop((x, y, x + cw, y + ch))
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3))
    return ImageEnhance.Color(image).enhance(rng.uniform(0.7, 1.3))


def whole_text(product: Product, *, marked: bool = False) -> str:
    """Everything that is written about a product."""
    return product_text(product, marked=marked)


def rest_text(product: Product, *, marked: bool = False) -> str:
    """The same without the title: what stands against a query that is the title."""
    return product_text(replace(product, title=""), marked=marked)
