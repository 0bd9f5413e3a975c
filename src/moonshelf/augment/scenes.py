"""Other photos of a product from the one it has: a standard main image, then other grounds, views, sizes and light.

Every recipe is a function of the image and a seed. After the image expansion of MOON2.0 (2511.12449, 2.4); the scenes
are drawn, not generated: our embedded default.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from moonshelf.augment.subject import Subject

SIDE = 320


def standard(image: Image.Image, subject: Subject, rng: np.random.Generator | None = None) -> Image.Image:
    """The subject alone, centred on white: what clutter is removed to. Nothing is drawn at random."""
    return _laid(_cut(image, subject), Image.new("RGB", (SIDE, SIDE), "white"), 0.84)


def ground(image: Image.Image, subject: Subject, rng: np.random.Generator) -> Image.Image:
    """The subject before a plain, a graded or a grained ground, with a soft shadow."""
    cut = _cut(image, subject)
    scene = _ground(rng)
    shadow = _placed(cut.getchannel("A"), 0.82, (0.5 + rng.uniform(-0.04, 0.04), 0.54))
    dark = ImageEnhance.Brightness(scene).enhance(0.62)
    scene = Image.composite(dark, scene, shadow.filter(ImageFilter.GaussianBlur(9)))
    return _laid(cut, scene, 0.82)


def view(image: Image.Image, subject: Subject, rng: np.random.Generator) -> Image.Image:
    """The subject seen a little from the side: mirrored or not, tilted, turned."""
    cut = _cut(image, subject)
    if rng.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    w, h = cut.size
    tilt = rng.uniform(-0.22, 0.22)
    # one side of the subject moves away: its edge is shorter
    near, far = max(0.0, tilt) * h / 2, max(0.0, -tilt) * h / 2
    corners: list[tuple[float, float]] = [(0, near), (w, far), (w, h - far), (0, h - near)]
    cut = cut.transform(
        cut.size, Image.Transform.PERSPECTIVE, _homography(corners, w, h), Image.Resampling.BICUBIC
    )
    cut = cut.rotate(rng.uniform(-14, 14), Image.Resampling.BICUBIC, expand=True)
    return _laid(cut, _ground(rng), 0.86)


def scale(image: Image.Image, subject: Subject, rng: np.random.Generator) -> Image.Image:
    """The subject small, somewhere in the frame, in other light."""
    cut = _cut(image, subject)
    fill = rng.uniform(0.4, 0.65)
    place = tuple(rng.uniform(0.5 - (1 - fill) / 2.2, 0.5 + (1 - fill) / 2.2, 2))
    return light(_laid(cut, _ground(rng), fill, (place[0], place[1])), rng)


def light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Another exposure, contrast and colour of the light."""
    gains = rng.uniform(0.86, 1.14, 3) * rng.uniform(0.75, 1.25)
    table = [min(255, round(v * gain)) for gain in gains for v in range(256)]
    return ImageEnhance.Contrast(image.point(table)).enhance(rng.uniform(0.8, 1.2))


def detail(image: Image.Image, subject: Subject, rng: np.random.Generator) -> Image.Image:
    """A part of the subject, close up: 45 to 70% of each side of its box."""
    left, top, right, bottom = subject.box
    w, h = right - left, bottom - top
    cw, ch = max(1, round(w * rng.uniform(0.45, 0.7))), max(1, round(h * rng.uniform(0.45, 0.7)))
    x, y = left + int(rng.integers(0, w - cw + 1)), top + int(rng.integers(0, h - ch + 1))
    return image.convert("RGB").crop((x, y, x + cw, y + ch)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


RECIPES: dict[str, Callable[[Image.Image, Subject, np.random.Generator], Image.Image]] = {
    "standard": standard,
    "ground": ground,
    "view": view,
    "scale": scale,
    "detail": detail,
}


def _cut(image: Image.Image, subject: Subject) -> Image.Image:
    """RGBA of the subject's box, the ground transparent."""
    whole = image.convert("RGB")
    whole.putalpha(subject.mask)
    return whole.crop(subject.box)


def _laid(
    cut: Image.Image, scene: Image.Image, fill: float, place: tuple[float, float] = (0.5, 0.5)
) -> Image.Image:
    """``cut`` onto a scene, its longer side ``fill`` of the frame, its middle at ``place``."""
    alpha = _placed(cut.getchannel("A"), fill, place, scene.size[0])
    colour = Image.new("RGB", scene.size)
    size, at = _frame(cut.size, fill, place, scene.size[0])
    colour.paste(cut.convert("RGB").resize(size, Image.Resampling.BICUBIC), at)
    return Image.composite(colour, scene, alpha)


def _placed(alpha: Image.Image, fill: float, place: tuple[float, float], side: int = SIDE) -> Image.Image:
    size, at = _frame(alpha.size, fill, place, side)
    laid = Image.new("L", (side, side), 0)
    laid.paste(alpha.resize(size, Image.Resampling.BICUBIC), at)
    return laid


def _frame(
    size: tuple[int, int], fill: float, place: tuple[float, float], side: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    share = fill * side / max(size)
    new = (max(1, round(size[0] * share)), max(1, round(size[1] * share)))
    return new, (round(place[0] * side - new[0] / 2), round(place[1] * side - new[1] / 2))


def _ground(rng: np.random.Generator) -> Image.Image:
    """A ground of muted colour: plain, graded from top to bottom, or grained."""
    kind = rng.integers(3)
    colour = rng.uniform(120, 250) + rng.uniform(-28, 28, 3)
    pixels = np.broadcast_to(colour, (SIDE, SIDE, 3)).copy()
    if kind == 1:
        pixels += np.linspace(rng.uniform(-45, 0), rng.uniform(0, 30), SIDE)[:, None, None]
    elif kind == 2:
        grain = Image.fromarray(rng.integers(0, 255, (SIDE // 8, SIDE // 8), dtype=np.uint8))
        soft = np.asarray(grain.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
        pixels += (soft[..., None] - 127) * rng.uniform(0.1, 0.35)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _homography(corners: list[tuple[float, float]], w: int, h: int) -> list[float]:
    """The eight numbers by which Pillow finds the source of a pixel, for a picture whose corners move to these."""
    rows, right = [], []
    for (x, y), (u, v) in zip(corners, ((0, 0), (w, 0), (w, h), (0, h)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    return [
        float(n) for n in np.linalg.solve(np.array(rows, dtype=np.float64), np.array(right, dtype=np.float64))
    ]
