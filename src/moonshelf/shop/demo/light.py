"""Light on a geometry buffer: how bright each pixel is for each finish, before any product's colour.

Deferred shading. What depends on view, light and finish alone is a `Coat`; a picture is then albedo * tint +
white.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moonshelf.shop.demo.geometry import BODY, DARK, FACE, KEY_LIGHT, PALE, SKIN, TRIM, WOOD, Buffer
from moonshelf.shop.demo.sdf import F32

# finish: diffuse share, highlight strength, highlight sharpness, mirror share, edge glow
FINISH: dict[str, tuple[float, float, float, float, float]] = {
    "glossy": (0.94, 0.42, 70.0, 0.30, 0.0),
    "satin": (0.97, 0.16, 18.0, 0.10, 0.0),
    "matte": (1.0, 0.03, 8.0, 0.02, 0.0),
    "fabric": (1.02, 0.0, 1.0, 0.0, 0.06),
    "velvet": (0.86, 0.0, 1.0, 0.0, 0.42),
    "leather": (0.95, 0.17, 16.0, 0.05, 0.0),
    "metal": (0.34, 0.30, 40.0, 0.85, 0.0),
    "glass": (0.60, 0.50, 90.0, 0.55, 0.1),
}
_ROLE_FINISH = {TRIM: "metal", DARK: "satin", PALE: "satin", WOOD: "satin", FACE: "satin", SKIN: "satin"}


@dataclass(frozen=True)
class Light:
    """Where the key light stands, how strong it and the ambient light are."""

    direction: tuple[float, float, float]
    key: float
    ambient: float


STUDIO = Light((float(KEY_LIGHT[0]), float(KEY_LIGHT[1]), float(KEY_LIGHT[2])), 0.60, 0.60)
PHONE_LIGHTS = (
    Light((-0.75, 0.5, 0.43), 0.68, 0.44),
    Light((0.62, 0.72, 0.3), 0.62, 0.46),
    Light((0.05, 0.95, 0.3), 0.62, 0.46),
)


@dataclass(frozen=True)
class Shade:
    """Light on every pixel of a buffer, f32 [N]: diffuse, cosine to the half vector, mirror image, grazing
    0..1.
    """

    diffuse: F32
    half: F32
    mirror: F32
    grazing: F32


def smooth_step(x: F32, low: float, high: float) -> F32:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def shade(buffer: Buffer, light: Light) -> Shade:
    """Light a buffer: wrapped Lambert, Blinn-Phong half vector, two soft boxes and a bright ceiling as
    mirror image.
    """
    n, e = buffer.normal, buffer.eye
    key = np.asarray(light.direction, dtype=np.float32)
    lambert = n @ key
    wrapped = np.clip((lambert + 0.25) / 1.25, 0, 1)
    sky = n[:, 1] * 0.5 + 0.5
    front = np.clip((n * e).sum(axis=1), 0, 1)
    diffuse = (light.ambient * (0.52 + 0.48 * sky) + light.key * wrapped + 0.06 * front) * buffer.occlusion
    h = key + e
    h = h / np.linalg.norm(h, axis=1, keepdims=True)
    half = np.clip((n * h).sum(axis=1), 0, 1)
    r = 2 * front[:, None] * n - e
    side = np.sign(light.direction[0]) or 1.0
    box1 = (
        smooth_step(r[:, 0] * side, 0.35, 0.5)
        * (1 - smooth_step(r[:, 0] * side, 0.8, 0.95))
        * (1 - smooth_step(np.abs(r[:, 1] - 0.25), 0.4, 0.6))
    )
    box2 = smooth_step(-r[:, 0] * side, 0.72, 0.86) * (1 - smooth_step(np.abs(r[:, 1]), 0.5, 0.75)) * 0.55
    mirror = (
        0.30
        + 0.5 * smooth_step(r[:, 1], -0.2, 0.9)
        + 0.75 * box1
        + box2
        - 0.22 * (1 - smooth_step(r[:, 1], -0.7, -0.1))
    )
    mirror = mirror * (0.35 + 0.65 * buffer.occlusion)
    grazing = (1 - front) ** 3
    f = np.float32
    return Shade(diffuse.astype(f), half.astype(f), mirror.astype(f), grazing.astype(f))


@dataclass(frozen=True)
class Coat:
    """One finish on one lit view, f32: picture = albedo * tint [N,1] + white [N,1], in 0..1; alpha [N]."""

    tint: F32
    white: F32
    alpha: F32


def coat(buffer: Buffer, lit: Shade, finish: str, glowing: bool) -> Coat:
    """Apply a finish to the body and accent parts (the others keep their own); ``glowing``: a lit lamp
    shade.
    """
    table = np.asarray([FINISH[_ROLE_FINISH.get(role, finish)] for role in range(8)], dtype=np.float32)
    k = table[buffer.part]
    glow = lit.diffuse
    if glowing:
        glow = np.where(buffer.part == BODY, 0.5 * glow + 0.58, np.where(buffer.part == PALE, 1.05, glow))
    highlight = k[:, 1] * lit.half ** k[:, 2] + k[:, 4] * lit.grazing * 0.8
    fresnel = k[:, 3] * (0.25 + 0.75 * lit.grazing)
    metal = k[:, 3] > 0.8
    tint = np.where(metal, k[:, 3] * lit.mirror, 0) + k[:, 0] * glow
    white = highlight + np.where(metal, 0, fresnel * lit.mirror * 0.9)
    alpha = np.ones(len(tint), dtype=np.float32)
    if finish == "glass":
        clear = (buffer.part == BODY) | (buffer.part == PALE) | (buffer.part == DARK)
        alpha = np.where(clear, np.clip(0.46 + 0.6 * lit.grazing + 0.3 * highlight, 0, 1), 1).astype(
            np.float32
        )
    return Coat(tint[:, None].astype(np.float32), white[:, None].astype(np.float32), alpha)
