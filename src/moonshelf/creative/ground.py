"""What stands behind the product: the ground of a picture without product, letters and sticker, and what it is like.

Our design. *Colours* is the effective number of colours, ``exp(entropy)`` of a histogram of 512 cells. *Repeat* is how
far the autocorrelation of brightness rises again after it fell, straight down or across, at a shift of an eighth to
under a half of the picture: near 1 for tiles and stripes, 0 where colours fade from side to side. *Divided* is how much
of the difference between rows (colour, fine texture) one level cut explains: a table, a floor. *Breaks* is what is
unlike every ground that one would expect there: colours that fade smoothly, over the whole or on each side of the cut,
and the ground at the shifts where it repeats itself best: props, on tiles as on plain ground.
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
BROKEN = 0.7  # difference of colour (sum of three channels) from which something breaks the ground
OUTLINE = 0.1  # mean gradient of colour along its outline from which a thing stands there sharply
BEST = 3  # shifts that are looked at
TEXTURE = 0.15  # gradient of colour of a texture that counts as much as half of white against black
PARTS = 0.3  # difference of two parts, in the same measure, from which they are quite unlike
CUT = 0.2  # divided so much, each part has its own smooth ground
FEW = 200  # pixels from which a smooth ground is fitted
CELL = 0.1  # side of the cells that ``spread`` compares, as a share of the longer side

NAMES: dict[str, str] = {
    "ground_clutter": "share of edge pixels on the ground: outside product (core region where not found) and letters",
    "ground_breaks": "side of a square as large as all that breaks the ground, in widths of the picture",
    "ground_colours": "effective number of colours of the ground",
    "ground_repeat": "how much the ground repeats itself, 0 to 1",
    "ground_divided": "how far the ground is two, one above the other, as behind a table: 0 to 1",
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
    divided, row = _divided(pixels, edges, ground)
    unlike = np.minimum(_from_shifts(pixels, ground, shifts), _from_smooth(pixels, ground, divided, row))
    return [
        float(marked.sum() / ground.sum()),
        float(np.sqrt(_outlined((unlike > BROKEN) & ground, edges).mean())),
        float(np.exp(-(shares * np.log(shares)).sum())),
        repeat,
        divided,
        _spread(grey, ground),
    ]


def _repeat(grey: np.ndarray, ground: np.ndarray) -> tuple[float, list[tuple[int, int]]]:
    """How far the autocorrelation of the ground alone rises after its least, and the best far shifts (down, across).

    Sums run over pairs of ground pixels (Wiener-Khinchin).
    """
    shape = tuple(2 * side for side in grey.shape)
    from_mean = np.where(ground, grey - grey[ground].mean(), 0.0)
    power = fft.irfft2(np.abs(fft.rfft2(from_mean, shape)) ** 2, shape)
    pairs = fft.irfft2(np.abs(fft.rfft2(ground.astype(float), shape)) ** 2, shape)
    enough = pairs > 0.1 * pairs[0, 0]
    even = np.where(enough, power / np.maximum(pairs, 1.0), np.nan) / max(power[0, 0] / pairs[0, 0], 1e-9)
    low, high = (round(share * max(grey.shape)) for share in SHIFTS)
    rise, far = 0.0, list[tuple[float, int, int]]()
    for line, step in (
        (even[: min(high, grey.shape[0]), 0], (1, 0)),
        (even[0, : min(high, grey.shape[1])], (0, 1)),
    ):
        above = line - np.fmin.accumulate(line)
        rise = max(rise, float(np.nanmax(above[low:], initial=0.0)))
        for k in range(round(FAR * max(grey.shape)), len(line)):
            if np.isfinite(line[k]):
                far.append((float(line[k]), k * step[0], k * step[1]))
    flat = power[0, 0] <= 1e-4 * pairs[0, 0]  # one brightness: every shift fits
    return 0.0 if flat else min(rise, 1.0), [f[1:] for f in sorted(far, reverse=True)[:BEST]]


def _divided(pixels: np.ndarray, edges: np.ndarray, ground: np.ndarray) -> tuple[float, int]:
    """How far one level cut explains the ground, and its row.

    With m the mean of colour and texture of each row, v what the best cut explains of their variance over rows and d
    the distance of the two parts' means: ``v min(1, d / PARTS)``.
    """
    inner = ndimage.binary_erosion(ground, iterations=3)  # edges of what was cut out are none of the ground's
    looks = np.concatenate((0.5 * pixels, np.minimum(edges, TEXTURE)[..., None] / TEXTURE), axis=2)
    count = inner.sum(1)
    rows = np.flatnonzero(count >= 0.15 * ground.shape[1])
    margin = max(3, round(0.04 * len(ground)))
    if len(rows) <= 3 * margin:
        return 0.0, 0
    mean = (looks * inner[..., None]).sum(1)[rows] / count[rows, None]
    weight = count[rows] / count[rows].sum()
    share, total = np.cumsum(weight), np.cumsum(weight[:, None] * mean, axis=0)
    at = np.arange(margin, len(rows) - margin)
    above = total[at] / share[at, None]
    below = (total[-1] - total[at]) / (1 - share[at, None])
    apart = ((above - below) ** 2).sum(1)
    told = share[at] * (1 - share[at]) * apart
    best = int(told.argmax())
    whole = float(weight @ ((mean - total[-1]) ** 2).sum(1))
    explained = float(told[best]) / (whole + 1e-3)  # of a plain ground's noise nothing is to be explained
    return explained * min(1.0, float(np.sqrt(apart[best])) / PARTS), int(rows[at[best]]) + 1


def _from_shifts(pixels: np.ndarray, ground: np.ndarray, shifts: list[tuple[int, int]]) -> np.ndarray:
    """``[height, width]``: how unlike the ground at each of some shifts, either way, at least; infinite without any."""
    high, wide = ground.shape
    least = np.full((high, wide), np.inf)
    for down, across in shifts:
        here = slice(down, high), slice(across, wide)
        there = slice(0, high - down), slice(0, wide - across)
        apart = ndimage.uniform_filter(np.abs(pixels[here] - pixels[there]).sum(2), 3)
        both = ground[here] & ground[there]
        for place in (here, there):
            least[place] = np.minimum(least[place], np.where(both, apart, np.inf))
    return least


def _from_smooth(pixels: np.ndarray, ground: np.ndarray, divided: float, row: int) -> np.ndarray:
    """``[height, width]``: how unlike colours that fade smoothly, over the whole or in its part, at least."""
    least = _unlike_smooth(pixels, ground)
    if divided > CUT:
        for part in (slice(0, row), slice(row, len(ground))):
            if ground[part].sum() >= FEW:
                least[part] = np.minimum(least[part], _unlike_smooth(pixels[part], ground[part]))
    out: np.ndarray = ndimage.uniform_filter(least, 3)
    return out


def _outlined(things: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Those of the connected pieces that have a sharp outline (to a pixel)."""
    near = ndimage.maximum_filter(edges, 3)
    labels, count = ndimage.label(things)
    outline = np.where(ndimage.binary_erosion(things), 0, labels)
    sharp = np.zeros(count + 1, dtype=bool)
    if count:
        sharp[1:] = ndimage.mean(near, outline, range(1, count + 1)) > OUTLINE
    kept: np.ndarray = sharp[labels]
    return kept


def _unlike_smooth(pixels: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Distance of colours from quadratic surfaces; what is far from them is left out, and they are fitted again."""
    high, wide = ground.shape
    y, x = np.mgrid[0:high, 0:wide] / max(high, wide)
    terms = np.stack((np.ones_like(x), x, y, x * y, x * x, y * y), axis=2)
    every = np.zeros_like(ground)
    every[::2, ::2] = True
    near = ground
    apart: np.ndarray = np.zeros(ground.shape)
    for _ in range(4):
        at = near & every
        if at.sum() < 4 * terms.shape[2]:
            break
        found = np.linalg.lstsq(terms[at], pixels[at], rcond=None)[0]
        apart = np.abs(pixels - terms @ found).sum(2)
        near = ground & (apart < max(0.15, 2.5 * float(np.median(apart[ground]))))
    return apart


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
