"""What can be measured in a picture: where its subject is, how it is lit, coloured and filled. No training.

Sources: colourfulness Hasler & Suesstrunk 2003; harmony templates Cohen-Or et al. 2006 (sectors of the hue circle);
sharpness as variance of the Laplacian (Pech-Pacheco et al. 2000). Subject: ``augment.subject`` where the ground is
plain, ``encoder.core`` anywhere. Amount and legibility of text in the picture are not measured: we have no reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from moonshelf.augment.subject import find_subject
from moonshelf.creative.place import LEAST, Cutout, locate
from moonshelf.encoder.core import SIDE as CORE_SIDE
from moonshelf.encoder.core import Box, core_finder
from moonshelf.encoder.inputs import prepare_image, stack_pixels

SIDE = 160  # pixels of the longer side that all but the core is measured at
EDGE = 0.12  # length of the brightness gradient (white is 1) from which a pixel is an edge
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
    "ground_clutter": "share of edge pixels outside the core region",
    "sharpness": "spread of the Laplacian",
    "found": "correlation with the product's own photo at its best place, 0 below 0.6",
    "found_size": "longer side of the product there, as a share of the picture's",
    "found_off": "distance of the product from the middle, in widths of the picture",
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
        products: what each shows, cut from the product's own photo; the last three are 0 without, and where it is not
            found.

    Cost: about 40 ms a picture, half of it the core region's trunk; 15 more with a product.
    """
    if not images:
        return np.zeros((0, len(NAMES)))
    finder, boxes = core_finder(), list[Box]()
    for start in range(0, len(images), 32):
        part = [prepare_image(image, CORE_SIDE) for image in images[start : start + 32]]
        boxes += finder.boxes(stack_pixels(part))
    shown = products if products is not None else [None] * len(images)
    return np.array(
        [
            _measure(image, box) + _found(image, product)
            for image, box, product in zip(images, boxes, shown, strict=True)
        ]
    )


def _found(image: Image.Image, product: Cutout | None) -> list[float]:
    place = None if product is None else locate(image, product)
    if place is None or place.peak < LEAST:
        return [0.0, 0.0, 0.0]
    return [place.peak, place.size, _off(place.x * image.width, place.y * image.height, image.size)]


def _measure(image: Image.Image, core: Box) -> list[float]:
    rgb = image.convert("RGB")
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
    outside = np.ones(edges.shape, dtype=bool)
    outside[
        int(top * size[1]) : int(np.ceil(bottom * size[1])),
        int(left * size[0]) : int(np.ceil(right * size[0])),
    ] = False
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
        float(edges[outside].mean()) if outside.any() else 0.0,
        float(laplace.std()),
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
