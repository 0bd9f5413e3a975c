"""Where the subject of a photo is, to be shown a second time without what stands around it (a core-region crop).

The predecessor of MOON (methods: our reading) gives its encoder each image and the crop of a frozen open-vocabulary
detector. The embedded stand-in needs no prompt and no network: class activation of the published trunk (Zhou et al.
2016) says where something is that has a name, edge energy says how far it reaches. The detector is frozen, so a box
belongs to a photo for good and is kept beside it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.encoder import weights
from moonshelf.encoder.efficientnet import CHANNELS, EfficientNetLite0
from moonshelf.encoder.inputs import Pixels, prepare_image, stack_pixels
from moonshelf.errors import InputError
from moonshelf.progress import Progress
from moonshelf.shop.decode import ImageError
from moonshelf.shop.images import ImageStore
from moonshelf.workspace import write_frame

VERSION = 1  # of the boxes; another one when they would come out differently
SIDE = 192  # pixels that the detector looks at
HEAT = 48  # cells of the heat map on a side
TAIL = 0.05  # share of the heat that is left outside at either end of a side
PAD = 0.03  # beyond that, of the photo's side
LEAST = 0.3  # smallest side of a box
STEPS = 64  # boxes are rounded outwards to this grid, so that last bits of a sum do not move them
BATCH = 32
SAVED = 2000  # boxes found between two writes

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of width and height."""


class CoreFinder(nn.Module):
    """The published trunk and its classifier, frozen."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.trunk = EfficientNetLite0()
            self.classify = nn.Linear(CHANNELS, 1000)
        weight, bias = self.trunk.load_published(weights.lite0_state())
        with torch.no_grad():
            self.classify.weight.copy_(weight)
            self.classify.bias.copy_(bias)
        self.requires_grad_(requires_grad=False)

    @torch.inference_mode()
    def heat(self, pixels: Tensor) -> Tensor:
        """``[N, HEAT, HEAT]``, no less than 0: class activation times edge energy.

        ``CAM = relu(f . sum over classes k of p_k w_k)`` with ``p`` the classes of the whole photo; edges are lengths
        of the brightness gradient, blurred to the size of a cell of the trunk's grid.

        Args:
            pixels: ``[N, 3, SIDE, SIDE]`` uint8.
        """
        grey = pixels.float().mean(1, keepdim=True) / 255
        grid = self.trunk(((pixels.float() - 127) / 128).contiguous(memory_format=torch.channels_last))
        chance = F.softmax(self.classify(grid.mean((2, 3))), dim=-1)
        activation = torch.einsum("ncij,nc->nij", grid, chance @ self.classify.weight).relu()
        activation = activation / activation.amax((1, 2), keepdim=True).clamp(min=1e-6)
        seen = F.interpolate(activation[:, None], size=(HEAT, HEAT), mode="bicubic").clamp(min=0)
        across, down = grey.diff(dim=3)[:, :, :-1], grey.diff(dim=2)[:, :, :, :-1]
        edges = F.adaptive_avg_pool2d((across.square() + down.square()).sqrt(), HEAT)
        edges = F.avg_pool2d(edges, 5, stride=1, padding=2)
        edges = edges / edges.amax((2, 3), keepdim=True).clamp(min=1e-6)
        return (seen * (edges + 0.05))[:, 0]

    def boxes(self, pixels: Tensor) -> list[Box]:
        """Each side without the ``TAIL`` of the heat at either end, padded; the whole photo where there is no heat."""
        heat = self.heat(pixels).double().numpy()
        found: list[Box] = []
        for one in heat:
            (left, right), (top, bottom) = _span(one.sum(0)), _span(one.sum(1))
            found.append((left, top, right, bottom))
        return found


def _span(mass: np.ndarray) -> tuple[float, float]:
    total = mass.sum()
    if total <= 0:
        return 0.0, 1.0
    reached = np.concatenate(([0.0], np.cumsum(mass))) / total
    ends = np.interp((TAIL, 1 - TAIL), reached, np.arange(len(reached)) / len(mass))
    low, high = float(ends[0]) - PAD, float(ends[1]) + PAD
    lacking = max(0.0, LEAST - (high - low)) / 2
    low, high = max(0.0, low - lacking), min(1.0, high + lacking)
    return float(np.floor(low * STEPS) / STEPS), float(np.ceil(high * STEPS) / STEPS)


@lru_cache(maxsize=1)
def core_finder() -> CoreFinder:
    """The process-wide detector (16 MB, a fraction of a second to load)."""
    return CoreFinder().eval()


def find_core(image: Image.Image) -> Box:
    """The box of one photo. Cost: a forward pass of the trunk at ``SIDE``, about 8 ms."""
    return core_finder().boxes(stack_pixels([prepare_image(image, SIDE)]))[0]


def core_pixels(image: Image.Image, box: Box, size: int) -> Pixels:
    """What is in the box, prepared like a photo."""
    w, h = image.size
    left, top = int(box[0] * w), int(box[1] * h)
    right, bottom = max(left + 1, round(box[2] * w)), max(top + 1, round(box[3] * h))
    return prepare_image(image.crop((left, top, right, bottom)), size)


def prepare_photo(image: Image.Image, size: int, *, core: bool) -> tuple[Pixels, ...]:
    """A photo as an item shows it: whole, and with ``core`` its core region, too."""
    whole = prepare_image(image, size)
    return (whole, core_pixels(image, find_core(image), size)) if core else (whole,)


def photo_reader(
    images: Photos, size: int, *, core: bool, at_once: bool = False
) -> Callable[[str], tuple[Pixels, ...]]:
    """The same for the photos of a store, from any thread; ``at_once``: find all core regions before the first one."""
    if not core:
        return lambda image_id: (prepare_image(images.decode(image_id, short_side=size), size),)
    if not isinstance(images, ImageStore):
        raise TypeError("core regions are kept beside the photos of a shop")
    boxes = CoreBoxes(images)
    if at_once:
        boxes.find()

    def read(image_id: str) -> tuple[Pixels, ...]:
        image = images.decode(image_id, short_side=2 * size)
        return prepare_image(image, size), core_pixels(image, boxes.of(image_id, image), size)

    return read


class Photos(Protocol):
    """What gives the picture of an id."""

    def decode(self, image_id: str, short_side: int | None = None) -> Image.Image:
        """Upright RGB; see ``ImageStore.decode``."""
        ...


class CoreBoxes:
    """The boxes of a shop's photos: each found once, kept beside them (``core-1.parquet``), looked up from then on.

    :meth:`of` finds one where it is missing, from any thread; :meth:`find` finds many, faster.

    Args:
        images: the photos.

    Cost: about 10 ms a photo on 2 cores, the first time.
    """

    def __init__(self, images: ImageStore) -> None:
        self._images, self._path = images, images.folder / f"core-{VERSION}.parquet"
        self._boxes: dict[str, Box] = {}
        self._new, self._lock = 0, threading.Lock()
        if self._path.is_file():
            with contextlib.suppress(pl.exceptions.PolarsError, OSError):  # a damaged file is made again
                frame = pl.read_parquet(self._path)
                self._boxes = {name: tuple(box) for name, *box in frame.iter_rows()}

    def find(self, ids: Sequence[str] | None = None) -> CoreBoxes:
        """Find those of ``ids`` (default: all) that are missing, and write them down on the way."""
        images = self._images
        missing = [i for i in dict.fromkeys(images.ids if ids is None else ids) if i not in self._boxes]
        missing = [i for i in missing if i in images]
        if not missing:
            return self
        with Progress(len(missing), "core regions") as bar:
            for start in range(0, len(missing), BATCH):
                part: list[str] = []
                pixels: list[Pixels] = []
                for image_id in missing[start : start + BATCH]:
                    with contextlib.suppress(ImageError):  # who wants to see it will hear of it
                        pixels.append(prepare_image(images.decode(image_id, short_side=SIDE), SIDE))
                        part.append(image_id)
                if part:
                    self._add(dict(zip(part, core_finder().boxes(stack_pixels(pixels)), strict=True)))
                bar.advance(len(missing[start : start + BATCH]))
        self.save()
        return self

    def _add(self, boxes: dict[str, Box]) -> None:
        with self._lock:
            self._boxes |= boxes
            self._new += len(boxes)
            due = self._new >= SAVED
        if due:
            self.save()

    def save(self) -> None:
        """Write down what was found; a folder that cannot be written to is only slower the next time."""
        with self._lock:
            if not self._new:
                return
            rows = [(name, *box) for name, box in self._boxes.items()]
            self._new = 0
            names = ("image_id", "left", "top", "right", "bottom")
            schema = dict(zip(names, (pl.String, *[pl.Float64] * 4), strict=True))
            with contextlib.suppress(OSError, InputError):
                write_frame(pl.DataFrame(rows, schema=schema, orient="row"), self._path)

    def of(self, image_id: str, image: Image.Image) -> Box:
        """The box of a photo that is at hand."""
        box = self._boxes.get(image_id)
        if box is None:
            box = find_core(image)
            self._add({image_id: box})
        return box
