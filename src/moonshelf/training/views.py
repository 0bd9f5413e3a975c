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


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def crop_grid(n: int, size: int, config: ViewConfig, generator: torch.Generator) -> Tensor:
    """Sampling grid ``[n, size, size, 2]`` in [-1, 1] for random crops; see the module."""
    area = _uniform(n, config.min_area, 1.0, generator)
    aspect = torch.exp(_uniform(n, -math.log(config.aspect), math.log(config.aspect), generator))
    half_w = torch.sqrt(area * aspect).clamp(max=1.0)
    half_h = torch.sqrt(area / aspect).clamp(max=1.0)
    shift_x = _uniform(n, -1.0, 1.0, generator) * (1 - half_w)
    shift_y = _uniform(n, -1.0, 1.0, generator) * (1 - half_h)
    angle = _uniform(n, -config.rotate, config.rotate, generator) * (math.pi / 180)
    tilt = _uniform(2 * n, -config.perspective, config.perspective, generator).view(n, 2)
    sign = torch.where(torch.rand(n, generator=generator) < config.mirror, -1.0, 1.0)
    axis = (torch.arange(size) + 0.5) * (2.0 / size) - 1.0
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x, y = x.expand(n, -1, -1) * sign.view(n, 1, 1), y.expand(n, -1, -1)
    cos, sin = torch.cos(angle).view(n, 1, 1), torch.sin(angle).view(n, 1, 1)
    u = (x * cos - y * sin) * half_w.view(n, 1, 1) + shift_x.view(n, 1, 1)
    v = (x * sin + y * cos) * half_h.view(n, 1, 1) + shift_y.view(n, 1, 1)
    depth = 1.0 + tilt[:, 0].view(n, 1, 1) * x + tilt[:, 1].view(n, 1, 1) * y
    return torch.stack((u / depth, v / depth), dim=-1)


def _colour(x: Tensor, config: ViewConfig, generator: torch.Generator) -> Tensor:
    """Light, contrast, saturation, white balance; ``x`` in [0, 1]."""
    n = x.shape[0]
    light, contrast, saturation = (
        _uniform(n, 1 - config.light, 1 + config.light, generator).view(n, 1, 1, 1) for _ in range(3)
    )
    gains = _uniform(3 * n, 1 - config.white_balance, 1 + config.white_balance, generator).view(n, 3, 1, 1)
    saturation = torch.where(
        torch.rand(n, generator=generator).view(n, 1, 1, 1) < config.grey, 0.0, saturation
    )
    x = x * (light * gains)
    grey = (x * torch.tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)
    x = grey + (x - grey) * saturation
    mean = grey.mean((2, 3), keepdim=True)
    return mean + (x - mean) * contrast


def _erase(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    n, _, height, width = x.shape
    chosen = torch.rand(n, generator=generator) < probability
    box = torch.rand(n, 4, generator=generator)
    for i in torch.nonzero(chosen).flatten().tolist():
        h, w = int(height * (0.1 + 0.3 * box[i, 0])), int(width * (0.1 + 0.3 * box[i, 1]))
        top, left = int((height - h) * box[i, 2]), int((width - w) * box[i, 3])
        x[i, :, top : top + h, left : left + w] = 0.5
    return x


def random_views(pixels: Tensor, size: int, config: ViewConfig, generator: torch.Generator) -> Tensor:
    """One random view of each photo.

    Args:
        pixels: uint8 ``[B, 3, H, W]``.
        size: side of the views, in pixels.
        generator: CPU generator; the only source of randomness.

    Returns:
        float32 ``[B, 3, size, size]``, normalised for the trunk. Cost: about 1 ms an image at 160 px.
    """
    n = pixels.shape[0]
    if n == 0:
        return torch.empty(0, 3, size, size)
    grid = crop_grid(n, size, config, generator)
    x = F.grid_sample(
        pixels.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    x = _colour(x, config, generator)
    blurred = torch.rand(n, generator=generator) < config.blur
    if bool(blurred.any()):
        x[blurred] = F.avg_pool2d(F.pad(x[blurred], (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    sigma = _uniform(n, 0.0, config.noise, generator).view(n, 1, 1, 1)
    x = (x + torch.randn(x.shape, generator=generator) * sigma).clamp(0, 1)
    x = _erase(x, config.erase, generator)
    return (x * 255 - PIXEL_MEAN) / PIXEL_SCALE
