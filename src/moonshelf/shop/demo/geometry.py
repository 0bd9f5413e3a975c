"""From a shape to a geometry buffer: what the camera sees of it, before any colour.

A buffer is made once for every (shape, view) by ray marching and is then painted many times, once a picture,
which is what makes thousands of pictures affordable: about 30 ms for the buffer, a few for a painting of it.
Our design; the cone-marching start (a coarse picture tells each fine ray where it may begin) is a known
trick of the demo scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from moonshelf.shop.demo.sdf import F32, Points

Parts = list[tuple[int, F32]]
BODY, ACCENT, TRIM, DARK, PALE, WOOD, FACE, SKIN = range(8)  # what a part of a product is painted as


@dataclass(frozen=True)
class Shape:
    """A modelled product: distances by part, and how patterns and the brand mark lie on it.

    ``uv``: "revolve" (around the y axis), "planar" (x, y), "box" (by the strongest normal) or "flat" (x, -z).
    ``mark``: centre and size of the brand mark in uv units. ``paint(pos [N,3], normal [N,3], part [N])`` may
    give another part by place. ``pitch``: camera height of the front view in degrees. ``closeup``: where the
    detail looks.
    """

    parts: Callable[[Points], Parts]
    uv: str = "planar"
    mark: tuple[float, float, float] = (0.0, 0.5, 0.2)
    paint: Callable[[F32, F32, NDArray[np.uint8]], NDArray[np.uint8]] | None = None
    pitch: float = 14.0
    yaw: float = -18.0
    closeup: tuple[float, float, float] = (0.0, 0.5, 0.2)


@dataclass(frozen=True)
class View:
    """A camera: degrees of yaw and pitch, share of the frame that the product fills, zoom onto the
    close-up.
    """

    yaw: float
    pitch: float
    fill: float = 0.74
    zoom: float = 1.0


@dataclass(frozen=True)
class Buffer:
    """What one view shows. N hit pixels of a side x side picture; unit world normals; uv in world units.

    index int32 [N] flat pixel; normal, eye, pos f32 [N,3]; part u8 [N]; uv f32 [N,2]; occlusion f32 [N] 0..1
    open; shadow f32 [side, side] 0..1 dark on the floor; light: direction of the key light the shadow was
    made for.
    """

    side: int
    index: NDArray[np.int32]
    normal: F32
    eye: F32
    pos: F32
    part: NDArray[np.uint8]
    uv: F32
    occlusion: F32
    shadow: F32


KEY_LIGHT = np.asarray([-0.52, 0.74, 0.43], dtype=np.float32)
_DISTANCE = 4.2


def _distance(shape: Shape, p: Points) -> F32:
    parts = shape.parts(p)
    d = parts[0][1]
    for _, other in parts[1:]:
        d = np.minimum(d, other)
    return d


def _march(shape: Shape, eye: F32, rays: F32, start: F32, stop: float, cone: float, steps: int) -> F32:
    """Distance along each ray [N,3] to the surface, or inf; ends within ``cone`` * t (or a hair) of it."""
    t, out = start.copy(), np.full(len(start), np.inf, dtype=np.float32)
    live = np.arange(len(start))
    for _ in range(steps):
        r = rays[live]
        tl = t[live]
        d = _distance(shape, (eye[0] + r[:, 0] * tl, eye[1] + r[:, 1] * tl, eye[2] + r[:, 2] * tl))
        hit = d < np.maximum(cone * tl, 0.0012)
        out[live[hit]] = tl[hit] * (1 - cone)  # a finer ray begins a little earlier
        tl = tl + d * 0.93
        t[live] = tl
        live = live[~hit & (tl < stop)]
        if not len(live):
            return out
    if cone > 0:  # undecided: the finer level looks again from here
        out[live] = t[live]
    return out


def _camera(view: View) -> tuple[F32, F32, F32, F32]:
    """Eye (relative to the target), right, up and forward unit vectors."""
    yaw, pitch = math.radians(view.yaw), math.radians(view.pitch)
    back = np.asarray([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
    right = np.asarray([math.cos(yaw), 0.0, -math.sin(yaw)])
    up = np.cross(back, right)
    return (
        (back * _DISTANCE).astype(np.float32),
        right.astype(np.float32),
        up.astype(np.float32),
        (-back).astype(np.float32),
    )


def _rays(
    side: int, index: NDArray[np.int64], centre: tuple[float, float], half: float, basis: tuple[F32, F32, F32]
) -> F32:
    """Unit rays [len(index), 3] through flat pixels of the square window (centre, half) at distance one."""
    right, up, forward = basis
    s = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1) * np.float32(half)
    row, col = np.divmod(index, side)
    u, v = (s + np.float32(centre[0]))[col], (np.float32(centre[1]) - s)[row]
    scale = 1 / np.sqrt(1 + u * u + v * v)
    rays = np.empty((len(index), 3), dtype=np.float32)
    for axis in range(3):
        rays[:, axis] = (forward[axis] + u * right[axis] + v * up[axis]) * scale
    return rays


def _window(
    shape: Shape, view: View, eye: F32, basis: tuple[F32, F32, F32]
) -> tuple[tuple[float, float], float]:
    """Frame the product: a coarse look, then a window in which its box fills ``view.fill`` of the side."""
    side, half = 44, 0.36
    rays = _rays(side, np.arange(side * side), (0.0, 0.0), half, basis)
    t = _march(
        shape, eye, rays, np.full(len(rays), _DISTANCE - 1.6, np.float32), _DISTANCE + 1.8, half / side, 24
    )
    rows, cols = np.divmod(np.flatnonzero(np.isfinite(t)), side)
    if not len(rows):
        raise ValueError("a shape that no ray meets")
    u0, u1 = ((c + 0.5) / side * 2 * half - half for c in (cols.min(), cols.max()))
    v0, v1 = (half - (r + 0.5) / side * 2 * half for r in (rows.max(), rows.min()))
    half_box = max(u1 - u0, v1 - v0) / 2
    centre = (u0 + u1) / 2, (v0 + v1) / 2
    if view.zoom > 1.0:
        to = np.asarray(shape.closeup, dtype=np.float32) - eye
        right, up, forward = basis
        depth = float(to @ forward)
        centre = float(to @ right) / depth, float(to @ up) / depth
    return centre, half_box / view.fill / view.zoom


def _uv(kind: str, pos: F32, normal: F32) -> F32:
    x, y, z = pos[:, 0], pos[:, 1], pos[:, 2]
    if kind == "revolve":
        radius = float(np.percentile(np.hypot(x, z), 80))
        return np.stack([np.arctan2(x, z) * radius, y], axis=1)
    if kind == "flat":
        return np.stack([x, -z], axis=1)
    if kind == "box":
        side = np.abs(normal[:, 0]) > np.maximum(np.abs(normal[:, 2]), 0.75)
        top = np.abs(normal[:, 1]) > np.maximum(np.abs(normal[:, 2]), 0.75)
        u, v = np.where(side, z + 5.3, x), np.where(top, -z + 3.1, y)
        return np.stack([u, v], axis=1).astype(np.float32)
    return np.stack([x, y], axis=1)


def _blurred(grid: F32, width: int) -> F32:
    """Two passes of a Hann window along both axes of a square grid."""
    kernel = np.hanning(width + 2)[1:-1]
    kernel /= kernel.sum()
    for _ in range(4):
        padded = np.pad(grid, ((0, 0), (width, width)))
        line = np.convolve(padded.ravel(), kernel, "same").reshape(padded.shape)
        grid = line[:, width:-width].T
    return np.ascontiguousarray(grid, dtype=np.float32)


def _floor_shadow(pos: F32, eye: F32, rays: F32, side: int) -> F32:
    """Soft shadow on the floor: the seen surface thrown along the light, and a dark contact where it nearly
    touches.

    ``rays``: those of a picture of a quarter of the side; the shadow is soft, so it is enlarged from there.
    """
    cells, span = 72, 3.6
    height = np.maximum(pos[:, 1], 0)

    def splat(x: F32, z: F32, weight: F32, blur: int) -> F32:
        i = np.clip(((x / span + 0.5) * cells).astype(int), 0, cells - 1)
        j = np.clip(((z / span + 0.5) * cells).astype(int), 0, cells - 1)
        grid = np.bincount(j * cells + i, weights=weight, minlength=cells * cells).reshape(cells, cells)
        grid = np.minimum(grid / max(float(np.percentile(grid[grid > 0], 60)), 1e-6), 1.0)
        return _blurred(np.asarray(grid, dtype=np.float32), blur)

    slope_x, slope_z = (float(KEY_LIGHT[k] / KEY_LIGHT[1]) * 0.55 for k in (0, 2))
    one = np.ones(len(pos), np.float32)
    cast = splat(pos[:, 0] - slope_x * height, pos[:, 2] - slope_z * height - 0.06, one, 13)
    contact = splat(pos[:, 0], pos[:, 2] - 0.02, np.exp(-height / 0.05) + np.float32(1e-3), 5)
    dark_map = 1 - (1 - 0.34 * cast) * (1 - 0.42 * contact)
    r = rays
    t = np.where(r[:, 1] < -1e-3, -eye[1] / np.minimum(r[:, 1], -1e-3), 1e3)
    gx, gz = (
        ((eye[0] + r[:, 0] * t) / span + 0.5) * cells - 0.5,
        ((eye[2] + r[:, 2] * t) / span + 0.5) * cells - 0.5,
    )
    ok = (gx > 0) & (gx < cells - 1.01) & (gz > 0) & (gz < cells - 1.01)
    gx, gz = np.where(ok, gx, 0), np.where(ok, gz, 0)
    i, j = gx.astype(int), gz.astype(int)
    fx, fz = gx - i, gz - j
    low = dark_map[j, i] * (1 - fx) + dark_map[j, i + 1] * fx
    high = dark_map[j + 1, i] * (1 - fx) + dark_map[j + 1, i + 1] * fx
    dark = np.where(ok, low * (1 - fz) + high * fz, 0).astype(np.float32)
    small = Image.fromarray(dark.reshape(side // 4, side // 4))
    return np.clip(np.asarray(small.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32), 0, 1)


def make_buffer(shape: Shape, view: View, side: int) -> Buffer:
    """March one view of a shape. ``side`` a multiple of 8, in pixels (twice the picture: the painting is
    averaged down).
    """
    eye, right, up, forward = _camera(view)
    basis = (right, up, forward)
    target = np.asarray([0.0, 0.5, 0.0], dtype=np.float32)
    eye = eye + target
    centre, half = _window(shape, view, eye, basis)
    near, far = np.float32(_DISTANCE - 1.7), _DISTANCE + 1.8
    coarse, middle = side // 8, side // 2
    index = np.arange(coarse * coarse)
    t = np.full(len(index), near, dtype=np.float32)
    for level, steps, parent in ((coarse, 24, 0), (middle, 20, coarse), (side, 48, middle)):
        if parent:  # begin where the parent's cone stopped
            grid = np.full(parent * parent, np.inf, dtype=np.float32)
            grid[index] = t
            k = level // parent
            start = np.repeat(np.repeat(grid.reshape(parent, parent), k, 0), k, 1).ravel()
            index = np.flatnonzero(np.isfinite(start))
            t = start[index]
        rays = _rays(level, index, centre, half, basis)
        t = _march(shape, eye, rays, t, far, 1.6 * half / level if level != side else 0.0, steps)
        found = np.isfinite(t)
        index, t, rays = index[found], t[found], rays[found]
    hit_rays = rays
    pos = np.asarray(eye + hit_rays * t[:, None], dtype=np.float32)
    normal = np.zeros_like(pos)
    for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
        e = np.asarray(corner, dtype=np.float32) * 0.004
        q = pos + e
        normal += e * _distance(shape, (q[:, 0], q[:, 1], q[:, 2]))[:, None]
    slope = np.linalg.norm(normal, axis=1)
    normal /= np.maximum(slope, 1e-9)[:, None]
    slope = np.clip(slope / (4 * 0.004**2), 0.35, 1.0).astype(np.float32)  # 1 where the distance is exact
    parts = shape.parts((pos[:, 0], pos[:, 1], pos[:, 2]))
    roles = np.asarray([role for role, _ in parts], dtype=np.uint8)
    part = roles[np.argmin(np.stack([d for _, d in parts]), axis=0)]
    if shape.paint is not None:
        part = shape.paint(pos, normal, part)
    blocked = np.zeros(len(pos), dtype=np.float32)
    for step, weight in ((0.04, 0.9), (0.1, 0.6), (0.22, 0.4)):
        q = pos + normal * step
        open_ = _distance(shape, (q[:, 0], q[:, 1], q[:, 2])) / slope
        blocked += weight * np.clip((step - open_) / step, 0, 1)
    floor = np.clip(pos[:, 1] / 0.22, 0, 1) * 0.22 + 0.78
    occlusion = np.clip(1 - 0.55 * blocked, 0.25, 1) * np.where(normal[:, 1] < 0.2, floor, 1)
    return Buffer(
        side=side,
        index=index.astype(np.int32),
        normal=normal,
        eye=-hit_rays,
        pos=pos,
        part=part,
        uv=np.asarray(_uv(shape.uv, pos, normal), dtype=np.float32),
        occlusion=occlusion.astype(np.float32),
        shadow=_floor_shadow(
            pos, eye, _rays(side // 4, np.arange((side // 4) ** 2), centre, half, basis), side
        ),
    )
