"""What our encoder must beat: a colour histogram and the off-the-shelf trunk, from the same photos."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from moonshelf.encoder import CompactEncoder
from moonshelf.encoder.core import Photos
from moonshelf.encoder.inputs import Pixels, prepare_image, stack_pixels
from moonshelf.progress import Progress
from moonshelf.shelf.stream import windowed_map
from moonshelf.shop.images import ImageError

BINS = 8
NATIVE_SIZE = (
    224  # the side the published trunk was trained at: at our smaller side it would look worse than it is
)
HISTOGRAM: str = "colour_histogram"
TRUNK: str = "off_the_shelf"


def colour_histogram(pixels: Sequence[Pixels]) -> np.ndarray:
    """Joint HSV histogram, 8 x 8 x 8 bins, as unit rows ``[N, 512]`` float32.

    The square root of a histogram that sums to one has unit length, and the product of two such rows is
    the Bhattacharyya coefficient ``sum_i sqrt(p_i q_i) = 1 - Hellinger^2`` (Swain & Ballard 1991 for
    indexing by colour; HSV as hue is steadier under light than RGB).

    Args:
        pixels: N times uint8 ``[3, S, S]`` RGB.
    """
    out = np.zeros((len(pixels), BINS**3), dtype=np.float32)
    for i, photo in enumerate(pixels):
        hsv = np.asarray(Image.fromarray(np.ascontiguousarray(photo.transpose(1, 2, 0))).convert("HSV"))
        bins = hsv.reshape(-1, 3).astype(np.int64) * BINS // 256
        joint = np.bincount((bins[:, 0] * BINS + bins[:, 1]) * BINS + bins[:, 2], minlength=BINS**3)
        out[i] = np.sqrt(joint / joint.sum())
    return out


def photo_features(
    photos: Photos,
    image_ids: Sequence[str | None],
    trunk: CompactEncoder,
    *,
    batch_size: int = 32,
    workers: int | None = None,
    label: str | None = None,
) -> dict[str, np.ndarray]:
    """Both baselines' unit rows for a list of photos, each decoded once.

    Args:
        image_ids: None, or a photo that cannot be decoded, gives a zero row: it is never found first.
        trunk: an untrained encoder, whose ``trunk_features`` is the off-the-shelf network.

    Returns:
        ``{"colour_histogram": [N, 512], "off_the_shelf": [N, 1280]}`` float32.
    """
    size = NATIVE_SIZE
    width = trunk.trunk.head.out_channels
    histogram = np.zeros((len(image_ids), BINS**3), dtype=np.float32)
    features = np.zeros((len(image_ids), width), dtype=np.float32)

    def decode(image_id: str | None) -> Pixels | None:
        if image_id is None:
            return None
        try:
            return prepare_image(photos.decode(image_id, short_side=size), size)
        except ImageError:
            return None

    with Progress(len(image_ids), label) if label else contextlib.nullcontext() as progress:
        for positions, pixels in _batches(windowed_map(decode, image_ids, workers), batch_size):
            histogram[positions] = colour_histogram(pixels)
            features[positions] = trunk.trunk_features(stack_pixels(pixels)).numpy()
            if progress:
                progress.advance(len(positions))
    return {HISTOGRAM: histogram, TRUNK: features}


def _batches(pixels: Iterator[Pixels | None], batch_size: int) -> Iterator[tuple[list[int], list[Pixels]]]:
    positions: list[int] = []
    held: list[Pixels] = []
    for position, photo in enumerate(pixels):
        if photo is not None:
            positions.append(position)
            held.append(photo)
        if len(held) == batch_size:
            yield positions, held
            positions, held = [], []
    if held:
        yield positions, held
