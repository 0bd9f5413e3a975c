"""Signed distance functions: the small vocabulary that the demo products are modelled with.

Every function takes points as three float32 arrays ``(x, y, z)`` of one shape and returns float32 distances
of that shape: negative inside, positive outside, in world units (a product is about one unit tall, y points
up, the floor is y = 0). Distances may be lower bounds where an exact form would be dear; the ray marcher
needs no more.
Formulas after the well-known list of primitives by Inigo Quilez; the polygon grid is our design.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.floating[Any]]  # float32 by intent; NumPy's stubs widen too many results to say so
Points = tuple[F32, F32, F32]
Vec = tuple[float, float, float]


def hypot(a: F32, b: F32) -> F32:
    """Euclidean length of (a, b), float32."""
    return np.sqrt(a * a + b * b)


def length3(x: F32, y: F32, z: F32) -> F32:
    """Euclidean length of (x, y, z), float32."""
    return np.sqrt(x * x + y * y + z * z)


def moved(p: Points, centre: Vec) -> Points:
    """Points relative to ``centre``."""
    return p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]


def rotated_x(p: Points, degrees: float) -> Points:
    """Points in a frame turned about the x axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return p[0], c * p[1] + s * p[2], c * p[2] - s * p[1]


def rotated_z(p: Points, degrees: float) -> Points:
    """Points in a frame turned about the z axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return c * p[0] + s * p[1], c * p[1] - s * p[0], p[2]


def smooth_min(a: F32, b: F32, k: float) -> F32:
    """Union with a fillet of about ``k`` (polynomial smooth minimum)."""
    h = np.maximum(k - np.abs(a - b), 0.0) * (1.0 / k)
    return np.minimum(a, b) - h * h * (k * 0.25)


def smooth_max(a: F32, b: F32, k: float) -> F32:
    """Intersection with a rounded edge of about ``k``."""
    return -smooth_min(-a, -b, k)


def ellipsoid(p: Points, centre: Vec, radii: Vec) -> F32:
    """Ellipsoid (first-order bound)."""
    x, y, z = moved(p, centre)
    a, b, c = radii
    k0 = length3(x / a, y / b, z / c)
    k1 = length3(x / (a * a), y / (b * b), z / (c * c))
    return k0 * (k0 - 1.0) / np.maximum(k1, 1e-6)


def box(p: Points, centre: Vec, half: Vec, radius: float = 0.02) -> F32:
    """Box with half sizes ``half`` and edges rounded by ``radius`` (inside the half sizes)."""
    x, y, z = moved(p, centre)
    qx, qy, qz = (
        np.abs(x) - (half[0] - radius),
        np.abs(y) - (half[1] - radius),
        np.abs(z) - (half[2] - radius),
    )
    outside = length3(np.maximum(qx, 0), np.maximum(qy, 0), np.maximum(qz, 0))
    return outside + np.minimum(np.maximum(qx, np.maximum(qy, qz)), 0) - radius


def capsule(p: Points, a: Vec, b: Vec, ra: float, rb: float | None = None) -> F32:
    """Rod from a to b whose radius goes from ``ra`` to ``rb``."""
    x, y, z = moved(p, a)
    dx, dy, dz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    h = np.clip((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
    d = length3(x - h * dx, y - h * dy, z - h * dz)
    return d - ra if rb is None else (d - (ra + (rb - ra) * h)) * 0.95


def chain(p: Points, nodes: Sequence[Vec], radii: Sequence[float], k: float = 0.02) -> F32:
    """A bent rod through ``nodes``: smooth union of capsules."""
    d = capsule(p, nodes[0], nodes[1], radii[0], radii[1])
    for i in range(1, len(nodes) - 1):
        d = smooth_min(d, capsule(p, nodes[i], nodes[i + 1], radii[i], radii[i + 1]), k)
    return d


def _axes(p: Points, axis: str) -> Points:
    """Reorder so that the wanted axis comes second."""
    x, y, z = p
    return {"x": (y, x, z), "y": (x, y, z), "z": (x, z, y)}[axis]


def cylinder(p: Points, centre: Vec, radius: float, half: float, edge: float = 0.01, axis: str = "y") -> F32:
    """Capped cylinder of half height ``half`` along ``axis`` with rounded edges."""
    a, b, c = _axes(moved(p, centre), axis)
    dr, dh = hypot(a, c) - (radius - edge), np.abs(b) - (half - edge)
    d: F32 = np.minimum(np.maximum(dr, dh), 0) + hypot(np.maximum(dr, 0), np.maximum(dh, 0)) - edge
    return d


def torus(p: Points, centre: Vec, ring: float, tube: float, axis: str = "y", stretch: float = 1.0) -> F32:
    """Ring about ``axis``; ``stretch`` > 1 pulls the ring along its second in-plane axis (a bound, then)."""
    a, b, c = _axes(moved(p, centre), axis)
    if axis == "z":  # the in-plane axes are x and y; the second is y
        c = c / stretch
    else:
        a = a / stretch
    return (hypot(hypot(a, c) - ring, b) - tube) * (1.0 if stretch <= 1.0 else 1.0 / stretch)


def curve(points: Sequence[tuple[float, float]], steps: int = 6) -> list[tuple[float, float]]:
    """Catmull-Rom curve through the points, ``steps`` pieces between each two."""
    pts = [points[0], *points, points[-1]]
    out: list[tuple[float, float]] = []
    for i in range(1, len(pts) - 2):
        p0, p1, p2, p3 = (np.asarray(q, dtype=float) for q in pts[i - 1 : i + 3])
        for t in np.arange(steps) / steps:
            v = 0.5 * (
                2 * p1
                + (p2 - p0) * t
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            )
            out.append((float(v[0]), float(v[1])))
    return [*out, (float(points[-1][0]), float(points[-1][1]))]


@dataclass(frozen=True)
class Outline:
    """The signed distance of a polygon, tabulated; a look-up is bilinear and gathers one row.

    cells f32 [ny * nx, 4]: value at the cell's corner, its change along x, along y, and the mixed term.
    """

    cells: F32
    size: tuple[int, int]
    origin: tuple[float, float]
    step: float

    @staticmethod
    def of(points: Sequence[tuple[float, float]], cells: int = 110, margin: float = 0.12) -> Outline:
        """Tabulate a closed polygon (any winding). Cost: cells^2 x points, once a shape."""
        v = np.asarray(points, dtype=np.float64)
        low, high = v.min(axis=0) - margin, v.max(axis=0) + margin
        step = float((high - low).max() / (cells - 1))
        nx, ny = (math.ceil((high[i] - low[i]) / step) + 1 for i in (0, 1))
        gx, gy = np.meshgrid(low[0] + np.arange(nx) * step, low[1] + np.arange(ny) * step)
        best = np.full(gx.shape, np.inf)
        inside = np.zeros(gx.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(v, np.roll(v, -1, axis=0), strict=True):
            ex, ey = bx - ax, by - ay
            wx, wy = gx - ax, gy - ay
            t = np.clip((wx * ex + wy * ey) / max(ex * ex + ey * ey, 1e-12), 0, 1)
            best = np.minimum(best, (wx - t * ex) ** 2 + (wy - t * ey) ** 2)
            if ay != by:
                inside ^= ((ay > gy) != (by > gy)) & (gx < ex * (gy - ay) / (by - ay) + ax)
        g = (np.where(inside, -1.0, 1.0) * np.sqrt(best)).astype(np.float32)
        corner, right, up, far = g[:-1, :-1], g[:-1, 1:], g[1:, :-1], g[1:, 1:]
        cells_ = np.stack([corner, right - corner, up - corner, far - right - up + corner], axis=2)
        return Outline(
            np.ascontiguousarray(cells_.reshape(-1, 4)),
            (nx - 1, ny - 1),
            (float(low[0]), float(low[1])),
            step,
        )

    def __call__(self, x: F32, y: F32) -> F32:
        """Distance of the points (x, y), any shape."""
        nx, ny = self.size
        u, v = (x - self.origin[0]) * (1 / self.step), (y - self.origin[1]) * (1 / self.step)
        cu, cv = np.minimum(np.maximum(u, 0), nx - 0.001), np.minimum(np.maximum(v, 0), ny - 0.001)
        i, j = cu.astype(np.int32), cv.astype(np.int32)
        fu, fv = cu - i, cv - j
        c = self.cells[j * nx + i]
        value = c[..., 0] + c[..., 1] * fu + (c[..., 2] + c[..., 3] * fu) * fv
        u -= cu
        v -= cv
        away = hypot(u, v) * self.step
        # beyond the table the way is at least the hypotenuse of (to the table, from there to the polygon)
        return np.asarray(np.where(away > 0, hypot(value, away), value), dtype=np.float32)


def revolved(outline: Outline, p: Points) -> F32:
    """The outline, read as (radius, height), turned about the y axis."""
    return outline(hypot(p[0], p[2]), p[1])


def extruded(outline: Outline, a: F32, b: F32, along: F32, half: float, edge: float = 0.02) -> F32:
    """The outline in the (a, b) plane, thickened to 2*half along the third axis, with rounded edges."""
    d2, dh = outline(a, b) + edge, np.abs(along) - (half - edge)
    d: F32 = np.minimum(np.maximum(d2, dh), 0) + hypot(np.maximum(d2, 0), np.maximum(dh, 0)) - edge
    return d
