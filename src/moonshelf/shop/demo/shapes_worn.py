"""Models of things to wear or carry: t-shirt, sneaker, watch, backpack, handbag; each a `Shape`."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.geometry import ACCENT, BODY, DARK, FACE, PALE, TRIM, Parts, Shape
from moonshelf.shop.demo.sdf import (
    F32,
    Outline,
    Points,
    box,
    capsule,
    curve,
    cylinder,
    ellipsoid,
    extruded,
    hypot,
    moved,
    rotated_x,
    smooth_max,
    torus,
)

U8 = NDArray[np.uint8]
Polygon = list[tuple[float, float]]


def _mirrored(right: Polygon) -> Polygon:
    return [*right, *[(-x, y) for x, y in reversed(right)]]


def shirt(sleeve: str, neck: str, fit: float = 1.0) -> Shape:
    """Laid flat (y is its thickness, -z its top). ``sleeve``: short, long or none; ``neck``: crew, vee or
    polo.
    """
    w = 0.34 * fit
    low = {"crew": 0.36, "vee": 0.24, "polo": 0.36}[neck]
    right: Polygon = [(0.0, low), (0.09, 0.41), (0.14, 0.47)]
    if sleeve == "short":
        right += [(w + 0.0, 0.4), (w + 0.21, 0.12), (w + 0.06, 0.04), (w - 0.02, 0.16)]
    elif sleeve == "long":
        right += [(w + 0.0, 0.4), (w + 0.17, -0.28), (w + 0.06, -0.31), (w - 0.02, 0.14)]
    else:
        right += [(w - 0.1, 0.46), (w - 0.12, 0.26), (w - 0.02, 0.14)]
    right += [(w, -0.1), (w + 0.02, -0.5), (0.0, -0.51)]
    outline = Outline.of(_mirrored(right), 150)
    collar_line = [(0.14, 0.47), (0.09, 0.41), (0.0, low)]

    def parts(p: Points) -> Parts:
        x, y, z = p
        d2 = outline(x, -z)
        folds = (
            0.006 * np.sin(x * 9 + z * 5) + 0.005 * np.sin(z * 13 - x * 17) + 0.004 * np.sin(x * 31 + z * 3)
        )
        puff = 0.05 * np.clip(-d2 / 0.11, 0, 1) ** 0.5 + 0.012 + folds * np.clip(-d2 / 0.05, 0, 1)
        cloth = np.maximum(d2, (np.abs(y) - puff) * 0.7) * 0.7
        m = (np.abs(x), y, z)
        edge = np.full_like(x, 9.0)
        for (ax, ay), (bx, by) in itertools.pairwise(collar_line):
            edge = np.minimum(edge, capsule(m, (ax, 0.02, -ay), (bx, 0.02, -by), 0.02))
        out: Parts = [(BODY, cloth), (ACCENT, edge)]
        if neck == "polo":
            flap = capsule(m, (0.12, 0.045, -0.45), (0.03, 0.05, -0.33), 0.035)
            buttons = np.minimum(
                ellipsoid(p, (0.0, 0.05, -0.26), (0.015, 0.02, 0.015)),
                ellipsoid(p, (0.0, 0.05, -0.19), (0.015, 0.02, 0.015)),
            )
            out += [(ACCENT, flap), (PALE, buttons)]
        return out

    def paint(pos: F32, normal: F32, part: U8) -> U8:
        cuff = outline(pos[:, 0] * 1.0, -pos[:, 2])
        hem = (cuff > -0.025) & (np.abs(pos[:, 0]) > w + 0.03) & (sleeve != "none")
        return np.where(hem & (part == BODY) & (neck != "vee"), ACCENT, part).astype(np.uint8)

    return Shape(parts, "flat", (0.0, 0.12, 0.24), paint, 82, 0, (0.0, 0.0, -0.12))


def sneaker(side: Polygon, sole: float, toe_cap: bool, high: bool = False) -> Shape:
    """``side``: upper seen from the side (x forward, y up); ``sole``: its thickness; ``high``: ankle boot
    collar.
    """
    foot: Polygon = [
        (-0.5, 0.0),
        (-0.46, 0.13),
        (-0.2, 0.145),
        (0.1, 0.17),
        (0.35, 0.175),
        (0.5, 0.1),
        (0.54, 0.0),
    ]
    outline = Outline.of(curve([*foot, *[(x, -z) for x, z in reversed(foot[1:-1])], foot[0]], 4), 130)
    upper = Outline.of(curve(side, 4), 130)

    def parts(p: Points) -> Parts:
        x, y, z = p
        base = extruded(outline, x, z, y - sole / 2, sole / 2, 0.025)
        taper = 0.07 * np.clip((y - sole) / 0.4, 0, 1)
        foot_d = outline(x, z * (1 + taper * 5)) + 0.012 + taper * 0.3
        body = smooth_max(upper(x, y) + 0.01, foot_d, 0.09) * 0.8
        mouth_y = 0.62 if high else 0.47
        hole = ellipsoid(p, (-0.28, mouth_y + 0.05, 0.0), (0.13, 0.2, 0.05))
        body = smooth_max(body, -hole, 0.03)
        out: Parts = [(BODY, body), (PALE, base)]
        laces = np.full_like(x, 9.0)
        for k in range(5 if high else 4):
            lx = 0.19 - 0.075 * k
            ly = float(np.interp(lx, [-0.2, 0.0, 0.25], [0.45 if not high else 0.52, 0.37, 0.245])) + 0.005
            laces = np.minimum(
                laces, capsule((x, y, np.abs(z)), (lx, ly, 0.0), (lx - 0.03, ly - 0.025, 0.075), 0.016)
            )
        out.append((ACCENT, laces))
        return out

    def paint(pos: F32, normal: F32, part: U8) -> U8:
        x, y = pos[:, 0], pos[:, 1]
        up = part == BODY
        cap = up & (x > 0.36) & toe_cap
        heel = up & (x < -0.4) & (y < 0.36)
        inside = (
            up
            & (hypot((x + 0.27) / 0.17, (y - (0.62 if high else 0.47)) / 0.2) < 1.0)
            & (np.abs(pos[:, 2]) < 0.07)
        )
        line = (part == PALE) & (y > sole * 0.45) & (y < sole * 0.62)
        part = np.where(cap, PALE, np.where(heel | line, ACCENT, part))
        return np.where(inside, DARK, part).astype(np.uint8)

    return Shape(parts, "planar", (-0.08, 0.26, 0.17), paint, 14, 24, (0.0, 0.28, 0.15))


def watch(case: str, strap: str, size: float = 0.2) -> Shape:
    """Standing on its closed strap, dial to the viewer. ``case``: round, square or tonneau; ``strap``: band
    or links.
    """

    def parts(p: Points) -> Parts:
        q = rotated_x(moved(p, (0.0, 0.36, 0.0)), 20)
        x, y, z = q
        z = z - 0.05
        q = (x, y, z)
        half = 0.1 + 0.035 * np.clip((z + 0.25) / 0.5, 0, 1)
        loop = np.maximum(np.abs(hypot(y / 1.22, z + 0.22) - 0.3) - 0.022, np.abs(x) - half) * 0.75
        if strap == "links":
            angle = np.arctan2(y / 1.22, z + 0.22)
            loop = loop + 0.008 * np.abs(np.sin(angle * 14))
        front = 0.09
        if case == "round":
            body = cylinder(q, (0.0, 0.0, front), size, 0.045, 0.02, axis="z")
            bezel = torus(q, (0.0, 0.0, front + 0.045), size - 0.02, 0.018, axis="z")
            dial = cylinder(q, (0.0, 0.0, front + 0.035), size - 0.03, 0.013, 0.002, axis="z")
        else:
            tall = size * (1.25 if case == "tonneau" else 1.0)
            round_ = 0.09 if case == "tonneau" else 0.045
            frame = box(q, (0.0, 0.0, front), (size * 0.86, tall * 0.92, 0.05 + round_ * 0.4), round_)
            body = np.maximum(frame, np.abs(z - front) - 0.05)
            inner = box(
                q,
                (0.0, 0.0, front),
                (size * 0.86 - 0.035, tall * 0.92 - 0.035, 0.2),
                max(round_ - 0.03, 0.01),
            )
            bezel = smooth_max(np.maximum(frame, np.abs(z - front - 0.05) - 0.012), -inner, 0.01)
            dial = np.maximum(inner, np.abs(z - front - 0.04) - 0.012)
        crown = cylinder(
            q, (size * (0.9 if case != "round" else 1.0) + 0.02, 0.0, front), 0.03, 0.03, 0.008, axis="x"
        )
        return [(BODY, loop), (TRIM, np.minimum(np.minimum(body, bezel), crown)), (FACE, dial)]

    return Shape(parts, "planar", (0.0, 0.41, 0.09), None, 10, -16, (0.0, 0.395, 0.1))


def backpack(width: float, height: float, pocket: str, top: str) -> Shape:
    """``pocket``: big, twin or none; ``top``: round, flap or roll."""
    h = height

    def parts(p: Points) -> Parts:
        x, y, z = p
        lean = (x, y, z + 0.05 * (y - 0.4))
        bulge = 0.02 * np.cos(x / width * 1.5)
        main = box(lean, (0.0, h, 0.0), (width, h, 0.2), 0.13 if top != "roll" else 0.07) - bulge * 0.5
        out: Parts = [(BODY, main * 0.9)]
        if pocket == "big":
            out.append((BODY, box(lean, (0.0, h * 0.58, 0.19), (width * 0.78, h * 0.44, 0.09), 0.075)))
            zip_ = box(lean, (0.0, h * 0.9, 0.262), (width * 0.6, 0.009, 0.02), 0.008)
            out.append((TRIM, zip_))
        elif pocket == "twin":
            m = (np.abs(x), lean[1], lean[2])
            out.append((ACCENT, box(m, (width * 0.47, h * 0.5, 0.19), (width * 0.4, h * 0.34, 0.08), 0.06)))
            out.append((TRIM, box(m, (width * 0.47, h * 0.66, 0.265), (0.025, 0.05, 0.012), 0.008)))
        else:
            seam = box(lean, (0.0, h * 0.95, 0.2), (width * 0.8, 0.01, 0.014), 0.008)
            out.append((TRIM, seam))
        if top == "flap":
            flap = box(lean, (0.0, h * 1.66, 0.06), (width * 1.02, h * 0.38, 0.19), 0.13)
            strap = box(
                (np.abs(x), lean[1], lean[2]), (width * 0.5, h * 1.25, 0.235), (0.028, 0.17, 0.02), 0.01
            )
            out += [(ACCENT, flap), (TRIM, strap)]
        elif top == "roll":
            out.append((ACCENT, cylinder(lean, (0.0, h * 2.0, 0.0), 0.085, width * 1.0, 0.03, axis="x")))
            out.append((TRIM, box(lean, (0.0, h * 1.8, 0.2), (0.03, h * 0.24, 0.014), 0.008)))
        else:
            arch = torus(lean, (0.0, h * 2 - 0.02, -0.04), 0.1, 0.02, axis="z")
            out.append((TRIM, np.maximum(arch, h * 2 - 0.04 - y)))
            zipper = (
                np.abs(hypot(hypot(x / width, (y - h * 1.3) / (h * 0.6)) - 0.82, (lean[2] - 0.2) * 3)) - 0.012
            )
            out.append(
                (TRIM, np.maximum(zipper, np.maximum(h * 1.25 - y, np.abs(lean[2] - 0.2) - 0.03)) * 0.3)
            )
        straps = torus((np.abs(x), y, z), (width * 0.55, h * 1.0, -0.24), 0.1, 0.03, axis="x", stretch=1.0)
        out.append((ACCENT, np.maximum(straps, -0.34 - z + 0 * x)))
        return out

    mark = (0.0, h * 0.58, 0.2) if pocket == "big" else (0.0, h * 1.36, 0.17)
    return Shape(parts, "box", mark, None, 12, -24, (0.05, h * 1.1, 0.25))


def handbag(
    right: Polygon, depth: float, handle: tuple[float, float], flap: float = 0.0, clasp: bool = True
) -> Shape:
    """``right``: right half of the front; ``handle``: ring radius and stretch; ``flap``: how far a front
    flap falls.
    """
    outline = Outline.of(_mirrored(curve(right, 4)))
    top = max(y for _, y in right)
    ring, stretch = handle

    def parts(p: Points) -> Parts:
        x, y, z = p
        d = depth * (1 - 0.45 * np.clip(y / top, 0, 1))
        body = extruded(outline, x, y, z / d * depth, depth, 0.05) * 0.75
        grips = np.full_like(x, 9.0)
        for s in (0.05, -0.05) if stretch < 2 else (0.0,):
            grips = np.minimum(grips, torus(p, (0.0, top - 0.03, s), ring, 0.02, axis="z", stretch=stretch))
        grips = np.maximum(grips, top - 0.06 - y)
        out: Parts = [(BODY, body), (ACCENT, grips)]
        if flap:
            cover = np.maximum(
                extruded(outline, x * 0.985, y - 0.012, (z - 0.02) / d * depth, depth + 0.015, 0.05) * 0.75,
                np.abs(z - 0.2) - 0.22,
            )
            curve_low = top - flap + 0.12 * (x / 0.4) ** 2
            out.append((ACCENT, smooth_max(cover, curve_low - y, 0.02)))
        if clasp:
            cy = top - flap + 0.04 if flap else top - 0.08
            depth_here = depth * (1 - 0.45 * cy / top)
            out.append((TRIM, cylinder(p, (0.0, cy, depth_here + 0.02), 0.035, 0.025, 0.01, axis="z")))
        for sx in (-1.0, 1.0):
            out.append((TRIM, ellipsoid(p, (sx * ring, top - 0.03, depth * 0.5), (0.03, 0.03, 0.03))))
        return out

    return Shape(
        parts,
        "planar",
        (0.0, (top - flap) * 0.5 if flap else top * 0.5, 0.22),
        None,
        12,
        -22,
        (0.05, top * 0.6, depth),
    )
