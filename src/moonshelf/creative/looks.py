"""Where things are in a picture, as numbers: a coarse layout of light, colour and edges, and the trunk's grid.

Both are folded along the vertical middle, so that left and right count the same (for the layout exactly; the trunk is
not quite symmetric); what differs between the sides of the layout is kept as a size.
A mean over the whole picture cannot tell a large subject from a small one in front of a busy ground; these can.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from moonshelf.encoder.compact import PIXEL_MEAN, PIXEL_SCALE, CompactEncoder
from moonshelf.encoder.efficientnet import CHANNELS

CELLS = 12  # of the layout on a side
PIXELS = 96  # that it is measured at
LAYOUT = CELLS * (CELLS // 2) * 4 * 2
SIDE = 5  # cells of the trunk's grid on a side
KEPT = 256  # numbers that stand for the 1280 channels of a cell
GRID = SIDE * (SIDE // 2 + 1) * KEPT


def layouts(images: Sequence[Image.Image]) -> np.ndarray:
    """``[N, LAYOUT]`` float32: of each cell brightness, red against green, yellow against blue, edges; folded.

    Cost: about 1 ms a picture.
    """
    return (
        np.stack([_layout(image) for image in images]) if images else np.zeros((0, LAYOUT), dtype=np.float32)
    )


def _layout(image: Image.Image) -> np.ndarray:
    small = image.convert("RGB").resize((PIXELS, PIXELS), Image.Resampling.BOX)
    rgb = np.asarray(small, dtype=np.float32) / 255
    grey = rgb @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    edges = np.zeros_like(grey)
    edges[:-1, :-1] = np.sqrt(np.hypot(np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1]))
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    channels = np.stack((grey, red - green, (red + green) / 2 - blue, edges), axis=2)
    cells = channels.reshape(CELLS, PIXELS // CELLS, CELLS, PIXELS // CELLS, 4).mean(axis=(1, 3))
    left, right = cells[:, : CELLS // 2], cells[:, ::-1][:, : CELLS // 2]
    return np.concatenate((((left + right) / 2).ravel(), np.abs(left - right).ravel()))


@lru_cache(maxsize=1)
def _mixing() -> Tensor:
    """``[1280, KEPT]``: a fixed random projection (Johnson & Lindenstrauss): dot products stay about the same."""
    drawn = np.random.default_rng(0).normal(0, 1 / np.sqrt(KEPT), (CHANNELS, KEPT)).astype(np.float32)
    return torch.from_numpy(drawn)


@torch.inference_mode()
def grids(encoder: CompactEncoder, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The trunk's mean features, unit rows ``[N, 1280]``, and its grid, folded and projected, ``[N, GRID]``.

    Args:
        images: ``[N, 3, S, S]`` uint8; whatever S, the grid is brought to ``SIDE`` cells a side.
    """
    pixels = images.float().sub_(PIXEL_MEAN).div_(PIXEL_SCALE).to(encoder.class_anchors.device)
    was = encoder.training
    encoder.eval()
    try:
        grid = encoder.trunk(pixels.contiguous(memory_format=torch.channels_last)).float().cpu()
    finally:
        encoder.train(was)
    mean = F.normalize(grid.mean((2, 3)), dim=-1)
    cells = F.adaptive_avg_pool2d(grid, SIDE)
    folded = ((cells + cells.flip(3)) / 2)[:, :, :, : SIDE // 2 + 1]
    mixed = folded.permute(0, 2, 3, 1) @ _mixing()
    return mean.numpy(), mixed.reshape(len(images), GRID).numpy()
