"""What lies behind and around a product in a phone photo: surfaces, rooms, other things, a hand."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.geometry import View, make_buffer
from moonshelf.shop.demo.light import PHONE_LIGHTS
from moonshelf.shop.demo.paint import Canvas
from moonshelf.shop.demo.render import layer
from moonshelf.shop.demo.sdf import F32
from moonshelf.shop.demo.shapes import VARIANTS, build_shape
from moonshelf.shop.demo.shapes_gear import hand
from moonshelf.shop.demo.textures import grain, noise, tile
from moonshelf.shop.demo.words import CATEGORIES

U8 = NDArray[np.uint8]
_SIDE = 256
_TONES: dict[str, tuple[int, int, int]] = {
    "oak": (196, 152, 104),
    "walnut": (112, 74, 50),
    "planks": (164, 140, 116),
    "marble": (226, 224, 222),
    "concrete": (158, 156, 152),
    "carpet": (132, 62, 60),
    "sheet": (206, 212, 220),
    "tiles": (204, 214, 212),
    "bricks": (168, 92, 72),
    "grass": (92, 132, 58),
    "cloth": (216, 84, 76),
    "paper": (238, 234, 222),
    "denim": (70, 92, 132),
    "cork": (190, 144, 96),
}
SURFACES = tuple(_TONES)


@lru_cache(maxsize=32)
def surface(name: str) -> Image.Image:
    """A surface seen from above, RGB 256 x 256."""
    rng = np.random.default_rng(sum(map(ord, name)) + 5)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE].astype(np.float32)
    g: F32 = np.ones((_SIDE, _SIDE), dtype=np.float32)
    tone = np.asarray(_TONES[name], dtype=np.float32)
    extra: F32 = np.zeros((_SIDE, _SIDE, 3), dtype=np.float32)
    if name in ("oak", "walnut", "planks"):
        g = grain("wood") ** 1.1
        if name == "planks":
            row = (y // 43).astype(int)
            g = g * (0.86 + 0.28 * rng.random(7).astype(np.float32)[row]) * np.where(y % 43 < 2, 0.45, 1)
    elif name == "marble":
        veins = np.abs(noise(rng, _SIDE, (4, 9, 20)) - 0.5)
        g = 1 - 0.35 * np.exp(-veins * 26) - 0.08 * noise(rng, _SIDE, (5,))
    elif name == "concrete":
        g = 0.86 + 0.22 * noise(rng, _SIDE, (5, 16, 90))
    elif name in ("carpet", "grass", "cork"):
        g = 0.62 + 0.7 * noise(rng, _SIDE, (110, 40) if name != "cork" else (60, 100))
        if name == "carpet":
            ornament = np.tile(tile("diamonds")[:, :, :1], (2, 2, 1))
            extra = ornament * (np.asarray((206, 178, 130), dtype=np.float32) - tone)
    elif name == "sheet":
        folds = noise(rng, _SIDE, (4, 7), 2)
        g = 0.74 + 0.4 * np.abs(np.sin(folds * 9))
    elif name == "tiles":
        line = (x % 64 < 3) | (y % 64 < 3)
        cells = (
            0.93 + 0.1 * rng.random((4, 4)).astype(np.float32)[(y // 64).astype(int), (x // 64).astype(int)]
        )
        g = np.where(line, 0.74, cells)
    elif name == "bricks":
        shift = x + 32 * ((y // 26).astype(int) % 2)
        line = (shift % 64 < 4) | (y % 26 < 4)
        g = np.where(line, 1.25, 0.78 + 0.4 * noise(rng, _SIDE, (24, 80)))
    elif name == "cloth":
        extra = np.tile(tile("check")[:, :, :1], (2, 2, 1)) * (
            np.asarray((246, 242, 234), dtype=np.float32) - tone
        )
        g = grain("weave")
    elif name == "paper":
        page = Image.new("L", (_SIDE, _SIDE), 255)
        draw = ImageDraw.Draw(page)
        for k in range(14):
            left = 14
            while left < 236:
                wide = int(rng.integers(6, 30))
                draw.rectangle((left, 18 * k + 6, min(left + wide, 240), 18 * k + 11), fill=90)
                left += wide + 6
        g = np.asarray(page, dtype=np.float32) / 255
    elif name == "denim":
        g = 0.84 + 0.16 * np.sin((x + y) * 1.2) + 0.3 * (noise(rng, _SIDE, (8, 120)) - 0.5)
    return Image.fromarray(np.clip((tone + extra) * g[:, :, None], 0, 255).astype(np.uint8))


@lru_cache(maxsize=16)
def room(number: int) -> Image.Image:
    """What stands out of focus at the back: a wall, shelves, frames, a window; RGB 256 x 256, blurred."""
    rng = np.random.default_rng(900 + number)
    wall = rng.integers(120, 225) + rng.integers(-22, 23, 3)  # walls are rarely gaudy
    image = Image.new("RGB", (_SIDE, _SIDE), tuple(int(v) for v in wall))
    draw = ImageDraw.Draw(image)

    def tone(low: int = 20, high: int = 245) -> tuple[int, int, int]:
        grey = rng.integers(low, high)
        a, b, c = (int(v) for v in np.clip(grey + rng.integers(-60, 61, 3), 0, 255))
        return a, b, c

    for _ in range(int(rng.integers(2, 6))):
        x, y, w, h = (int(v) for v in rng.integers((0, 0, 24, 24), (230, 170, 110, 110)))
        kind = int(rng.integers(4))
        if kind == 0:  # framed picture or window
            draw.rectangle((x, y, x + w, y + h), fill=tone(10, 90))
            draw.rectangle((x + 5, y + 5, x + w - 5, y + h - 5), fill=tone(140, 250))
        elif kind == 1:  # shelf with books
            draw.rectangle((x, y + h, x + 2 * w, y + h + 6), fill=tone(40, 130))
            left = x
            while left < x + 2 * w:
                wide = int(rng.integers(5, 15))
                draw.rectangle((left, y + int(rng.integers(0, 24)), left + wide - 1, y + h), fill=tone())
                left += wide
        elif kind == 2:  # plant
            for _ in range(14):
                px, py = x + int(rng.integers(-24, 24)), y + int(rng.integers(-30, 30))
                green = int(rng.integers(70, 150))
                draw.ellipse((px, py, px + 20, py + 34), fill=(green // 2, green, green // 3))
        else:
            draw.ellipse((x, y, x + w, y + w), fill=tone())
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 6))))


@lru_cache(maxsize=1)
def clutter() -> tuple[Image.Image, ...]:
    """Other things that lie about: each category's products as small cut-outs, RGBA 88 x 88."""
    out = []
    pool = make_items(len(CATEGORIES) * 20, 991)
    for number, info in enumerate(CATEGORIES):
        variant = number % len(VARIANTS[info.key])
        shape = build_shape(info.key, variant)
        canvas = Canvas(make_buffer(shape, View(shape.yaw + 20, min(shape.pitch + 12, 60)), 88), shape)
        for item in [i for i in pool if i.category == info.key][:3]:
            out.append(layer(canvas.paint(item, PHONE_LIGHTS[1]), (88, 88)).convert("RGBA"))
    return tuple(out)


@lru_cache(maxsize=1)
def hands() -> tuple[Image.Image, ...]:
    """A hand that comes in from the right, in several skin tones and poses, RGBA 160 x 160."""
    shape, item = hand(), make_items(1, 0)[0]
    out = []
    for yaw in (-12.0, 22.0):
        painted = Canvas(make_buffer(shape, View(yaw, 10, 0.98), 192), shape).paint(item, PHONE_LIGHTS[2])
        painted[:, :, 3] = np.where(
            painted[:, :, :3].any(axis=2), painted[:, :, 3], 0
        )  # it throws no floor shadow
        for red, green, blue in ((1.08, 1.0, 0.94), (0.96, 0.86, 0.76), (0.74, 0.6, 0.48), (0.5, 0.39, 0.31)):
            toned = painted.copy()
            toned[:, :, :3] = np.clip(
                painted[:, :, :3] * np.asarray((red, green, blue)), 0, painted[:, :, 3:]
            ).astype(np.uint8)
            out.append(layer(toned, (160, 160)).convert("RGBA"))
    return tuple(out)


@lru_cache(maxsize=1)
def grain_bank() -> NDArray[np.float32]:
    """Sensor noise to cut from: f32 [640, 640, 3], standard normal, a little coarser in colour."""
    rng = np.random.default_rng(4242)
    fine = rng.standard_normal((640, 640, 1), dtype=np.float32)
    return np.asarray(
        0.8 * fine + 0.6 * rng.standard_normal((640, 640, 3), dtype=np.float32), dtype=np.float32
    )
