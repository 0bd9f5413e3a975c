"""Photos for training: decoded in a small thread pool, never kept, so memory does not grow with the shop."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from moonshelf.encoder import prepare_image
from moonshelf.shop.images import ImageStore

# Photos are decoded a quarter larger than the views, so that a crop is seldom enlarged.
MARGIN = 1.25


class PhotoReader:
    """Reads photos of one or several shops as uint8 squares.

    Args:
        stores: one a shop; a photo is addressed by (store number, image id).
        size: side of the *views*; photos come ``MARGIN`` larger.
        threads: decoding threads (Pillow releases the interpreter while it decodes).
    """

    def __init__(self, stores: Sequence[ImageStore], size: int, threads: int = 2) -> None:
        self.stores = list(stores)
        self.side = round(size * MARGIN)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def _one(self, address: tuple[int, str]) -> np.ndarray:
        store, image_id = address
        return prepare_image(self.stores[store].decode(image_id, short_side=self.side), self.side)

    def read(self, addresses: Sequence[tuple[int, str]]) -> Tensor:
        """uint8 ``[N, 3, side, side]``."""
        if not addresses:
            return torch.empty(0, 3, self.side, self.side, dtype=torch.uint8)
        return torch.from_numpy(np.stack(list(self._pool.map(self._one, addresses))))
