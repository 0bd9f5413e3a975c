"""Where a product's own photo appears in a creative, and how large: the cut-out product slid over the picture at many
sizes, by masked normalised cross-correlation of colours (Lewis 1995; masks as Padfield 2012). Our design.

A creative on a scene or a pattern cannot be cut, so how much room its product fills stays unknown to the measures of
the picture alone; shops have the product's photo. It may reach beyond the picture: both have a mask, and what lies
inside both is compared. Of all sizes that of the most evidence is taken, ``-sqrt(n) log(1 - r^2)`` for a correlation r
over n pixels: a small thing resembles some corner of a busy picture by chance, and neighbouring pixels say the same, so
that what they say together grows with the side and not with the area. Nothing is found where the creative shows the
product from another side; the correlation says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft

from moonshelf.augment.subject import find_subject

SIDE = 64  # pixels of the creative's longer side that the product is looked for at
SIZES = tuple(
    float(s) for s in np.geomspace(0.26, 1.0, 28)
)  # longer side of the product, as a share of the creative's
MARGIN = 20  # pixels that it may reach beyond the picture on each side
INSIDE = 0.6  # share of the product that must lie in the picture
LEAST = 0.55  # correlation from which the product counts as found; one picture in five has it with another product
FLAT = 0.002  # variance of colour, a pixel, below which a place is flat: chance would correlate with it
_BOX = Image.Resampling.BOX


@dataclass(frozen=True, slots=True)
class Cutout:
    """A product cut from its photo: ``rgb`` and ``mask`` (mode ``L``) of the box around it."""

    rgb: Image.Image
    mask: Image.Image


@dataclass(frozen=True, slots=True)
class Place:
    """Where it is: correlation there, longer side as a share of the creative's longer side, centre in 0..1."""

    peak: float
    size: float
    x: float
    y: float


def cutout_of(photo: Image.Image) -> Cutout | None:
    """The product of a photo on plain ground; None where it cannot be cut. Cost: about 25 ms."""
    subject = find_subject(photo)
    if subject.why_not:
        return None
    return Cutout(photo.convert("RGB").crop(subject.box), subject.mask.crop(subject.box))


def locate(picture: Image.Image, product: Cutout) -> Place:
    """The best place of all sizes.

    Cost: about 40 ms (28 sizes, 15 transforms of 104 x 104 each).
    """
    share = SIDE / max(picture.size)
    wide, high = (max(8, round(side * share)) for side in picture.size)
    shape = (high + 2 * MARGIN, wide + 2 * MARGIN)
    seen = np.zeros((5, *shape), dtype=np.float32)  # three colours, their squares, where the picture is
    inner = seen[:, MARGIN : MARGIN + high, MARGIN : MARGIN + wide]
    inner[:3] = _array(picture.convert("RGB").resize((wide, high), _BOX)).transpose(2, 0, 1)
    inner[3], inner[4] = (inner[:3] ** 2).sum(0), 1.0
    spectra = fft.rfft2(seen)
    longest = max(product.rgb.size)
    best, most = Place(0.0, 0.0, 0.5, 0.5), 0.0
    for size in SIZES:
        w, h = (max(3, round(SIDE * size * side / longest)) for side in product.rgb.size)
        if w > shape[1] or h > shape[0]:
            continue
        mask = np.asarray(product.mask.resize((w, h), _BOX), dtype=np.float32) / 255
        rows = _correlation(spectra, shape, _array(product.rgb.resize((w, h), _BOX)), mask)
        at = np.unravel_index(int(rows.argmax()), rows.shape)
        peak = min(float(rows[at]), 0.999)
        evidence = -float(np.sqrt(mask.sum()) * np.log(1 - max(peak, 0.0) ** 2))
        if evidence > most:
            most = evidence
            x, y = float(at[1]) - MARGIN + w / 2, float(at[0]) - MARGIN + h / 2
            best = Place(peak, size, x / wide, y / high)
    return best


def _correlation(
    spectra: np.ndarray, shape: tuple[int, int], rgb: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """``[H - h + 1, W - w + 1]`` correlation at every place, over what lies in the picture; 0 where that is too little.

    With m the masks, f the picture, t the product, and sums over the overlap: ``N = sum m``,
    ``(sum ft - sum f sum t / N) / sqrt((sum f^2 - (sum f)^2 / N) (sum t^2 - (sum t)^2 / N))``, colours added.
    """
    product = np.zeros((5, *mask.shape), dtype=np.float32)
    product[:3] = rgb.transpose(2, 0, 1) * mask
    product[3], product[4] = (rgb**2).sum(2) * mask, mask
    under = np.conj(fft.rfft2(product, shape))
    both = np.concatenate(
        (
            spectra[:3] * under[4],  # sum f, by colour
            under[:3] * spectra[4],  # sum t
            (spectra[:3] * under[:3]).sum(0, keepdims=True),  # sum ft
            spectra[3:4] * under[4],  # sum f^2
            under[3:4] * spectra[4],  # sum t^2
            spectra[4:] * under[4],  # N
        )
    )
    kept = (slice(shape[0] - mask.shape[0] + 1), slice(shape[1] - mask.shape[1] + 1))
    sums = fft.irfft2(both, shape)[(slice(None), *kept)]
    total = float(mask.sum())
    count = np.maximum(sums[9], 1e-3)
    above = sums[6] - (sums[:3] * sums[3:6]).sum(0) / count
    own = sums[7] - (sums[:3] ** 2).sum(0) / count
    theirs = sums[8] - (sums[3:6] ** 2).sum(0) / count
    floor = FLAT * count
    found: np.ndarray = above / np.sqrt(np.maximum(own, floor) * np.maximum(theirs, floor))
    return np.where(sums[9] >= INSIDE * total, found, 0.0)


def _array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32) / 255
