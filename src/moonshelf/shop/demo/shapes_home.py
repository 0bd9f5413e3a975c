"""Models of things for the home: mug, teapot, vase, lamp, cushion, chair. Each function returns a `Shape`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.geometry import ACCENT, BODY, DARK, PALE, TRIM, WOOD, Parts, Shape
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

Profile = list[tuple[float, float]]
U8 = NDArray[np.uint8]


def vessel(profile: Profile, wall: float, floor: float = 0.05) -> Outline:
    """Cross-section of an open vessel: the outer profile (radius, height) from the foot up, and a wall
    inside it.
    """
    outer = curve(profile, 12)
    inner = [(max(r - wall, 0.01), y) for r, y in outer if y > floor]
    return Outline.of([(0.0, 0.0), *outer, *reversed(inner), (0.0, floor)])


def _inside(profile: Profile) -> tuple[F32, F32]:
    outer = np.asarray(curve(profile, 12), dtype=np.float32)
    return outer[:, 1], outer[:, 0]


def mug(
    profile: Profile, handle: tuple[float, float, float], square: bool = False, rim: bool = False
) -> Shape:
    """``handle``: ring radius, tube radius, upright stretch. ``rim``: the lip is painted in the accent
    colour.
    """
    body = vessel(profile, 0.035)
    top = profile[-1][1]
    heights, radii = _inside(profile)
    ring, tube, stretch = handle
    at = float(np.interp(top * 0.52, heights, radii)) + ring * 0.42

    def parts(p: Points) -> Parts:
        wall = revolved(body, p)
        q = moved(p, (at, top * 0.52, 0.0))
        if square:
            frame = np.maximum(np.abs(q[0]) / 0.9, np.abs(q[1]) / stretch) - ring
            grip: F32 = (np.maximum(np.abs(frame), np.abs(q[2]) - tube * 0.4) - tube * 0.8) * 0.6
        else:
            grip = torus(p, (at, top * 0.52, 0.0), ring, tube, axis="z", stretch=stretch)
        outer = np.interp(p[1], heights, radii).astype(np.float32)
        grip = np.maximum(grip, (outer - 0.02) - hypot(p[0], p[2]))
        return [(BODY, smooth_min(wall, grip, 0.03))]

    def paint(pos: F32, normal: F32, part: U8) -> U8:
        radius = hypot(pos[:, 0], pos[:, 2])
        inside = (radius < np.interp(pos[:, 1], heights, radii) - 0.02) & (pos[:, 1] > 0.06)
        lip = (pos[:, 1] > top - 0.035) & rim
        return np.where(lip, ACCENT, np.where(inside, PALE, part)).astype(np.uint8)

    return Shape(parts, "revolve", (0.0, top * 0.5, 0.3), paint, 16, -26, (0.05, top * 0.55, 0.3))


def teapot(profile: Profile, spout: float, bail: bool = False, lid: float = 0.2) -> Shape:
    """``spout``: how high the spout rises; ``bail``: handle over the top instead of behind."""
    body = Outline.of([(0.0, 0.0), *curve(profile, 12), (0.0, profile[-1][1])])
    top = profile[-1][1]
    widest = max(r for r, _ in profile)

    def parts(p: Points) -> Parts:
        pot = revolved(body, p)
        tip = widest + 0.26
        nodes = [(widest * 0.75, top * 0.3, 0.0), (widest + 0.09, top * 0.5, 0.0), (tip, spout, 0.0)]
        neck = smooth_max(chain(p, nodes, [0.1, 0.065, 0.038]), p[1] - spout + 0.0 * p[0], 0.02)
        pot = smooth_min(pot, neck, 0.05)
        cover = ellipsoid(p, (0.0, top - 0.02, 0.0), (lid, 0.09, lid))
        knob = ellipsoid(p, (0.0, top + 0.1, 0.0), (0.05, 0.045, 0.05))
        if bail:
            grip = torus(p, (0.0, top * 0.92, 0.0), widest * 0.82, 0.025, axis="z", stretch=1.15)
            grip = np.maximum(grip, top * 0.8 - p[1])
        else:
            grip = torus(p, (-widest - 0.07, top * 0.55, 0.0), 0.19, 0.034, axis="z", stretch=1.2)
            grip = np.maximum(grip, widest * 0.86 - hypot(p[0], p[2]))
        return [(BODY, pot), (BODY, cover), (ACCENT, knob), (TRIM if bail else BODY, grip)]

    return Shape(parts, "revolve", (0.0, top * 0.5, 0.28), None, 16, -16, (0.0, top * 0.6, 0.3))


def vase(profile: Profile, ribs: int = 0, ears: bool = False) -> Shape:
    """``ribs``: number of upright flutes; ``ears``: two small handles at the neck."""
    body = vessel(profile, 0.03)
    top = profile[-1][1]
    heights, radii = _inside(profile)
    neck = float(np.interp(top * 0.8, heights, radii))

    def parts(p: Points) -> Parts:
        wall = revolved(body, p)
        if ribs:
            flute = np.cos(np.arctan2(p[0], p[2]) * ribs) * np.clip((hypot(p[0], p[2]) - 0.12) / 0.1, 0, 1)
            wall = (wall + 0.007 * flute) * 0.8
        if ears:
            for s in (-1.0, 1.0):
                ear = torus(p, (s * (neck + 0.05), top * 0.76, 0.0), 0.085, 0.022, axis="z", stretch=1.4)
                wall = smooth_min(wall, np.maximum(ear, neck * 0.9 - hypot(p[0], p[2])), 0.03)
        return [(BODY, wall)]

    def paint(pos: F32, normal: F32, part: U8) -> U8:
        inside = hypot(pos[:, 0], pos[:, 2]) < np.interp(pos[:, 1], heights, radii) - 0.022 - 0.012 * bool(
            ribs
        )
        return np.where(inside & (pos[:, 1] > 0.06), DARK, part).astype(np.uint8)

    return Shape(parts, "revolve", (0.0, top * 0.42, 0.2), paint, 12, -20, (0.0, top * 0.5, 0.3))


def lamp(shade: Profile, base: Profile, stem: float = 0.022, arm: bool = False) -> Shape:
    """Table lamp; ``arm``: a bent desk-lamp arm instead of a straight stem."""
    cover = Outline.of([*shade, *[(r - 0.02, y) for r, y in reversed(shade)]])
    foot = Outline.of([(0.0, 0.0), *curve(base, 12), (0.0, base[-1][1])])
    low, high = shade[0][1], shade[-1][1]

    def parts(p: Points) -> Parts:
        foot_d = revolved(foot, p)
        if arm:
            nodes = [(0.0, 0.05, 0.0), (-0.3, 0.52, 0.0), (0.16, 0.98, 0.0)]
            rod = chain(p, nodes, [0.02, 0.02, 0.02])
            joint = ellipsoid(p, (-0.3, 0.52, 0.0), (0.04, 0.04, 0.04))
            q = moved(p, (0.28, 0.86 - (low + high) / 2, 0.0))
            c = 0.5
            q = (q[0] * 0.87 + (q[1] - 0.3) * c, (q[1] - 0.3) * 0.87 - q[0] * c + 0.3, q[2])
            bulb = ellipsoid(q, (0.0, low + 0.06, 0.0), (0.07, 0.08, 0.07))
            return [(BODY, revolved(cover, q)), (TRIM, np.minimum(rod, joint)), (BODY, foot_d), (PALE, bulb)]
        rod = capsule(p, (0.0, 0.03, 0.0), (0.0, high - 0.05, 0.0), stem)
        bulb = ellipsoid(p, (0.0, low + 0.1, 0.0), (0.07, 0.09, 0.07))
        return [(BODY, revolved(cover, p)), (ACCENT, foot_d), (TRIM, rod), (PALE, bulb)]

    middle = (low + high) / 2
    return Shape(parts, "revolve", (0.0, middle, 0.15), None, 8, -20, (0.05, middle - 0.1, 0.25))


def cushion(width: float, height: float, thick: float, kind: str) -> Shape:
    """``kind``: square, round, tufted, fringed (tassels at the corners) or bolster. It leans back a
    little.
    """

    lift = 0.08 if kind == "fringed" else 0.01

    def parts(p: Points) -> Parts:
        x, y, z = rotated_x(moved(p, (0.0, height + lift, 0.0)), 14)
        if kind == "bolster":
            roll = cylinder((x, y + height - thick, z), (0.0, 0.0, 0.0), thick, width, 0.09, axis="x")
            button = ellipsoid((np.abs(x), y + height - thick, z), (width, 0.0, 0.0), (0.03, 0.06, 0.06))
            return [(BODY, roll), (ACCENT, button)]
        if kind == "round":
            d = ellipsoid((x, y, z), (0.0, 0.0, 0.0), (width, height, thick))
            d = smooth_max(d, np.abs(z) - thick * 0.8, 0.1)
            piping = torus((x, y, z), (0.0, 0.0, 0.0), width * 0.985, 0.016, axis="z", stretch=height / width)
            return [(BODY, d), (ACCENT, piping)]
        u, v = np.clip(np.abs(x) / width, 0, 1), np.clip(np.abs(y) / height, 0, 1)
        puff = thick * np.sqrt(np.maximum((1 - u**3.0) * (1 - v**3.0), 0.0)) + 0.018
        if kind == "tufted":
            dimple = np.exp(-(((np.abs(x) - 0.21) ** 2 + (np.abs(y) - 0.21) ** 2) / 0.004))
            dimple += np.exp(-((x**2 + y**2) / 0.004))
            puff = puff * (1 - 0.35 * dimple)
        pinch = 0.045 * (1 - u**2) * v + 0.045 * (1 - v**2) * u
        d = np.maximum(np.maximum(np.abs(x) - width, np.abs(y) - height) + pinch, (np.abs(z) - puff) * 0.6)
        out: Parts = [(BODY, d * 0.8)]
        if kind == "fringed":
            corner = (np.abs(x), np.abs(y), z)
            tassel = capsule(
                corner, (width - 0.02, height - 0.02, 0.0), (width + 0.09, height + 0.09, 0.0), 0.02, 0.045
            )
            out.append((ACCENT, tassel))
        return out

    return Shape(parts, "planar", (0.0, height, 0.28), None, 12, -18, (0.15, height, thick))


def chair(kind: str, arms: bool = False) -> Shape:
    """``kind``: solid back, slats, spindle, shell, stool or lounge."""
    shell = Outline.of(
        curve(
            [
                (-0.3, 0.48),
                (0.2, 0.44),
                (0.27, 0.5),
                (0.24, 0.56),
                (-0.16, 0.56),
                (-0.3, 1.08),
                (-0.38, 1.1),
                (-0.36, 0.7),
            ],
            5,
        )
    )

    def parts(p: Points) -> Parts:
        x, y, z = p
        seat_y = 0.36 if kind == "lounge" else 0.7 if kind == "stool" else 0.5
        wide = 0.36 if kind == "lounge" else 0.27
        m = (np.abs(x), y, z)
        splay = 0.08 if kind in ("shell", "spindle", "stool") else 0.01
        front = capsule(
            m,
            (wide - 0.06, seat_y, wide - 0.07),
            (wide - 0.04 + splay, 0.0, wide - 0.04 + splay),
            0.03,
            0.018,
        )
        rear = capsule(
            m,
            (wide - 0.06, seat_y, -wide + 0.07),
            (wide - 0.04 + splay, 0.0, -wide + 0.02 - splay),
            0.03,
            0.018,
        )
        out: Parts = [(WOOD, np.minimum(front, rear))]
        if kind == "shell":
            body = extruded(shell, z, y, x - 0.0, 0.29, 0.03)
            bend = np.maximum(body, hypot(x, y - 0.62) - 0.5)
            return [(BODY, smooth_max(body, bend, 0.1)), *out]
        seat = box(p, (0.0, seat_y, 0.0), (wide, 0.035 if kind != "lounge" else 0.09, wide), 0.03)
        out.append((BODY, seat))
        if kind == "stool":
            ring = torus(p, (0.0, 0.25, 0.0), wide + 0.02, 0.015)
            return [*out, (TRIM, ring)]
        tilt = rotated_x(moved(p, (0.0, seat_y, -wide + 0.04)), -9)
        posts = capsule(
            (np.abs(tilt[0]), tilt[1], tilt[2]), (wide - 0.035, 0.0, 0.0), (wide - 0.035, 0.56, 0.0), 0.024
        )
        if kind == "solid":
            back = box(tilt, (0.0, 0.36, 0.0), (wide - 0.03, 0.2, 0.028), 0.026)
            out += [(WOOD, posts), (BODY, back)]
        elif kind == "slats":
            rails = [box(tilt, (0.0, h, 0.0), (wide - 0.03, 0.042, 0.016), 0.014) for h in (0.22, 0.37, 0.52)]
            out += [(WOOD, posts), *[(BODY, r) for r in rails]]
        elif kind == "spindle":
            bow = torus(tilt, (0.0, 0.22, 0.0), wide - 0.03, 0.024, axis="z", stretch=1.35)
            bow = np.maximum(bow, -tilt[1])
            k = np.clip(np.round(tilt[0] / 0.085), -2, 2)
            pin = hypot(tilt[0] - k * 0.085, tilt[2]) - 0.011
            out += [(WOOD, bow), (BODY, np.maximum(np.maximum(pin, -tilt[1]), tilt[1] - 0.5))]
        else:
            back = box(tilt, (0.0, 0.36, 0.03), (wide, 0.34, 0.08), 0.07)
            out.append((BODY, back))
        if arms:
            rest = box(m, (wide + 0.03, seat_y + 0.23, 0.0), (0.04, 0.02, wide - 0.01), 0.018)
            prop = capsule(
                m, (wide + 0.03, seat_y + 0.22, wide - 0.08), (wide - 0.02, seat_y, wide - 0.08), 0.018
            )
            out += [(WOOD, np.minimum(rest, prop))]
        return out

    high = 0.86 if kind not in ("stool", "lounge") else 0.7
    return Shape(parts, "box", (0.0, high, 0.13), None, 16, -32, (0.1, 0.7, 0.0))
