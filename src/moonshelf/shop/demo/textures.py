"""Tileable pattern masks, brand marks and backdrops: made once a process, then only looked up.

A tile is f32 [128, 128, 2]: the share of the second and of the third colour at a place; the rest is the
first colour.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from moonshelf.shop.demo.sdf import F32

TILE = 128


def noise(rng: np.random.Generator, side: int, octaves: tuple[int, ...], stretch: int = 1) -> F32:
    """Smooth tileable-looking noise f32 [side, side] in 0..1; octaves = cells a side; stretch > 1 draws it
    out in x.
    """
    out = np.zeros((side, side), dtype=np.float32)
    for i, cells in enumerate(octaves):
        wide = max(cells // stretch, 1)
        grid = rng.random((cells, wide)).astype(np.float32)
        grid = np.pad(grid, ((1, 1), (1, 1)), mode="wrap")
        image = Image.fromarray(grid, mode="F").resize(
            (side * (wide + 2) // wide, side * (cells + 2) // cells), Image.Resampling.BICUBIC
        )
        x0, y0 = (image.width - side) // 2, (image.height - side) // 2
        out += np.asarray(image)[y0 : y0 + side, x0 : x0 + side] * 0.6**i
    low, high = float(out.min()), float(out.max())
    return np.asarray((out - low) / max(high - low, 1e-6), dtype=np.float32)


def _wrapped(
    draw: ImageDraw.ImageDraw, kind: str, box: tuple[float, float, float, float], fill: int, side: int
) -> None:
    """Draw an ellipse or polygon and its copies over the tile's edges."""
    for dx in (-side, 0, side):
        for dy in (-side, 0, side):
            x0, y0, x1, y1 = box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy
            if kind == "ellipse":
                draw.ellipse((x0, y0, x1, y1), fill=fill)
            else:
                cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
                draw.polygon([(cx, y0), (x1, cy), (cx, y1), (x0, cy)], fill=fill)


def _masks(kind: str) -> tuple[Image.Image, Image.Image]:
    """Second- and third-colour masks of a pattern at 4x."""
    s = TILE * 4
    a, b = Image.new("L", (s, s), 0), Image.new("L", (s, s), 0)
    da, db = ImageDraw.Draw(a), ImageDraw.Draw(b)
    rng = np.random.default_rng(77)
    if kind == "stripes":
        da.rectangle((0, 0, s, s // 2 - 1), fill=255)
    elif kind == "pinstripes":
        for k in range(4):
            da.rectangle((k * s // 4, 0, k * s // 4 + s // 16, s), fill=255)
    elif kind == "dots":
        for cx, cy in ((0.25, 0.25), (0.75, 0.75)):
            r = s * 0.15
            _wrapped(da, "ellipse", (cx * s - r, cy * s - r, cx * s + r, cy * s + r), 255, s)
    elif kind == "check":
        da.rectangle((0, 0, s // 2 - 1, s), fill=128)
        half = Image.new("L", (s, s), 0)
        ImageDraw.Draw(half).rectangle((0, 0, s, s // 2 - 1), fill=127)
        a = Image.fromarray(np.asarray(a) + np.asarray(half))
    elif kind == "zigzag":
        for k in range(2):
            y = k * s / 2
            da.polygon(
                [(0, y), (s / 2, y + s / 4), (s, y), (s, y + s / 4), (s / 2, y + s / 2), (0, y + s / 4)],
                fill=255,
            )
    elif kind == "diamonds":
        _wrapped(da, "diamond", (s * 0.06, s * 0.06, s * 0.94, s * 0.94), 255, s)
        _wrapped(db, "diamond", (s * 0.36, s * 0.36, s * 0.64, s * 0.64), 255, s)
    elif kind == "floral":
        spots = [
            (0.2, 0.22, 0.15),
            (0.7, 0.12, 0.11),
            (0.56, 0.56, 0.17),
            (0.1, 0.7, 0.11),
            (0.86, 0.84, 0.14),
            (0.36, 0.9, 0.1),
        ]
        for n, (cx, cy, r) in enumerate(spots):
            for k in range(5):
                t = 2 * math.pi * k / 5 + n
                px, py, pr = (cx + math.cos(t) * r * 0.62) * s, (cy + math.sin(t) * r * 0.62) * s, r * 0.5 * s
                _wrapped(da, "ellipse", (px - pr, py - pr, px + pr, py + pr), 255, s)
            cr = r * 0.3 * s
            _wrapped(db, "ellipse", (cx * s - cr, cy * s - cr, cx * s + cr, cy * s + cr), 255, s)
        for cx, cy in ((0.42, 0.34), (0.9, 0.42), (0.3, 0.56), (0.68, 0.82)):
            _wrapped(
                db,
                "ellipse",
                (cx * s - s * 0.02, cy * s - s * 0.07, cx * s + s * 0.02, cy * s + s * 0.07),
                255,
                s,
            )
    elif kind == "terrazzo":
        for k in range(26):
            cx, cy, r = rng.random() * s, rng.random() * s, s * rng.uniform(0.025, 0.075)
            q = rng.uniform(0.5, 1.0)
            _wrapped(
                da if k % 2 else db,
                "diamond" if k % 3 else "ellipse",
                (cx - r, cy - r * q, cx + r, cy + r * q),
                255,
                s,
            )
    elif kind == "stars":
        for cx, cy, r in ((0.25, 0.25, 0.16), (0.75, 0.75, 0.16), (0.75, 0.25, 0.06), (0.25, 0.75, 0.06)):
            points = []
            for k in range(10):
                t, q = math.pi * k / 5 - math.pi / 2, r if k % 2 == 0 else r * 0.42
                points.append(((cx + math.cos(t) * q) * s, (cy + math.sin(t) * q) * s))
            da.polygon(points, fill=255)
    elif kind == "waves":
        x = np.linspace(0, 2 * math.pi, s, endpoint=False)
        down = np.arange(s)[:, None] / s
        wave = (np.sin(x) * 0.09 + down * 2) % 1.0
        a = Image.fromarray(((wave < 0.5) * 255).astype(np.uint8))
        b = Image.fromarray(((wave > 0.86) * 255).astype(np.uint8))
    elif kind == "leopard":
        for _ in range(20):
            cx, cy, r = rng.random() * s, rng.random() * s, s * rng.uniform(0.05, 0.085)
            _wrapped(da, "ellipse", (cx - r, cy - r * 0.8, cx + r, cy + r * 0.8), 255, s)
            _wrapped(da, "ellipse", (cx - r * 0.6, cy - r * 0.5, cx + r * 0.6, cy + r * 0.4), 0, s)
            _wrapped(db, "ellipse", (cx - r * 0.5, cy - r * 0.4, cx + r * 0.5, cy + r * 0.3), 120, s)
    return a, b


@lru_cache(maxsize=32)
def tile(kind: str) -> F32:
    """The pattern tile f32 [128, 128, 2]. "plain" (and the kinds made from height alone) are empty."""
    a, b = (np.asarray(m.reduce(4), dtype=np.float32) / 255 for m in _masks(kind))
    return np.stack([a * (1 - b), b], axis=2)


@lru_cache(maxsize=8)
def grain(kind: str) -> F32:
    """Surface tiles f32 [256, 256] with mean one: wood, weave, knit, leather, speckle, brushed."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    y, x = np.mgrid[0:256, 0:256].astype(np.float32)
    if kind == "wood":
        rings = np.sin((noise(rng, 256, (6, 12), 3) * 7 + y / 256 * 3) * 2 * math.pi)
        g = 1 + 0.11 * rings + 0.16 * (noise(rng, 256, (128,), 16) - 0.5)
    elif kind == "weave":
        g = (
            1
            + 0.10 * np.sin(x * math.pi / 4) * np.sin(y * math.pi / 4)
            + 0.14 * (noise(rng, 256, (128, 64)) - 0.5)
        )
    elif kind == "knit":
        g = (
            1
            + 0.09 * np.sin(y * math.pi / 4 + 2 * np.abs(np.sin(x * math.pi / 8)))
            + 0.06 * (noise(rng, 256, (64,)) - 0.5)
        )
    elif kind == "leather":
        g = 1 + 0.16 * (noise(rng, 256, (40, 90)) - 0.5) + 0.08 * (noise(rng, 256, (6,)) - 0.5)
    elif kind == "speckle":
        spots = noise(rng, 256, (100, 128)) < 0.2
        g = 1 + 0.05 * (noise(rng, 256, (16,)) - 0.5) - 0.22 * spots
    else:  # brushed metal
        g = 1 + 0.10 * (noise(rng, 256, (200,), 40) - 0.5)
    return np.asarray(g / g.mean(), dtype=np.float32)


@lru_cache(maxsize=64)
def brand_mark(form: str, outline: bool) -> F32:
    """A brand's mark: alpha f32 [64, 64], a plain geometric form, filled or in outline."""
    s = 256
    image = Image.new("L", (s, s), 0)
    d = ImageDraw.Draw(image)
    c, r = s / 2, s * 0.42

    def poly(n: int, turn: float, scale: float, fill: int, sharp: float = 1.0) -> None:
        points = []
        for k in range(n):
            q = r * scale * (sharp if k % 2 else 1.0)
            t = turn + 2 * math.pi * k / n
            points.append((c + math.cos(t) * q, c + math.sin(t) * q))
        d.polygon(points, fill=fill)

    up = -math.pi / 2
    for scale, fill in ((1.0, 255), *(((0.66, 0),) if outline else ())):
        q = r * scale
        if form == "disc":
            d.ellipse((c - q, c - q, c + q, c + q), fill=fill)
        elif form == "triangle":
            poly(3, up, scale * 1.15, fill)
        elif form == "square":
            d.rounded_rectangle((c - q, c - q, c + q, c + q), q * 0.3, fill=fill)
        elif form == "hexagon":
            poly(6, up, scale, fill)
        elif form == "star":
            poly(10, up, scale * 1.1, fill, 0.45)
        elif form == "diamond":
            poly(4, up, scale * 1.1, fill)
        elif form == "cross":
            d.rectangle((c - q, c - q * 0.34, c + q, c + q * 0.34), fill=fill)
            d.rectangle((c - q * 0.34, c - q, c + q * 0.34, c + q), fill=fill)
        elif form == "drop":
            d.ellipse((c - q * 0.72, c - q * 0.44, c + q * 0.72, c + q), fill=fill)
            d.polygon([(c, c - q * 1.1), (c - q * 0.66, c + q * 0.1), (c + q * 0.66, c + q * 0.1)], fill=fill)
        elif form == "moon":
            d.ellipse((c - q, c - q, c + q, c + q), fill=fill)
            if fill:
                d.ellipse((c - q * 0.35, c - q * 1.05, c + q * 1.35, c + q * 0.65), fill=0)
        elif form == "bars":
            for k in range(3):
                h = q * (0.5 + 0.25 * k)
                d.rectangle(
                    (c - q + k * q * 0.72, c + q - 2 * h, c - q * 0.5 + k * q * 0.72, c + q), fill=255
                )
        elif form == "chevron":
            for k in range(2 if outline else 1):
                y = c - q * 0.5 + k * r * 0.85
                d.polygon(
                    [
                        (c - r, y + r * 0.6),
                        (c, y - r * 0.4),
                        (c + r, y + r * 0.6),
                        (c + r, y + r * 1.1),
                        (c, y + r * 0.1),
                        (c - r, y + r * 1.1),
                    ],
                    fill=255,
                )
        else:  # leaf
            d.pieslice((c - q * 1.5, c - q * 0.5, c + q * 0.5, c + q * 1.5), 270, 360, fill=fill)
            d.pieslice((c - q * 0.5, c - q * 1.5, c + q * 1.5, c + q * 0.5), 90, 180, fill=fill)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1)).reduce(4), dtype=np.float32) / 255
