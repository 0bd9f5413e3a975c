"""Painting a product onto a lit view: colours, pattern, brand mark, surface and finish.

A `Canvas` keeps all that does not depend on the product, so that a painting is a texture look-up, a
multiply-add and a scatter over the ~40,000 pixels that the product covers.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.geometry import ACCENT, BODY, DARK, FACE, PALE, SKIN, TRIM, WOOD, Buffer, Shape
from moonshelf.shop.demo.light import Coat, Light, Shade, coat, shade, smooth_step
from moonshelf.shop.demo.sdf import F32
from moonshelf.shop.demo.textures import TILE, brand_mark, grain, tile
from moonshelf.shop.demo.words import BRANDS, COLOURS, MATERIALS

U8 = NDArray[np.uint8]
_FIXED = {DARK: (44, 45, 50), PALE: (241, 239, 233), WOOD: (190, 146, 100), SKIN: (222, 172, 142)}
_TRIM_TONES = ((196, 198, 202), (214, 180, 116), (92, 94, 100), (206, 160, 140))
_GRAIN_SCALE = 300  # surface tiles: pixels a world unit


@lru_cache(maxsize=64)
def _rgb(colour: str) -> F32:
    return np.asarray(COLOURS[colour][0], dtype=np.float32) / 255


def _pattern(item: Item, uv: F32) -> F32:
    """Albedo f32 [n, 3] of the patterned surface at uv."""
    c1, c2, c3 = _rgb(item.colour), _rgb(item.colour2), _rgb(item.colour3)
    if item.pattern == "plain" or not len(uv):
        return np.broadcast_to(c1, (len(uv), 3)).astype(np.float32)
    if item.pattern in ("gradient", "blocks"):
        v = uv[:, 1]
        low, high = float(v.min()), float(v.max())
        t = (v - low) / max(high - low, 1e-6)
        w = (
            smooth_step(t, 0.15, 0.9)
            if item.pattern == "gradient"
            else (t > 0.3 + 0.06 * item.pattern_scale).astype(np.float32)
        )
        return np.asarray(c1 + w[:, None] * (c2 - c1), dtype=np.float32)
    scaled = uv * (item.pattern_scale * TILE)
    if item.pattern_turn:
        c, s = np.cos(np.radians(item.pattern_turn)), np.sin(np.radians(item.pattern_turn))
        scaled = np.stack([c * scaled[:, 0] + s * scaled[:, 1], c * scaled[:, 1] - s * scaled[:, 0]], axis=1)
    cell = scaled.astype(np.int32) & (TILE - 1)
    w = tile(item.pattern).reshape(-1, 2)[cell[:, 1] * TILE + cell[:, 0]]
    return np.asarray(c1 + w[:, :1] * (c2 - c1) + w[:, 1:] * (c3 - c1), dtype=np.float32)


def _dial(dark: bool, pos: F32) -> F32:
    """A watch dial at uv ``pos`` [n, 2]: twelve ticks and two hands around its middle, f32 [n, 3]."""
    middle = (pos.min(axis=0) + pos.max(axis=0)) / 2
    x, y = (pos - middle).T
    r, t = np.hypot(x, y) / max(float(np.ptp(pos[:, 0])) / 2, 1e-6), np.arctan2(x, y)
    paper, ink = (np.float32(0.16), np.float32(0.93)) if dark else (np.float32(0.95), np.float32(0.15))
    ticks = (np.abs(((t * 6 / np.pi + 0.5) % 1.0) - 0.5) < 0.07) & (r > 0.72) & (r < 0.9)
    hour, minute = 1.05, -1.05  # ten past ten, as in every watch advertisement
    hands = (np.abs(np.sin(t - minute)) * r < 0.045) & (np.cos(t - minute) > 0) & (r < 0.7)
    hands |= (np.abs(np.sin(t - hour)) * r < 0.065) & (np.cos(t - hour) > 0) & (r < 0.5)
    value = np.where(ticks | hands, ink, paper)[:, None] * np.ones(3, np.float32)
    return np.asarray(value, dtype=np.float32)


def accent_rgb(item: Item) -> F32:
    """Colour of the accent parts: the second colour, or a darker tone of the first in calmer designs."""
    if item.pattern_scale > 4.4 or (item.pattern == "plain" and item.pattern_scale > 3.6):
        c = _rgb(item.colour)
        return np.asarray(c * 0.62 if c.mean() > 0.3 else c + 0.16, dtype=np.float32)
    return _rgb(item.colour2)


class Canvas:
    """One view of one shape, ready to be painted with any product of that shape, under any light."""

    def __init__(self, buffer: Buffer, shape: Shape) -> None:
        self.buffer = buffer
        part = buffer.part
        self._body = np.flatnonzero(part == BODY)
        self._accent = np.flatnonzero(part == ACCENT)
        self._trim = np.flatnonzero(part == TRIM)
        self._face = np.flatnonzero(part == FACE)
        self._uv = buffer.uv[self._body]
        cell = (buffer.uv * _GRAIN_SCALE).astype(np.int32) & 255
        self._cell = cell[:, 1] * 256 + cell[:, 0]
        self._fixed = np.zeros((len(part), 3), dtype=np.float32)
        for role, tone in _FIXED.items():
            self._fixed[part == role] = np.asarray(tone, dtype=np.float32) / 255
        wood = np.flatnonzero(part == WOOD)
        if len(wood):
            self._fixed[wood] *= grain("wood").ravel()[self._cell[wood]][:, None]
        mu, mv, size = shape.mark
        near = (np.abs(self._uv[:, 0] - mu) < size * 0.75) & (np.abs(self._uv[:, 1] - mv) < size * 0.75)
        if shape.uv == "planar":  # only on the front
            near &= buffer.normal[self._body, 2] > 0.1
        self._spot = np.flatnonzero(near)
        self._at = (self._uv[self._spot] - np.asarray((mu, mv), dtype=np.float32)) / np.float32(size)
        self._shadow = buffer.shadow.ravel()
        self._blank = np.zeros((buffer.side * buffer.side, 4), dtype=np.uint8)
        self._blank[:, 3] = self._shadow * 255
        self._lit: dict[Light, Shade] = {}
        self._coats: dict[tuple[Light, str, bool], Coat] = {}

    def _coat(self, light: Light, finish: str, glowing: bool) -> Coat:
        if light not in self._lit:
            self._lit[light] = shade(self.buffer, light)
        key = (light, finish, glowing)
        if key not in self._coats:
            self._coats[key] = coat(self.buffer, self._lit[light], finish, glowing)
        return self._coats[key]

    def _marked(self, item: Item, base: F32) -> None:
        """Draw the brand mark into the body's albedo, on a calm patch where there is a pattern."""
        spot, d = self._spot, self._at
        if item.pattern != "plain":
            patch = np.clip((0.68 - np.hypot(d[:, 0], d[:, 1])) * 12, 0, 1)[:, None]
            base[spot] += patch * (_rgb(item.colour) - base[spot])
        brand = BRANDS[item.brand]
        ij = ((d + 0.5) * 64).astype(np.int32)
        ok = (ij >= 0).all(axis=1) & (ij < 64).all(axis=1)
        ij = np.clip(ij, 0, 63)
        a = np.where(ok, brand_mark(brand.form, brand.outline)[63 - ij[:, 1], ij[:, 0]], 0)[:, None]
        ink = np.float32(0.95) if item.mark_light else np.float32(0.13)
        base[spot] += a * (ink - base[spot])

    def _albedo(self, item: Item) -> F32:
        out = self._fixed.copy()
        out[self._trim] = np.asarray(_TRIM_TONES[int(item.pattern_scale * 1000) % 4], dtype=np.float32) / 255
        out[self._accent] = accent_rgb(item)
        if len(self._face):
            out[self._face] = _dial(item.mark_light, self.buffer.uv[self._face])
        base = _pattern(item, self._uv)
        if len(self._spot):
            self._marked(item, base)
        surface = MATERIALS[item.material][2]
        if surface:
            base *= grain(surface).ravel()[self._cell[self._body]][:, None]
        out[self._body] = base
        return out

    def paint(self, item: Item, light: Light) -> U8:
        """u8 [side, side, 4]: colours premultiplied by alpha; the floor shadow is included as dark alpha."""
        finish = MATERIALS[item.material][1]
        c = self._coat(light, finish, item.category == "lamp" and item.material == "linen")
        rgb = self._albedo(item)
        rgb *= c.tint
        rgb += c.white
        np.minimum(rgb, 1.0, out=rgb)
        pixels = np.empty((len(rgb), 4), dtype=np.uint8)
        if finish == "glass":
            rgb *= c.alpha[:, None]
            pixels[:, 3] = 255 * (c.alpha + (1 - c.alpha) * self._shadow[self.buffer.index])
        else:
            pixels[:, 3] = 255
        rgb *= 255
        pixels[:, :3] = rgb
        out = self._blank.copy()
        out.view(np.uint32)[self.buffer.index] = pixels.view(np.uint32)
        return out.reshape(self.buffer.side, self.buffer.side, 4)
