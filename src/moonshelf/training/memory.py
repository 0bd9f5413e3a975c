"""Product vectors of earlier steps, kept as further negatives and positives."""

from __future__ import annotations

import torch
from torch import Tensor


class ProductMemory:
    """The newest vector of each product, at most ``size`` products; the oldest vector makes room.

    A batch of 48 queries offers a few dozen negatives; the memory offers thousands at no forward pass. While it
    fills, a vector is as old as its product's last turn, and once full at most some ``size / batch`` steps: the
    run log has the mean age. After the memory bank of MoCo (He et al. 2020) and MOON's temporal negatives; one
    slot a product is our design.

    Args:
        size: slots; 0 makes an empty memory.
        width: length of a vector.
    """

    def __init__(self, size: int, width: int) -> None:
        self.vectors = torch.zeros(size, width)
        self.products = torch.full((size,), -1, dtype=torch.int64)
        self.steps = torch.zeros(size, dtype=torch.int64)

    def contents(self) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors ``[M, width]`` (no gradient), product numbers ``[M]`` and steps ``[M]`` of the filled slots."""
        filled = self.products >= 0
        return self.vectors[filled], self.products[filled], self.steps[filled]

    def put(self, vectors: Tensor, products: Tensor, step: int) -> None:
        """Remember the vectors of a step; a product that is here already keeps its slot.

        Of a product that comes twice the last vector stays, and of more new products than slots the last ones.
        Cost: a sort of the slots.
        """
        size = len(self.products)
        if not size:
            return
        last = torch.tensor(
            [*{number: i for i, number in enumerate(products.tolist())}.values()], dtype=torch.int64
        )
        numbers = products[last]
        here, slots = torch.sort(self.products, stable=True)
        at = torch.searchsorted(here, numbers).clamp(max=size - 1)
        held = here[at] == numbers
        slot = slots[at]
        # empty slots, then those of the oldest vectors; on equal age the first
        age = torch.where(self.products < 0, -1, self.steps)
        age[slot[held]] = step + 1
        room = size - int(held.sum())
        new = torch.nonzero(~held).flatten()[-room:] if room else torch.empty(0, dtype=torch.int64)
        slot[new] = torch.argsort(age, stable=True)[: len(new)]
        kept = torch.cat((torch.nonzero(held).flatten(), new))
        self.vectors[slot[kept]] = vectors.detach().float().cpu()[last[kept]]
        self.products[slot[kept]] = numbers[kept]
        self.steps[slot[kept]] = step

    def state(self) -> dict[str, Tensor]:
        """For the checkpoint."""
        return {
            "memory_vectors": self.vectors,
            "memory_products": self.products,
            "memory_steps": self.steps,
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take :meth:`state` back."""
        self.vectors = state["memory_vectors"].clone()
        self.products = state["memory_products"].clone()
        self.steps = state["memory_steps"].clone()
