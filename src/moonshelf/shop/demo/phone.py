"""Query photos as a phone would take them: another view, place, crop, light, focus, sensor, clutter."""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.geometry import Shape, View
from moonshelf.shop.demo.render import layer
from moonshelf.shop.demo.scenes import SURFACES, clutter, grain_bank, hands, room, surface

U8 = NDArray[np.uint8]
PHONE_VIEWS = 4


@dataclass(frozen=True)
class PhoneSettings:
    """How one phone photo was taken; written to the truth.

    scale: product size against the frame; turn: degrees in the picture plane; x, y: shift in frame shares;
    tilt: perspective; warmth: red against blue; exposure, contrast: factors; blur: pixels; noise: grey
    levels; quality: JPEG; clutter: other things; hand: a hand covers part; unusable: no product can be made
    out.
    """

    view: int
    light: int
    place: str
    scale: float
    turn: float
    x: float
    y: float
    tilt: float
    warmth: float
    exposure: float
    contrast: float
    blur: float
    motion: bool
    noise: float
    quality: int
    clutter: int
    hand: bool
    unusable: bool

    def record(self) -> dict[str, object]:
        """As a plain dict."""
        return asdict(self)


def phone_views(shape: Shape, rng: np.random.Generator, count: int = PHONE_VIEWS) -> list[View]:
    """The cameras that this shape is photographed from; never the studio's own."""
    out = []
    for k in range(count):
        side = (-1) ** k
        yaw = shape.yaw + side * float(rng.uniform(16, 62))
        low, high = (52, 76) if shape.pitch > 60 else (14, 44)
        out.append(View(yaw, float(rng.uniform(low, high)), 0.72))
    return out


def draw_settings(
    rng: np.random.Generator, flat: bool, unusable: bool, views: int = PHONE_VIEWS
) -> PhoneSettings:
    """Choose how a photo is taken. ``flat``: the product lies on its surface (no room behind)."""
    hard = float(rng.beta(1.6, 2.6))  # one dial for how careless the photographer was
    place = "surface" if flat or rng.random() < 0.38 else "table"
    return PhoneSettings(
        view=int(rng.integers(views)),
        light=int(rng.integers(3)),
        place=place,
        scale=round(float(rng.uniform(0.82, 1.22) - 0.28 * hard * rng.random()), 4),
        turn=round(
            float(rng.normal(0, 5 + 16 * hard))
            + (float(rng.uniform(-60, 60)) if flat and rng.random() < 0.3 else 0),
            3,
        ),
        x=round(float(rng.normal(0, 0.05 + 0.1 * hard)), 4),
        y=round(float(rng.normal(0.02, 0.04 + 0.07 * hard)), 4),
        tilt=round(float(rng.normal(0, 0.1 + 0.14 * hard)), 4),
        warmth=round(float(rng.normal(0.03, 0.06 + 0.09 * hard)), 4),
        exposure=round(float(np.exp(rng.normal(-0.06, 0.1 + 0.2 * hard))) * (0.24 if unusable else 1.0), 4),
        contrast=round(float(rng.uniform(0.78, 1.15)), 4),
        blur=round(min(float(rng.exponential(0.3 + 0.7 * hard)), 2.4) + (6.0 if unusable else 0.0), 4),
        motion=bool(rng.random() < 0.2),
        noise=round(float(rng.uniform(2, 6) + 9 * hard), 3),
        quality=int(rng.integers(38, 84)),
        clutter=int(rng.integers(0, 5)),
        hand=bool(rng.random() < 0.2),
        unusable=unusable,
    )


def _solve(source: list[tuple[float, float]], target: list[tuple[float, float]]) -> list[float]:
    """The eight numbers of the projective map that takes target points to source points (as Pillow wants
    it).
    """
    rows, values = [], []
    for (sx, sy), (tx, ty) in zip(source, target, strict=True):
        rows += [[tx, ty, 1, 0, 0, 0, -sx * tx, -sx * ty], [0, 0, 0, tx, ty, 1, -sy * tx, -sy * ty]]
        values += [sx, sy]
    return [float(v) for v in np.linalg.solve(np.asarray(rows), np.asarray(values))]


def _quad(
    centre: tuple[float, float], half: tuple[float, float], turn: float, tilt: float
) -> list[tuple[float, float]]:
    """Corners of a turned rectangle; ``tilt`` makes its upper edge shorter or longer."""
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    out = []
    for ux, uy in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        x, y = ux * half[0] * (1 + tilt * uy * 0.5), uy * half[1]
        out.append((centre[0] + c * x - s * y, centre[1] + s * x + c * y))
    return out


def _varied(image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
    """A random part of a texture, turned, flipped and toned."""
    side = image.width
    span = side * float(rng.uniform(0.45, 1.0))
    x, y = float(rng.uniform(0, side - span)), float(rng.uniform(0, side - span))
    out = image.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + span, y + span))
    turn = int(rng.integers(8))
    if turn & 1:
        out = out.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turn & 2:
        out = out.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if turn & 4:
        out = out.transpose(Image.Transpose.ROTATE_90)
    gains = rng.uniform(0.72, 1.14) * rng.uniform(0.86, 1.14, 3)
    table = np.clip(np.arange(256) * gains[:, None], 0, 255).astype(np.uint8)
    return out.point(table.ravel().tolist())


def _backdrop(place: str, size: int, rng: np.random.Generator) -> Image.Image:
    """Surface only, or a table in front of a blurred room."""
    top = _varied(surface(SURFACES[int(rng.integers(len(SURFACES)))]), size, rng)
    if place == "surface":
        return top
    horizon = float(rng.uniform(0.22, 0.5)) * size
    spread = float(rng.uniform(0.2, 0.8)) * size
    target = [
        (-spread * 0.1, horizon),
        (size + spread * 0.1, horizon),
        (size + spread, size),
        (-spread, size),
    ]
    table = top.transform(
        (size, size),
        Image.Transform.PERSPECTIVE,
        _solve([(0, 0), (size, 0), (size, size), (0, size)], target),
        Image.Resampling.BILINEAR,
    )
    back = _varied(room(int(rng.integers(16))), size, rng)
    out = back.copy()
    edge = int(horizon)
    out.paste(table.crop((0, edge, size, size)), (0, edge))
    return out


def _scatter(canvas: Image.Image, count: int, rng: np.random.Generator, front: bool) -> None:
    """Put other things around the edge, behind the product or (one at times) before it."""
    size, things = canvas.width, clutter()
    for _ in range(count):
        thing = things[int(rng.integers(len(things)))]
        k = int(size * float(rng.uniform(0.28, 0.62)))
        thing = thing.resize((k, k), Image.Resampling.BILINEAR).rotate(
            float(rng.normal(0, 14)), Image.Resampling.BILINEAR
        )
        t = float(rng.uniform(0, 2 * math.pi))
        reach = 0.5 if front else 0.4
        x, y = (0.5 + reach * math.cos(t)) * size - k / 2, (0.5 + reach * math.sin(t)) * size - k / 2
        canvas.paste(thing, (int(x), int(y)), thing)


def phone_photo(item: Item, painted: U8, s: PhoneSettings, size: int, rng: np.random.Generator) -> bytes:
    """JPEG bytes of one phone photo of ``painted`` (see render.paint), size x size."""
    canvas = _backdrop(s.place, size, rng)
    front = int(s.clutter > 2 and rng.random() < 0.5)
    _scatter(canvas, s.clutter - front, rng, front=False)
    if not s.unusable:
        k = max(16, round(size * s.scale))
        product = layer(painted, (k, k)).convert("RGBA")
        stretch = item.scale[0] / 0.97, item.scale[1] / 0.97
        centre = (0.5 + s.x) * size, (0.5 + s.y) * size
        half = size * s.scale / 2 * stretch[0], size * s.scale / 2 * stretch[1]
        coefficients = _solve([(0, 0), (k, 0), (k, k), (0, k)], _quad(centre, half, s.turn, s.tilt))
        placed = product.transform(
            (size, size), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR
        )
        canvas.paste(placed, (0, 0), placed)
    _scatter(canvas, front, rng, front=True)
    if s.hand:
        hand = hands()[int(rng.integers(len(hands())))]
        k = int(size * float(rng.uniform(0.62, 0.9)))
        hand = hand.resize((k, k), Image.Resampling.BILINEAR)
        if rng.random() < 0.5:
            hand = hand.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            x = -int(k * float(rng.uniform(0.2, 0.42)))
        else:
            x = size - k + int(k * float(rng.uniform(0.2, 0.42)))
        canvas.paste(hand, (x, int(size * float(rng.uniform(0.2, 0.5)))), hand)
    if s.motion:
        a, b = (0, 1) if rng.random() < 0.5 else (1, 0)
        kernel = [0.0] * 25
        for j in range(-2, 3):
            kernel[(2 + j * a) * 5 + 2 + j * b] = 1.0
        canvas = canvas.filter(ImageFilter.Kernel((5, 5), kernel, sum(kernel)))
    if s.blur > 0.15:
        canvas = canvas.filter(ImageFilter.GaussianBlur(s.blur * size / 160))
    pixels = np.asarray(canvas, dtype=np.float32)
    gain = np.asarray((1 + s.warmth, 1.0, 1 - s.warmth), dtype=np.float32) * s.exposure
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    fall = 1 - 0.1 * (ramp[:, None] ** 2 + ramp[None, :] ** 2) + float(rng.normal(0, 0.07)) * ramp[None, :]
    pixels = ((pixels - 118) * s.contrast + 118) * gain * fall[:, :, None]
    bank = grain_bank()
    i, j = (int(v) for v in rng.integers(0, bank.shape[0] - size, 2))
    pixels += bank[i : i + size, j : j + size] * s.noise
    out = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=s.quality)
    return out.getvalue()
