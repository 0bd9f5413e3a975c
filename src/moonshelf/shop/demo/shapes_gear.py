"""Models of gear: bottle, headphones, speaker, and the hand that holds things in phone photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.geometry import ACCENT, BODY, DARK, SKIN, TRIM, Parts, Shape
from moonshelf.shop.demo.sdf import (
    F32,
    Outline,
    Points,
    box,
    capsule,
    chain,
    curve,
    cylinder,
    ellipsoid,
    extruded,
    hypot,
    moved,
    revolved,
    rotated_x,
    smooth_max,
    smooth_min,
    torus,
)

U8 = NDArray[np.uint8]


def bottle(profile: list[tuple[float, float]], cap: str, band_at: float = 0.0) -> Shape:
    """``cap``: screw, loop, straw or dome; ``band_at``: height of a silicone band, 0 for none."""
    body = Outline.of([(0.0, 0.0), *curve(profile, 12), (0.0, profile[-1][1])])
    neck, top = profile[-1]
    heights = np.asarray([y for _, y in curve(profile, 12)])
    radii = np.asarray([r for r, _ in curve(profile, 12)])

    def parts(p: Points) -> Parts:
        out: Parts = [(BODY, revolved(body, p))]
        if cap == "dome":
            lid = smooth_min(
                ellipsoid(p, (0.0, top, 0.0), (neck * 1.03, 0.13, neck * 1.03)),
                cylinder(p, (0.0, top + 0.0, 0.0), neck * 1.03, 0.04),
                0.02,
            )
        else:
            lid = cylinder(p, (0.0, top + 0.05, 0.0), neck * 1.06, 0.065, 0.018)
            grooves = 0.004 * np.cos(np.arctan2(p[0], p[2]) * 26)
            lid = (lid + grooves) * 0.8 if cap == "screw" else lid
        if cap == "loop":
            ring = torus(p, (0.0, top + 0.12, 0.0), 0.085, 0.022, axis="z", stretch=0.9)
            lid = smooth_min(lid, np.maximum(ring, top - p[1]), 0.02)
        if cap == "straw":
            lid = np.minimum(
                lid,
                chain(
                    p,
                    [(0.04, top + 0.08, 0.0), (0.05, top + 0.2, 0.0), (-0.07, top + 0.25, 0.0)],
                    [0.028] * 3,
                ),
            )
        out.append((ACCENT, lid))
        if band_at:
            r = float(np.interp(band_at, heights, radii))
            out.append((TRIM, cylinder(p, (0.0, band_at, 0.0), r + 0.012, 0.045, 0.01)))
        return out

    return Shape(parts, "revolve", (0.0, top * 0.52, 0.19), None, 10, -14, (0.0, top * 0.6, 0.2))


def headphones(cup: str, band_thick: float, tall: float = 1.15) -> Shape:
    """``cup``: round, oval, square or small (on-ear)."""
    size = 0.15 if cup == "small" else 0.21

    def parts(p: Points) -> Parts:
        q = rotated_x(moved(p, (0.0, 0.3, 0.0)), 0)
        x, y, z = q
        arch = hypot(x, (y - 0.05) / tall) - 0.42
        loop = np.maximum(np.abs(arch) - band_thick * 0.45, np.abs(z) - 0.045 - band_thick * 0.4) - 0.012
        loop = np.maximum(loop, -y) * 0.85
        pad = np.maximum(np.abs(arch + 0.035) - 0.018, np.abs(z) - 0.06) - 0.012
        pad = np.maximum(pad, 0.28 - y) * 0.85
        m = (np.abs(x), y, z)
        stem = capsule(m, (0.42, 0.1, 0.0), (0.425, -0.06, 0.0), 0.022)
        c = (m[0] + 0.14 * y, y, z)
        if cup == "square":
            shell = box(c, (0.4, -0.06, 0.0), (0.055, size * 0.95, size * 0.8), 0.05)
            ear = box(c, (0.325, -0.06, 0.0), (0.045, size * 0.9, size * 0.76), 0.04)
        else:
            s = (c[0], (c[1] + 0.06) / (1.25 if cup == "oval" else 1.0), c[2])
            shell = cylinder(s, (0.4, 0.0, 0.0), size, 0.05, 0.035, axis="x")
            ear = smooth_max(
                cylinder(s, (0.325, 0.0, 0.0), size * 0.94, 0.045, 0.03, axis="x"),
                -cylinder(s, (0.27, 0.0, 0.0), size * 0.5, 0.05, 0.01, axis="x"),
                0.02,
            )
        return [(BODY, loop), (DARK, pad), (TRIM, stem), (BODY, shell), (DARK, ear * 0.9)]

    def paint(pos: F32, normal: F32, part: U8) -> U8:
        y, z = pos[:, 1] - 0.24, pos[:, 2]
        outer = (
            (part == BODY)
            & (np.abs(pos[:, 0]) > 0.42)
            & (hypot(y, z) < size * 0.55)
            & (np.abs(normal[:, 0]) > 0.6)
        )
        return np.where(outer, ACCENT, part).astype(np.uint8)

    return Shape(parts, "box", (5.3, 0.24, 0.13), paint, 10, 38, (0.38, 0.3, 0.05))


def speaker(kind: str) -> Shape:
    """``kind``: tower, cube, cylinder, pill (lying) or retro (with a handle)."""
    pill = Outline.of(
        curve(
            [(0.3, 0.0), (0.42, 0.16), (0.3, 0.32), (-0.3, 0.32), (-0.42, 0.16), (-0.3, 0.0), (0.3, 0.0)], 9
        )
    )

    def driver(p: Points, at: tuple[float, float, float], r: float) -> Parts:
        bowl = smooth_max(
            cylinder(p, at, r, 0.02, 0.008, axis="z"),
            -ellipsoid(p, (at[0], at[1], at[2] + 0.045), (r * 0.85, r * 0.85, 0.05)),
            0.01,
        )
        ring = torus(p, (at[0], at[1], at[2] + 0.018), r, 0.014, axis="z")
        dome = ellipsoid(p, (at[0], at[1], at[2] - 0.005), (r * 0.3, r * 0.3, 0.03))
        return [(DARK, bowl), (TRIM, ring), (ACCENT, dome)]

    def parts(p: Points) -> Parts:
        x, y, z = p
        if kind == "tower":
            return [
                (BODY, box(p, (0.0, 0.5, 0.0), (0.23, 0.5, 0.2), 0.03)),
                *driver(p, (0.0, 0.33, 0.2), 0.16),
                *driver(p, (0.0, 0.76, 0.2), 0.085),
            ]
        if kind == "cube":
            body = box(p, (0.0, 0.36, 0.0), (0.34, 0.34, 0.3), 0.09)
            feet = cylinder((np.abs(x), y, np.abs(z)), (0.22, 0.02, 0.18), 0.04, 0.03)
            return [(BODY, body), *driver(p, (0.0, 0.35, 0.3), 0.22), (DARK, feet)]
        if kind == "cylinder":
            body = cylinder(p, (0.0, 0.42, 0.0), 0.25, 0.42, 0.05)
            top = cylinder(p, (0.0, 0.835, 0.0), 0.2, 0.012, 0.005)
            ring = cylinder(p, (0.0, 0.12, 0.0), 0.256, 0.014, 0.005)
            return [(BODY, body), (DARK, top), (TRIM, ring)]
        if kind == "pill":
            body = extruded(pill, x, y, z, 0.16, 0.1)
            return [(BODY, body), *driver((np.abs(x), y, z), (0.22, 0.16, 0.155), 0.1)]
        body = box(p, (0.0, 0.3, 0.0), (0.44, 0.28, 0.17), 0.06)
        grip = chain(
            (np.abs(x), y, z), [(0.3, 0.56, 0.0), (0.28, 0.7, 0.0), (0.0, 0.72, 0.0)], [0.02, 0.022, 0.022]
        )
        knobs = cylinder((np.abs(x - 0.26), y, z), (0.07, 0.44, 0.18), 0.035, 0.03, 0.008, axis="z")
        return [(BODY, body), *driver(p, (-0.14, 0.3, 0.17), 0.19), (TRIM, np.minimum(grip, knobs))]

    mark = {
        "tower": (0.0, 0.585, 0.1),
        "cube": (0.0, 0.09, 0.1),
        "cylinder": (0.0, 0.45, 0.17),
        "pill": (0.0, 0.16, 0.13),
        "retro": (0.26, 0.22, 0.14),
    }[kind]
    return Shape(parts, "revolve" if kind == "cylinder" else "box", mark, None, 12, -22, (0.05, 0.45, 0.2))


def hand() -> Shape:
    """Four fingers and a thumb that come in from the right, to cover part of a product in a phone photo."""

    def parts(p: Points) -> Parts:
        d = ellipsoid(p, (0.62, 0.42, -0.05), (0.3, 0.26, 0.14))
        d = smooth_min(d, capsule(p, (0.7, 0.35, -0.05), (1.25, 0.15, -0.1), 0.17, 0.2), 0.12)
        for k, (length, y) in enumerate(((0.34, 0.66), (0.42, 0.53), (0.4, 0.4), (0.3, 0.28))):
            nodes = [
                (0.5, y - 0.02, 0.02),
                (0.5 - length * 0.55, y + 0.02 - 0.01 * k, 0.12),
                (0.5 - length, y + 0.01, 0.07),
            ]
            d = smooth_min(d, chain(p, nodes, [0.075, 0.065, 0.055], 0.03), 0.035)
        return [(SKIN, d)]

    return Shape(parts, "planar", (9.0, 9.0, 0.1), None, 8, 0)
