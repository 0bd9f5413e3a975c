"""Random views of product photos: batched crops, turns, light and noise as tensor operations.

One geometric resampling an image (crop, scale, aspect, rotation, perspective, mirror together), then
colour. Everything is drawn from one generator, so a resumed run sees the same views. Our design,
after the usual recipes (SimCLR's crop and colour, random erasing) with white-balance and
perspective added because query photos come from phones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewConfig:
    """How far a view may stray from the photo. All probabilities and ranges are per image."""

    min_area: float = 0.35  # smallest share of the photo that a crop keeps
    aspect: float = 1.25  # crop aspect ratio within [1/aspect, aspect]
    rotate: float = 15.0  # degrees, either way
    perspective: float = 0.1  # largest tilt of the image plane
    mirror: float = 0.5  # probability
    light: float = 0.4  # brightness, contrast and saturation factors within 1 +- light
    white_balance: float = 0.15  # gain of each channel within 1 +- this
    grey: float = 0.05  # probability of losing all colour
    blur: float = 0.15  # probability
    noise: float = 0.03  # largest standard deviation, in units of full range
    erase: float = 0.3  # probability of a grey rectangle (occlusion)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 ``[..., 3, H, W]`` to float32 ``(pixel - 127) / 128``, as the trunk was trained."""
    return (pixels.float() - PIXEL_MEAN) / PIXEL_SCALE


class _Draws:
    """Random numbers for ``total`` images of which only ``part`` are viewed here: the same whoever views the others."""

    def __init__(self, total: int, part: slice, generator: torch.Generator) -> None:
        self.total, self.part, self.generator = total, part, generator

    def share(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), ``[images, *shape]``."""
        return torch.rand(self.total, *shape, generator=self.generator)[self.part]

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform in [low, high), ``[images, *shape]``."""
        return self.share(*shape) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, ``[images, *shape]``: large, so each image has a generator of its own."""
        seeds = torch.randint(2**62, (self.total,), generator=self.generator)[self.part].tolist()
        rows = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(rows) if rows else torch.empty(0, *shape)


def crop_grid(size: int, config: ViewConfig, draws: _Draws) -> Tensor:
    """Sampling grid ``[n, size, size, 2]`` in [-1, 1] for random crops; see the module."""
    area = draws.uniform(config.min_area, 1.0)
    n = len(area)
    aspect = torch.exp(draws.uniform(-math.log(config.aspect), math.log(config.aspect)))
    half_w = torch.sqrt(area * aspect).clamp(max=1.0)
    half_h = torch.sqrt(area / aspect).clamp(max=1.0)
    shift_x = draws.uniform(-1.0, 1.0) * (1 - half_w)
    shift_y = draws.uniform(-1.0, 1.0) * (1 - half_h)
    angle = draws.uniform(-config.rotate, config.rotate) * (math.pi / 180)
    tilt = draws.uniform(-config.perspective, config.perspective, 2)
    sign = torch.where(draws.share() < config.mirror, -1.0, 1.0)
    axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x.expand(n, -1, -1) * sign.view(n, 1, 1), y.expand(n, -1, -1)
    cos, sin = torch.cos(angle).view(n, 1, 1), torch.sin(angle).view(n, 1, 1)
    u = (x * cos - y * sin) * half_w.view(n, 1, 1) + shift_x.view(n, 1, 1)
    v = (x * sin + y * cos) * half_h.view(n, 1, 1) + shift_y.view(n, 1, 1)
    depth = 1.0 + tilt[:, 0].view(n, 1, 1) * x + tilt[:, 1].view(n, 1, 1) * y
    return torch.stack((u / depth, v / depth), dim=-1)


def _colour(x: Tensor, config: ViewConfig, draws: _Draws) -> Tensor:
    """Light, contrast, saturation, white balance; ``x`` in [0, 1]."""
    light, contrast, saturation = (
        draws.uniform(1 - config.light, 1 + config.light, 1, 1, 1) for _ in range(3)
    )
    gains = draws.uniform(1 - config.white_balance, 1 + config.white_balance, 3, 1, 1)
    saturation = torch.where(draws.share(1, 1, 1) < config.grey, 0.0, saturation)
    x = x * (light * gains)
    grey = (x * torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return mean + (x - mean) * contrast


def _erase(x: Tensor, probability: float, draws: _Draws) -> Tensor:
    _, _, height, width = x.shape
    chosen, box = draws.share() < probability, draws.share(4)
    for i in torch.nonzero(chosen).flatten().tolist():
        h, w = int(height * (0.1 + 0.3 * box[i, 0])), int(width * (0.1 + 0.3 * box[i, 1]))
        top, left = int((height - h) * box[i, 2]), int((width - w) * box[i, 3])
        x[i, :, top : top + h, left : left + w] = 0.5
    return x


def random_views(
    pixels: Tensor,
    size: int,
    config: ViewConfig,
    generator: torch.Generator,
    *,
    total: int | None = None,
    start: int = 0,
) -> Tensor:
    """One random view of each photo.

    Args:
        pixels: uint8 ``[B, 3, H, W]``.
        size: side of the views, in pixels.
        generator: CPU generator; the only source of randomness.
        total, start: these photos are ``start .. start + B`` of a batch of ``total``: they get the views that they
            would get in the whole batch, and the generator ends where it would end.

    Returns:
        float32 ``[B, 3, size, size]``, normalised for the trunk. Cost: some 3 ms an image at 160 px on one core
        (benchmarks/stated_costs.py).
    """
    n = pixels.shape[0]
    draws = _Draws(n if total is None else total, slice(start, start + n), generator)
    grid = crop_grid(size, config, draws)
    if n:
        x = F.grid_sample(
            pixels.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
        )
    else:
        x = torch.empty(0, 3, size, size)
    x = _colour(x, config, draws)
    blurred = draws.share() < config.blur
    if bool(blurred.any()):
        x[blurred] = F.avg_pool2d(F.pad(x[blurred], (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    sigma = draws.uniform(0.0, config.noise, 1, 1, 1)
    x = (x + draws.normal(*x.shape[1:]) * sigma).clamp(0, 1)
    x = _erase(x, config.erase, draws)
    return (x * 255 - PIXEL_MEAN) / PIXEL_SCALE
