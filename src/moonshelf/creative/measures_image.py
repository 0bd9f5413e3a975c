"""What can be measured in a picture: where its subject is, how it is lit, coloured and filled. No training.

Sources: colourfulness Hasler & Suesstrunk 2003; harmony templates Cohen-Or et al. 2006 (sectors of the hue circle);
sharpness as variance of the Laplacian (Pech-Pacheco et al. 2000). Subject: ``augment.subject`` where the ground is
plain, ``encoder.core`` anywhere; the product itself: ``place``; letters and stickers: ``lettering``; what stands
behind: ``ground``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from moonshelf.augment.subject import find_subject
from moonshelf.creative import ground
from moonshelf.creative.lettering import find_lines, find_sticker, overlap
from moonshelf.creative.place import LEAST, Cutout, locate
from moonshelf.encoder.core import SIDE as CORE_SIDE
from moonshelf.encoder.core import Box, core_finder
from moonshelf.encoder.inputs import prepare_image, stack_pixels

SIDE = 160  # pixels of the longer side that all but the core is measured at
EDGE = 0.12  # length of the brightness gradient (white is 1) from which a pixel is an edge
PRINTED = 0.3  # share of a line's box beside the product up to which it is printed on the product
HUES = 72  # cells of the hue circle

NAMES: dict[str, str] = {
    "cut": "whether the subject stands on plain ground",
    "area": "share of the picture that the subject fills",
    "off_centre": "distance of the subject from the middle, in widths of the picture",
    "core_area": "share of the picture inside the box of the core region",
    "core_off": "distance of the core region from the middle, in widths of the picture",
    "brightness": "mean brightness, 0 to 1",
    "contrast": "spread of brightness",
    "apart": "difference of brightness between subject and ground",
    "colourful": "colourfulness",
    "harmony": "share of colour inside the best harmonic sectors",
    "clutter": "share of edge pixels",
    "sharpness": "spread of the Laplacian",
    **ground.NAMES,
    "lettering": "share of the picture that lines of letters fill, those of a sticker or on the product left out",
    "lettering_contrast": "contrast of the surest of these lines against its ground, 0 without",
    "sticker": "share of the picture that a sticker (one strong colour with letters) fills",
    "found": "correlation with the product's own photo at its best place, 0 below 0.55",
    "found_size": "longer side of the product there, as a share of the picture's",
    "found_off": "how far the product stands to one side of the middle, in widths of the picture",
    "found_low": "how far it stands below the middle (above: less than 0), in heights of the picture",
}
"""Every measure with its unit, in the order of the vector."""

# sectors (centre, width) of a harmonic template, in turns of the hue circle; the two that cover half of it are left
# out: inside them everything would be in harmony
TEMPLATES: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0.0, 0.05),),
    ((0.0, 0.26),),
    ((0.0, 0.26), (0.25, 0.05)),
    ((0.0, 0.05), (0.5, 0.05)),
    ((0.0, 0.26), (0.5, 0.05)),
)


def measure_images(
    images: Sequence[Image.Image], products: Sequence[Cutout | None] | None = None
) -> np.ndarray:
    """``[N, len(NAMES)]`` float64. ``area``, ``off_centre`` and ``apart`` are 0 where ``cut`` is.

    Args:
        products: what each shows, cut from the product's own photo; the last four are 0 without, and where it is not
            found.

    Cost: about 75 ms a picture, a quarter of it the core region's trunk, a third letters; 35 more with a product.
    """
    if not images:
        return np.zeros((0, len(NAMES)))
    finder, boxes = core_finder(), list[Box]()
    for start in range(0, len(images), 32):
        part = [prepare_image(image, CORE_SIDE) for image in images[start : start + 32]]
        boxes += finder.boxes(stack_pixels(part))
    shown = products if products is not None else [None] * len(images)
    return np.array(
        [_measure(image, core, product) for image, core, product in zip(images, boxes, shown, strict=True)]
    )


def _measure(image: Image.Image, core: Box, product: Cutout | None) -> list[float]:
    rgb = image.convert("RGB")
    place = None if product is None else locate(rgb, product)
    if place is not None and place.peak < LEAST:
        place = None
    sticker = find_sticker(rgb)
    shown = (product, place) if product is not None and place is not None else None
    bare = ground.ground_mask(rgb.size, shown, [])
    lines = [
        line
        for line in find_lines(rgb)
        if (sticker is None or overlap(line.box, sticker) < 0.5) and ground.share_of(bare, line.box) > PRINTED
    ]
    share = SIDE / max(rgb.size)
    size = (max(16, round(rgb.width * share)), max(16, round(rgb.height * share)))
    rgb = rgb.resize(size, Image.Resampling.BOX if share < 1 else Image.Resampling.BICUBIC)
    pixels = np.asarray(rgb, dtype=np.float64) / 255
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    subject = find_subject(rgb)
    cut, area, off, apart = not subject.why_not, 0.0, 0.0, 0.0
    if cut:
        mask = np.asarray(subject.mask) > 127
        if mask.any() and not mask.all():
            rows, columns = np.nonzero(mask)
            area = float(mask.mean())
            off = _off(columns.mean() + 0.5, rows.mean() + 0.5, size)
            apart = abs(float(grey[mask].mean() - grey[~mask].mean()))
        else:
            cut = False
    left, top, right, bottom = core
    across, down = np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]
    edges = np.hypot(across, down) > EDGE
    boxes = [line.box for line in lines] + ([sticker] if sticker else []) + ([] if place else [core])
    behind = ground.ground_mask(size, shown, boxes)
    laplace = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return [
        float(cut),
        area,
        off,
        (right - left) * (bottom - top),
        _off((left + right) / 2 * size[0], (top + bottom) / 2 * size[1], size),
        float(grey.mean()),
        float(grey.std()),
        apart,
        _colourful(pixels),
        _harmony(rgb),
        float(edges.mean()),
        float(laplace.std()),
        *ground.measure_ground(pixels, behind),
        sum(line.area for line in lines),
        lines[0].contrast if lines else 0.0,
        0.0 if sticker is None else (sticker[2] - sticker[0]) * (sticker[3] - sticker[1]),
        *((place.peak, place.size, abs(place.x - 0.5), place.y - 0.5) if place else (0.0, 0.0, 0.0, 0.0)),
    ]


def _off(x: float, y: float, size: tuple[int, int]) -> float:
    return float(np.hypot(x / size[0] - 0.5, (y / size[1] - 0.5) * size[1] / size[0]))


def _colourful(pixels: np.ndarray) -> float:
    """``hypot(std rg, std yb) + 0.3 hypot(mean rg, mean yb)``, rg = R - G, yb = (R + G) / 2 - B."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rg, yb = red - green, (red + green) / 2 - blue
    return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))


@lru_cache(maxsize=1)
def _sectors() -> np.ndarray:
    """``[templates x HUES turns, HUES]`` 1 inside the sectors."""
    cells = (np.arange(HUES) + 0.5) / HUES
    rows = []
    for template in TEMPLATES:
        for turn in range(HUES):
            inside = np.zeros(HUES, dtype=bool)
            for centre, width in template:
                away = np.abs((cells - centre - turn / HUES + 0.5) % 1.0 - 0.5)
                inside |= away <= width / 2
            rows.append(inside)
    return np.array(rows, dtype=np.float64)


def _harmony(rgb: Image.Image) -> float:
    """Largest share of the saturated colour (weighted by saturation) inside a template of at most 31% of the circle.

    1 for a picture without colour.
    """
    hsv = np.asarray(rgb.convert("HSV"), dtype=np.float64)
    weight = hsv[..., 1] / 255 * (hsv[..., 2] > 25)
    mass = np.bincount((hsv[..., 0] * HUES / 256).astype(np.int64).ravel(), weight.ravel(), minlength=HUES)
    if mass.sum() < 0.01 * weight.size:
        return 1.0
    narrow = _sectors()[
        : 5 * HUES
    ]  # the widest template covers half of the circle: everything would be harmonic
    return float((narrow @ mass).max() / mass.sum())
