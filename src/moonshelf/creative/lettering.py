"""Where letters and stickers stand in a picture: how much room they fill and how well they can be read. Our design.

Letters are thin beside what they stand on: a white or black top-hat (Serra 1982) leaves strokes of either polarity, at
several thresholds, so that pale words on pale ground are found as well as black ones on white; pieces of one height in
a row make a line (as in Neumann & Matas 2012, without their learned filter). Nothing is read. A sticker is a compact
piece of one strong colour with letters in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 256  # pixels of the longer side
STROKE = 0.055  # width of the top-hat: thicker strokes are no letters, as a share of the longer side
THRESHOLDS = (0.045, 0.1, 0.2, 0.4)  # of contrast (white against black is 1)
HEIGHTS = (0.03, 0.2)  # of a letter, as a share of the picture's
LETTERS = 5  # in a line, at least
SPREAD = 0.12  # letters differ in width, dots and tiles do not: standard deviation over mean, at least
UNEVEN = 0.1  # letters stand on one line: median distance of their feet from it, in heights
STRONG = (0.55, 0.75)  # saturation of a sticker: from the higher one on it is told from brown wood
COLOURS = 16  # parts of the hue circle; a sticker lies in one and a half
STICKERS = (0.008, 0.12)  # share of the picture that one fills

PixelBox = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Line:
    """Letters in a row: box (left, top, right, bottom) as shares of the picture, contrast to the ground, number."""

    box: tuple[float, float, float, float]
    contrast: float
    letters: int

    @property
    def area(self) -> float:
        """Share of the picture inside the box."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def find_lines(image: Image.Image) -> list[Line]:
    """Lines of letters, the surest first; of lines that overlap the surer one. Cost: about 12 ms."""
    grey = np.asarray(_small(image).convert("L"), dtype=np.float32) / 255
    wide = max(5, round(STROKE * max(grey.shape))) | 1
    found: list[Line] = []
    for hat in (ndimage.white_tophat(grey, size=(wide, wide)), ndimage.black_tophat(grey, size=(wide, wide))):
        for threshold in THRESHOLDS:
            found += _lines(hat, threshold)
    found.sort(key=lambda line: -line.letters * (1 + line.contrast))
    kept: list[Line] = []
    for line in found:
        if not any(overlap(line.box, other.box) > 0.3 for other in kept):
            kept.append(line)
    return kept


def find_sticker(image: Image.Image) -> tuple[float, float, float, float] | None:
    """Box of the largest sticker, as shares of the picture; None without one. Cost: about 10 ms."""
    hsv = np.asarray(_small(image).convert("HSV"), dtype=np.float32) / 255
    high, wide = hsv.shape[:2]
    best, most = None, 0.0
    for least in STRONG:
        strong = (hsv[..., 1] > least) & (hsv[..., 2] > 0.3)
        for centre in np.unique(np.round(hsv[..., 0][strong] * COLOURS)) / COLOURS:
            away = np.abs((hsv[..., 0] - centre + 0.5) % 1.0 - 0.5)
            labels, count = ndimage.label(strong & (away < 0.75 / COLOURS))
            for number, place in enumerate(ndimage.find_objects(labels, max_label=count), start=1):
                piece = labels[place] == number
                area = _sticker(piece, hsv[..., 2][place], high * wide)
                if area > most:
                    rows, columns = place
                    best = columns.start / wide, rows.start / high, columns.stop / wide, rows.stop / high
                    most = area
    return best


def _sticker(piece: np.ndarray, value: np.ndarray, pixels: int) -> float:
    """Share of the picture that a piece fills with what is written on it; 0 where it is no sticker."""
    h, w = piece.shape
    if not (0.75 < w / h < 1.34 and STICKERS[0] < h * w / pixels < STICKERS[1]):
        return 0.0
    whole = ndimage.binary_fill_holes(piece)
    written = 1 - piece.sum() / whole.sum()
    if whole.mean() < 0.72 or not 0.04 < written < 0.6 or value[piece].std() > 0.06:
        return 0.0
    return float(whole.sum()) / pixels


def _small(image: Image.Image) -> Image.Image:
    share = SIDE / max(image.size)
    size = (max(16, round(image.width * share)), max(16, round(image.height * share)))
    return image.convert("RGB").resize(size, Image.Resampling.BOX if share < 1 else Image.Resampling.BICUBIC)


def _lines(hat: np.ndarray, threshold: float) -> list[Line]:
    """Lines of one polarity at one threshold."""
    high, wide = hat.shape
    labels, count = ndimage.label(hat > threshold)
    pieces: list[tuple[PixelBox, int]] = []
    for number, place in enumerate(ndimage.find_objects(labels, max_label=count), start=1):
        (top, bottom), (left, right) = ((s.start, s.stop) for s in place)
        h, w = bottom - top, right - left
        if HEIGHTS[0] * high <= h <= HEIGHTS[1] * high and w <= 1.6 * h and w * h >= 12:
            pieces.append(((left, top, right, bottom), number))
    rows: list[list[tuple[PixelBox, int]]] = []
    for piece in sorted(pieces):
        row = next((r for r in rows if _joins(piece[0], r)), None)
        if row is None:
            rows.append([piece])
        else:
            row.append(piece)
    out = []
    for row in rows:
        if len(row) < LETTERS:
            continue
        widths = np.array([b[2] - b[0] for b, _ in row])
        feet = np.array([b[3] for b, _ in row])
        uneven = np.median(np.abs(feet - np.median(feet))) / np.median([b[3] - b[1] for b, _ in row])
        if widths.std() / widths.mean() < SPREAD or uneven > UNEVEN:
            continue
        strong = [
            np.percentile(hat[b[1] : b[3], b[0] : b[2]][labels[b[1] : b[3], b[0] : b[2]] == n], 80)
            for b, n in row
        ]
        box = (
            row[0][0][0] / wide, min(b[1] for b, _ in row) / high, max(b[2] for b, _ in row) / wide,
            max(b[3] for b, _ in row) / high,
        )  # fmt: skip
        out.append(Line(box, float(np.mean(strong)), len(row)))
    return out


def _joins(box: PixelBox, row: list[tuple[PixelBox, int]]) -> bool:
    """Whether a piece stands in a row: as high, at the same height, next to its last."""
    last = row[-1][0]
    if last[0] >= box[0]:
        return False
    high, usual = box[3] - box[1], float(median(b[3] - b[1] for b, _ in row))
    shared = min(box[3], last[3]) - max(box[1], last[1])
    near = box[0] - last[2] < 1.1 * max(high, usual)
    return near and shared > 0.5 * min(high, usual) and max(high, usual) < 2 * min(high, usual)


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    """Share of the smaller box that lies in both."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return wide * high / max(smaller, 1e-9)
