"""What stands behind the product: the ground of a picture without product, letters and sticker, and what it is like.

Our design. *Colours* is the effective number of colours, ``exp(entropy)`` of a histogram of 512 cells; *repeat* the
highest autocorrelation of brightness at a shift of an eighth to under a half of the picture: near 1 for tiles and
stripes; *breaks* is what differs from the ground at the shifts where it repeats itself best: props, on tiles as on
plain ground.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import fft, ndimage

from moonshelf.creative.place import Cutout, Place

Box = tuple[float, float, float, float]
EDGE = 0.05  # gradient of colour, white being 1 a pixel, from which a pixel is an edge
SHIFTS = (0.125, 0.44)  # of the autocorrelation
FAR = 0.3  # shift from which a thing no longer covers itself
BROKEN = 0.5  # difference of colour (sum of three channels) from which something breaks the ground
BEST = 3  # shifts that are looked at
CELL = 0.1  # side of the cells that ``spread`` compares, as a share of the longer side

NAMES: dict[str, str] = {
    "ground_clutter": "share of edge pixels on the ground: outside product (core region where not found) and letters",
    "ground_breaks": "share of the ground where something breaks it: it is unlike the ground where that repeats itself",
    "ground_colours": "effective number of colours of the ground",
    "ground_repeat": "how much the ground repeats itself, 0 to 1",
    "ground_spread": "spread of brightness over the ground, without its fine texture",
}


def ground_mask(
    size: tuple[int, int], product: tuple[Cutout, Place] | None, boxes: Sequence[Box]
) -> np.ndarray:
    """``[height, width]`` bool: neither the product where it was found nor inside a box."""
    wide, high = size
    out = np.ones((high, wide), dtype=bool)
    for left, top, right, bottom in boxes:
        rows = slice(max(0, int(top * high)), max(0, int(np.ceil(bottom * high))))
        out[rows, max(0, int(left * wide)) : max(0, int(np.ceil(right * wide)))] = False
    if product is not None:
        cut, place = product
        side, longest = max(size), max(cut.rgb.size)
        w, h = (max(1, round(side * place.size * own / longest)) for own in cut.rgb.size)
        mask = np.asarray(cut.mask.resize((w, h), Image.Resampling.BOX)) > 60
        shown = np.zeros((high + 2 * h, wide + 2 * w), dtype=bool)  # it may reach beyond the picture
        top, left = round(place.y * high + h / 2), round(place.x * wide + w / 2)
        shown[top : top + h, left : left + w] = mask[
            : max(0, shown.shape[0] - top), : max(0, shown.shape[1] - left)
        ]
        out &= ~ndimage.binary_dilation(shown, iterations=3)[h : h + high, w : w + wide]
    return out


def share_of(mask: np.ndarray, box: Box) -> float:
    """Share of a box that is ground."""
    high, wide = mask.shape
    left, top, right, bottom = box
    part = mask[int(top * high) : int(np.ceil(bottom * high)), int(left * wide) : int(np.ceil(right * wide))]
    return float(part.mean()) if part.size else 0.0


def measure_ground(pixels: np.ndarray, ground: np.ndarray) -> list[float]:
    """The measures of ``NAMES``; all 0 where less than a fiftieth of the picture is ground.

    Args:
        pixels: ``[height, width, 3]`` in 0..1. ground: where to look.

    Cost: about 25 ms at 160 pixels.
    """
    if ground.mean() < 0.02:
        return [0.0] * len(NAMES)
    edges = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(pixels[..., c], 1) ** 2 for c in range(3)))
    marked = (edges > EDGE) & ground
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    cells = (pixels[ground] * 7.999).astype(np.int64) @ np.array([64, 8, 1])
    shares = np.bincount(cells, minlength=512) / len(cells)
    shares = shares[shares > 0]
    repeat, shifts = _repeat(grey, ground)
    breaks = _breaks(pixels, ground, shifts)
    return [
        float(marked.sum() / ground.sum()),
        breaks,
        float(np.exp(-(shares * np.log(shares)).sum())),
        repeat,
        _spread(grey, ground),
    ]


def _repeat(grey: np.ndarray, ground: np.ndarray) -> tuple[float, list[tuple[int, int]]]:
    """Highest autocorrelation of the ground alone, straight down or across, and the best far shifts (down, across).

    Sums run over pairs of ground pixels (Wiener-Khinchin).
    """
    shape = tuple(2 * side for side in grey.shape)
    from_mean = np.where(ground, grey - grey[ground].mean(), 0.0)
    power = fft.irfft2(np.abs(fft.rfft2(from_mean, shape)) ** 2, shape)
    pairs = fft.irfft2(np.abs(fft.rfft2(ground.astype(float), shape)) ** 2, shape)
    enough = pairs > 0.1 * pairs[0, 0]
    even = np.where(enough, power / np.maximum(pairs, 1.0), -np.inf) / max(power[0, 0] / pairs[0, 0], 1e-9)
    low, high = (round(share * max(grey.shape)) for share in SHIFTS)
    found = [(float(even[k, 0]), k, 0) for k in range(low, min(high, grey.shape[0]))]
    found += [(float(even[0, k]), 0, k) for k in range(low, min(high, grey.shape[1]))]
    best = max(found, default=(0.0, 0, 0))[0]
    far = [f for f in found if max(f[1:]) >= FAR * max(grey.shape) and np.isfinite(f[0])]
    flat = power[0, 0] <= 1e-4 * pairs[0, 0]  # one brightness: every shift fits
    shifts = [f[1:] for f in sorted(far, reverse=True)[:BEST]]
    return 0.0 if flat else float(np.clip(best, 0.0, 1.0)), shifts


def _breaks(pixels: np.ndarray, ground: np.ndarray, shifts: list[tuple[int, int]]) -> float:
    """Share of the ground that is unlike the ground at each of some shifts, either way."""
    high, wide = ground.shape
    least = np.full((high, wide), np.inf)
    for down, across in shifts:
        here = slice(down, high), slice(across, wide)
        there = slice(0, high - down), slice(0, wide - across)
        apart = ndimage.uniform_filter(np.abs(pixels[here] - pixels[there]).sum(2), 3)
        both = ground[here] & ground[there]
        for place in (here, there):
            least[place] = np.minimum(least[place], np.where(both, apart, np.inf))
    return float((np.isfinite(least) & (least > BROKEN)).sum() / ground.sum())


def _spread(grey: np.ndarray, ground: np.ndarray) -> float:
    """Standard deviation of the means of cells; cells with less than a quarter of ground are left out."""
    cell = max(4, round(CELL * max(grey.shape)))
    high, wide = (max(1, side // cell) for side in grey.shape)
    rows = np.minimum(np.arange(grey.shape[0]) * high // grey.shape[0], high - 1)
    columns = np.minimum(np.arange(grey.shape[1]) * wide // grey.shape[1], wide - 1)
    at = (rows[:, None] * wide + columns[None, :])[ground]
    count = np.bincount(at, minlength=high * wide)
    kept = count > grey.size / (high * wide) / 4
    if kept.sum() < 2:
        return 0.0
    total = np.bincount(at, grey[ground], minlength=high * wide)
    return float((total[kept] / count[kept]).std())
