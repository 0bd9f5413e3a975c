"""A small encoder and small shops, so that the room is tested in seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from moonshelf.encoder.inputs import Item
from moonshelf.types import ProductBatch


@dataclass(frozen=True)
class TinyConfig:
    max_images: int = 2
    core: bool = False
    guided: bool = False


class TinyEncoder:
    """Colours of 2 x 2 cells and a bag of bytes, projected at random; a row depends on its item alone."""

    width, widths, image_size = 16, (16, 8, 4), 16

    def __init__(self, version: str = "tiny") -> None:
        self.version, self.config = version, TinyConfig()
        generator = torch.Generator().manual_seed(5)
        self.colour = torch.randn(12, 16, generator=generator)
        self.words = torch.randn(256, 16, generator=generator)
        self.batches: list[ProductBatch] = []

    def collate(self, items: Sequence[Item]) -> ProductBatch:
        texts = [list((item.text or "").encode()) for item in items]
        length = max((len(t) for t in texts), default=0)
        ids, mask = (
            torch.zeros(len(items), length, dtype=torch.int64),
            torch.zeros(len(items), length, dtype=torch.bool),
        )
        for i, t in enumerate(texts):
            ids[i, : len(t)], mask[i, : len(t)] = torch.tensor(t, dtype=torch.int64), True
        photos = [p for item in items for p in item.images]
        images = (
            torch.from_numpy(np.stack(photos)) if photos else torch.empty(0, 3, 16, 16, dtype=torch.uint8)
        )
        owner = [i for i, item in enumerate(items) for _ in item.images]
        return ProductBatch(len(items), images, torch.tensor(owner, dtype=torch.int64), ids, mask)

    def embed(self, batch: ProductBatch) -> Tensor:
        self.batches.append(batch)
        out = torch.zeros(batch.size, 16)
        for i in range(batch.size):
            mine = batch.images[batch.owner == i].float() / 127 - 1
            if len(mine):
                out[i] += F.adaptive_avg_pool2d(mine, 2).flatten(1).mean(0) @ self.colour
            if batch.mask[i].any():
                out[i] += self.words[batch.ids[i][batch.mask[i]]].mean(0)
        return F.normalize(out, dim=-1)


def png(seed: int, size: int = 16) -> bytes:
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    noisy = np.clip(
        np.kron(cells, np.ones((size // 2, size // 2, 1))) + rng.normal(0, 8, (size, size, 3)), 0, 255
    )
    Image.fromarray(noisy.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
