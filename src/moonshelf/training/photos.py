"""Photos for training: decoded in a small thread pool, never kept, so memory does not grow with the shop."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from moonshelf.encoder import photo_reader
from moonshelf.encoder.inputs import Pixels
from moonshelf.shop.images import ImageStore

# Photos are decoded a quarter larger than the views, so that a crop is seldom enlarged.
MARGIN = 1.25


class PhotoReader:
    """Reads photos of one or several shops as uint8 squares.

    Args:
        stores: one a shop; a photo is addressed by (store number, image id).
        size: side of the *views*; photos come ``MARGIN`` larger.
        core: each photo comes twice, whole and its core region (``encoder.core``).
        threads: decoding threads (Pillow releases the interpreter while it decodes).

    Attributes:
        copies: of each photo: 1, or 2 with ``core``.
    """

    def __init__(
        self, stores: Sequence[ImageStore], size: int, *, core: bool = False, threads: int = 2
    ) -> None:
        self.stores = list(stores)
        self.side = round(size * MARGIN)
        self.copies = 2 if core else 1
        self._read = [photo_reader(store, self.side, core=core, at_once=True) for store in self.stores]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def _one(self, address: tuple[int, str]) -> tuple[Pixels, ...]:
        store, image_id = address
        return self._read[store](image_id)

    def read(self, addresses: Sequence[tuple[int, str]]) -> Tensor:
        """uint8 ``[N * copies, 3, side, side]``, the copies of a photo side by side."""
        if not addresses:
            return torch.empty(0, 3, self.side, self.side, dtype=torch.uint8)
        return torch.from_numpy(
            np.stack([one for shown in self._pool.map(self._one, addresses) for one in shown])
        )
