"""The catalogue: the latent factors of every product, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moonshelf.shop.demo.shapes import VARIANTS
from moonshelf.shop.demo.words import (
    BRANDS,
    BRANDS_PER_CATEGORY,
    BY_KEY,
    CATEGORIES,
    COLOURS,
    PATTERNS,
    STYLE_OF_PATTERN,
    Category,
    Rgb,
)


@dataclass(frozen=True)
class Item:
    """One product (SKU) and everything that is true of it. Colours are keys of COLOURS.

    ``scale`` f: width and height of the drawn product relative to its model; ``pattern_scale`` tiles a unit;
    ``style`` 4 floats (STYLES); ``quality`` about N(0, 1); ``day`` days after the first product came.
    """

    index: int
    product_id: str
    spu_id: str
    category: str
    shape: int
    colour: str
    colour2: str
    colour3: str
    pattern: str
    pattern_scale: float
    pattern_turn: float
    material: str
    brand: int
    mark_light: bool
    scale: tuple[float, float]
    style: tuple[float, float, float, float]
    quality: float
    price: float
    day: float

    @property
    def info(self) -> Category:
        """The category's entry."""
        return BY_KEY[self.category]

    @property
    def shape_name(self) -> tuple[str, str]:
        """Name of the silhouette, English and Chinese."""
        v = VARIANTS[self.category][self.shape]
        return v.name, v.zh


def luma(rgb: Rgb) -> float:
    """Brightness 0..255 of a colour."""
    return 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]


def _contrasting(rng: np.random.Generator, colour: str) -> str:
    """A second colour that can be told from the first."""
    base = COLOURS[colour][0]
    names = [
        n for n, (rgb, _) in COLOURS.items() if sum(abs(a - b) for a, b in zip(rgb, base, strict=True)) > 150
    ]
    weights = np.asarray([3.0 if n in ("white", "black", "beige", "navy") else 1.0 for n in names])
    return str(names[int(rng.choice(len(names), p=weights / weights.sum()))])


def make_items(products: int, seed: int) -> list[Item]:
    """The catalogue: ``products`` SKUs of about half as many designs (SPU), ordered by product id.

    Designs differ in shape, material, brand, size and pattern; the SKUs of one design differ in colour and
    at times in pattern. Newness: four fifths come evenly over 8 months, the rest in the last five weeks.
    """
    rng = np.random.default_rng((seed, 1))
    colours, patterns = list(COLOURS), [p for p in PATTERNS if p != "plain"]
    variants = max(1, min(6, products // (len(CATEGORIES) * 12) + 1))
    brand_sets = {c.key: rng.choice(len(BRANDS), BRANDS_PER_CATEGORY, replace=False) for c in CATEGORIES}
    share = np.asarray([1.0 / (1 + 0.06 * i) for i in rng.permutation(len(CATEGORIES))])
    rows: list[Item] = []
    seen: set[tuple[object, ...]] = set()
    spu = 0
    while len(rows) < products:
        in_turn = spu < len(CATEGORIES) or products < 600  # a small shop keeps its categories even
        order = spu if in_turn else int(rng.choice(len(CATEGORIES), p=share / share.sum()))
        info = CATEGORIES[order % len(CATEGORIES)]
        shape = int(rng.integers(min(variants, len(VARIANTS[info.key]))))
        material = str(rng.choice(info.materials))
        brand = int(rng.choice(brand_sets[info.key]))
        plain = rng.random() > info.patterned or material == "glass"
        pattern = "plain" if plain else str(rng.choice(patterns))
        scale = (float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.92, 1.08)))
        pattern_scale, turn = float(rng.uniform(2.6, 6.0)), float(rng.choice([0, 0, 0, 0, 45, 90]))
        quality = float(rng.normal())
        arrival = rng.uniform(0, 206) if rng.random() < 0.8 else rng.uniform(206, 240)
        if spu < 2 * len(CATEGORIES):  # every category has something to sell when the behaviour begins
            arrival *= 0.15
        day0 = float(arrival)
        base_price = info.price * float(np.exp(rng.normal(0.12 * quality, 0.35)))
        spu += 1
        skus = int(rng.choice([1, 2, 3, 4, 5], p=[0.34, 0.28, 0.2, 0.12, 0.06]))
        main = rng.permutation(len(colours))
        still = max(0, len(CATEGORIES) - spu)  # categories that have nothing yet keep their place
        for k in range(min(skus, products - len(rows) - still)):
            colour = colours[int(main[k])]
            own = (
                pattern
                if rng.random() < 0.85 or material == "glass"
                else str(rng.choice(["plain", *patterns]))
            )
            colour2 = _contrasting(rng, colour)
            colour3 = _contrasting(rng, colour2)
            key = (info.key, shape, colour, own, colour2 if own != "plain" else "", material, brand)
            if key in seen:
                continue
            seen.add(key)
            noise = rng.normal(0, 0.25, 4)
            style = tuple(round(float(s + n), 4) for s, n in zip(STYLE_OF_PATTERN[own], noise, strict=True))
            index = len(rows)
            rows.append(
                Item(
                    index=index,
                    product_id=f"p{index:05d}",
                    spu_id=f"spu{spu:05d}",
                    category=info.key,
                    shape=shape,
                    colour=colour,
                    colour2=colour2,
                    colour3=colour3,
                    pattern=own,
                    pattern_scale=round(pattern_scale, 3),
                    pattern_turn=turn,
                    material=material,
                    brand=brand,
                    mark_light=luma(COLOURS[colour][0]) < 140,
                    scale=(round(scale[0], 3), round(scale[1], 3)),
                    style=(style[0], style[1], style[2], style[3]),
                    quality=round(quality + float(rng.normal(0, 0.3)), 4),
                    price=round(max(3.0, base_price * float(rng.uniform(0.95, 1.08))), 2),
                    day=round(min(day0 + float(rng.exponential(3.0)), 240.0), 4),
                )
            )
    return rows
