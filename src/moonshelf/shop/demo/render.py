"""Pictures from paintings: averaging down, laying over a background, the studio photo, JPEG."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.light import smooth_step
from moonshelf.shop.demo.sdf import F32

U8 = NDArray[np.uint8]


def layer(
    painted: U8, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    """The painting averaged down to ``size`` (from the source box), a premultiplied RGBa picture."""
    side = painted.shape[0]
    image = Image.frombytes("RGBa", (side, side), painted.tobytes())
    return image.resize(size, Image.Resampling.HAMMING, box=box)


def over(top: Image.Image, under: F32) -> F32:
    """Premultiplied RGBa picture over a background f32 [H, W, 3] in 0..255."""
    a = np.asarray(top, dtype=np.float32)
    return np.asarray(a[:, :, :3] + under * (1 - a[:, :, 3:] * (1 / 255)), dtype=np.float32)


@lru_cache(maxsize=16)
def studio_backdrop(size: int, tone: int) -> F32:
    """Near-white seamless paper, brighter behind the product, f32 [size, size, 3]."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / (size - 1)
    glow = np.exp(-(((x - 0.46) ** 2) / 0.32 + ((y - 0.42) ** 2) / 0.26))
    floor = smooth_step(y, 0.62, 0.98) * 6.0
    base = 233 + 19 * glow + floor * 0.3 - 7.0 * smooth_step(y, 0.5, 0.66) * (1 - smooth_step(y, 0.6, 1.0))
    tints = ((1.0, 1.0, 1.0), (1.0, 0.992, 0.978), (0.984, 0.993, 1.0), (0.995, 0.985, 0.985))
    return np.asarray(base[:, :, None] * np.asarray(tints[tone % 4], dtype=np.float32), dtype=np.float32)


def studio_photo(
    item: Item, painted: U8, size: int, rng: np.random.Generator, closeup: bool = False
) -> Image.Image:
    """One catalogue photo, RGB size x size. The item's proportions stretch the model a little."""
    side = painted.shape[0]
    zx, zy = item.scale[0] / 0.89, item.scale[1] / 0.89
    if closeup:
        zx = zy = 1.0
    w, h = side / zx, side / zy
    cx = (side - w) * (0.5 + float(rng.uniform(-0.25, 0.25)))
    cy = (side - h) * (0.5 + float(rng.uniform(-0.25, 0.25)))
    top = layer(painted, (size, size), (cx, cy, cx + w, cy + h))
    return Image.fromarray(np.clip(over(top, studio_backdrop(size, item.brand)), 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int = 88) -> bytes:
    """Encode as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
