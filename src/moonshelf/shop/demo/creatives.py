"""Advertising creatives: layouts with known factors, the click rate that follows from them, the pictures.

    logit = base + product + size + position + background + headline + match + legibility + badge + clutter
Each term is a column of truth/creatives.parquet; the weights are `WEIGHTS`. ``match`` is paid when the
headline speaks to the interest that most of the product's queries carry: with other queries another creative
would win.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from moonshelf.shop.demo.catalog import Item, luma
from moonshelf.shop.demo.render import layer
from moonshelf.shop.demo.scenes import clutter, room, surface
from moonshelf.shop.demo.text import interest_queries
from moonshelf.shop.demo.textures import tile
from moonshelf.shop.demo.words import COLOURS, Rgb

U8 = NDArray[np.uint8]
WEIGHTS: dict[str, float] = {
    "base": -3.75,
    "product_sd": 0.25,
    "size": 0.55,  # times 1 - ((scale - best_size) / 0.2)^2, not below -1
    "best_size": 0.66,
    "position": -0.45,  # times |x| / 0.2
    "plain": 0.0,
    "gradient": 0.12,
    "scene": 0.34,
    "pattern": -0.38,
    "no_headline": -0.12,
    "generic": 0.0,
    "benefit": 0.16,
    "match": 0.62,
    "illegible": -0.34,
    "badge": 0.22,
    "clutter": -0.17,  # each thing
}
HEADLINES: dict[str, str] = {
    "gift": "The perfect gift",
    "office": "Made for your desk",
    "budget": "Small price",
    "kids": "Kids love it",
    "outdoor": "Made for outdoors",
    "travel": "Ready to travel",
    "gym": "Train with it",
    "party": "Party ready",
    "luxury": "A touch of luxury",
    "minimal": "Less is more",
    "vintage": "Vintage charm",
}
_GENERIC = ("New arrival", "Shop now", "Top seller", "Just in")
_BACKGROUNDS = ("plain", "gradient", "scene", "pattern")
TERMS = ("size", "position", "background", "headline", "match", "legibility", "badge", "clutter")


@dataclass(frozen=True)
class Creative:
    """One creative with its factors and, by `terms`, what each adds to the logit."""

    creative_id: str
    item: int
    interest: str
    queries: tuple[str, ...]
    scale: float
    x: float
    background: str
    tone: str
    headline: str
    theme: str  # "", "generic" or an interest
    legible: bool
    badge: str
    clutter: int
    product_effect: float
    impressions: int
    clicks: int
    ctr: float

    def terms(self) -> dict[str, float]:
        """Contribution of each factor to the logit, by the names in TERMS."""
        return contributions(
            self.scale,
            self.x,
            self.background,
            self.theme,
            self.interest,
            self.legible,
            self.badge,
            self.clutter,
        )


def contributions(
    scale: float, x: float, background: str, theme: str, interest: str, legible: bool, badge: str, things: int
) -> dict[str, float]:
    """The terms of the click model for one layout (see the module's formula)."""
    w = WEIGHTS
    bell = max(-1.0, 1 - ((scale - w["best_size"]) / 0.2) ** 2)
    words = w["no_headline"] if not theme else w["generic"] if theme == "generic" else w["benefit"]
    out = {
        "size": w["size"] * bell,
        "position": w["position"] * abs(x) / 0.2,
        "background": w[background],
        "headline": words,
        "match": w["match"] * (theme == interest),
        "legibility": w["illegible"] * (bool(theme) and not legible),
        "badge": w["badge"] * bool(badge),
        "clutter": w["clutter"] * things,
    }
    return {k: round(float(v), 5) for k, v in out.items()}


def make_creatives(items: list[Item], products: int, seed: int) -> list[Creative]:
    """3 or 4 creatives for each of ``products`` items, shown at random (one test a product), with sampled
    clicks.
    """
    rng = np.random.default_rng((seed, 7))
    chosen = np.sort(rng.choice(len(items), min(products, len(items)), replace=False))
    out: list[Creative] = []
    colours = list(COLOURS)
    for index in chosen:
        item = items[int(index)]
        interest = str(rng.choice(item.info.scenes))
        queries = tuple(interest_queries(item, interest, rng))
        effect = float(rng.normal(0, WEIGHTS["product_sd"]))
        size = float(np.exp(rng.normal(8.9, 0.6)))
        for _ in range(int(rng.integers(3, 5))):
            scale = round(float(rng.uniform(0.36, 0.92)), 3)
            x = round(float(rng.choice([-0.2, -0.1, 0.0, 0.0, 0.1, 0.2])), 3)
            background = str(rng.choice(_BACKGROUNDS))
            dice = rng.random()
            theme = "" if dice < 0.2 else "generic" if dice < 0.42 else str(rng.choice(item.info.scenes))
            headline = (
                "" if not theme else str(rng.choice(_GENERIC)) if theme == "generic" else HEADLINES[theme]
            )
            legible = bool(rng.random() < 0.75)
            badge = str(rng.choice(["", "", "", "-20%", "-30%", "SALE"]))
            things = int(rng.choice([0, 0, 0, 1, 2, 3]))
            tone = colours[int(rng.integers(len(colours)))]
            terms = contributions(scale, x, background, theme, interest, legible, badge, things)
            logit = WEIGHTS["base"] + effect + sum(terms.values())
            ctr = float(1 / (1 + np.exp(-logit)))
            shown = max(300, int(size * float(rng.uniform(0.8, 1.2))))
            out.append(
                Creative(
                    creative_id=f"c{len(out):05d}",
                    item=item.index,
                    interest=interest,
                    queries=queries,
                    scale=scale,
                    x=x,
                    background=background,
                    tone=tone,
                    headline=headline,
                    theme=theme,
                    legible=legible,
                    badge=badge,
                    clutter=things,
                    product_effect=round(effect, 5),
                    impressions=shown,
                    clicks=int(rng.binomial(shown, ctr)),
                    ctr=round(ctr, 6),
                )
            )
    return out


@lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font."""
    return ImageFont.load_default(size=size)


def _paper(creative: Creative, size: int, rng: np.random.Generator) -> Image.Image:
    """The background of the layout, RGB."""
    base = np.asarray(COLOURS[creative.tone][0], dtype=np.float32)
    pale = base * 0.38 + 255 * 0.62
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    if creative.background == "scene":
        back = room(int(rng.integers(16))).resize((size, size)).filter(ImageFilter.GaussianBlur(size / 80))
        names = ("oak", "marble", "walnut", "concrete", "sheet")
        top = surface(names[int(rng.integers(len(names)))]).resize((size, size // 3))
        out = Image.blend(back, Image.new("RGB", back.size, (250, 246, 238)), 0.35)
        out.paste(top, (0, size - size // 3))
        return out
    if creative.background == "gradient":
        t = (0.35 * x + 0.65 * y)[:, :, None]
        pixels = pale * (1 - t) + (base * 0.7 + 70) * t
    elif creative.background == "pattern":
        k = (np.arange(size) * 3 * 128 // size) & 127
        w = tile(str(rng.choice(["zigzag", "check", "dots", "diamonds"])))[k][:, k, :1]
        pixels = pale * (1 - w) + (base * 0.85 + 20) * w
    else:
        pixels = np.broadcast_to(pale, (size, size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _write(canvas: Image.Image, text: str, y: int, legible: bool, width: int) -> None:
    """The headline, as large as fits; an illegible one is pale on pale."""
    draw, size = ImageDraw.Draw(canvas), canvas.width
    points = int(size * 0.125)
    while points > 8 and draw.textlength(text, font=_font(points)) > width:
        points -= 1
    font = _font(points)
    strip = canvas.crop((0, max(y, 0), size, min(y + points + 4, size))).resize((1, 1), Image.Resampling.BOX)
    seen = strip.getpixel((0, 0))
    rgb: Rgb = (int(seen[0]), int(seen[1]), int(seen[2])) if isinstance(seen, tuple) else (255, 255, 255)
    dark = luma(rgb) > 140
    ink: Rgb = (24, 26, 34) if dark else (252, 252, 250)
    if not legible:
        step = -26 if dark else 26
        ink = (rgb[0] + step, rgb[1] + step, rgb[2] + step)
    x = (size - draw.textlength(text, font=font)) / 2
    if legible:
        draw.text(
            (x, y),
            text,
            font=font,
            fill=ink,
            stroke_width=1,
            stroke_fill=(255, 255, 255) if dark else (20, 20, 24),
        )
    draw.text((x, y), text, font=font, fill=ink)


def creative_picture(
    creative: Creative, item: Item, painted: U8, size: int, rng: np.random.Generator
) -> Image.Image:
    """The creative, RGB size x size, from a painted front view of its product."""
    canvas = _paper(creative, size, rng)
    for k in range(creative.clutter):
        things = clutter()
        thing = things[int(rng.integers(len(things)))]
        w = int(size * float(rng.uniform(0.2, 0.3)))
        thing = thing.resize((w, w), Image.Resampling.BILINEAR)
        left = int(size * (0.02 if (k % 2 == 0) != (creative.x < 0) else 0.75))
        canvas.paste(thing, (left, int(size * float(rng.uniform(0.22, 0.66)))), thing)
    k = int(size * creative.scale / 0.68)  # the product fills .68 of its own painting
    product = layer(painted, (k, k)).convert("RGBA")
    drop = 0.56 if creative.headline else 0.52
    canvas.paste(product, (int((0.5 + creative.x) * size - k / 2), int(drop * size - k / 2)), product)
    if creative.headline:
        _write(canvas, creative.headline, int(size * 0.03), creative.legible, int(size * 0.92))
    if creative.badge:
        scale = 3
        r = int(size * 0.13) * scale
        disc = Image.new("RGBA", (2 * r, 2 * r), (0, 0, 0, 0))
        draw = ImageDraw.Draw(disc)
        draw.ellipse((0, 0, 2 * r - 1, 2 * r - 1), fill=(214, 34, 44, 255))
        font = _font(int(r * 0.62))
        wide = draw.textlength(creative.badge, font=font)
        draw.text((r - wide / 2, r * 0.58), creative.badge, font=font, fill=(255, 255, 255, 255))
        disc = disc.reduce(scale)
        left = int(size * 0.03) if creative.x > 0 else size - disc.width - int(size * 0.03)
        canvas.paste(disc, (left, size - disc.height - int(size * 0.03)), disc)
    return canvas
