"""Embedding tables of which a step reads and writes only the rows that its batch names.

A dense optimiser would walk over the whole table and its moments at each step, millions of ids that are not there.
Here the rows of a batch's *distinct* ids are taken out as a leaf, their gradient is dense, and Adam moves those rows
and their moments alone (what ``torch.optim.SparseAdam`` computes, without sparse tensors).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RowTable(nn.Module):
    """``size`` rows of ``width`` numbers; row 0 is for the unknown and learns like the others.

    Usage in a step: ``rows = table(ids)`` with distinct ids, backward, ``table.step(rate)``. In evaluation it takes any
    ids and keeps nothing.

    Args:
        size, width: of the table.
        std: of the normal numbers it starts with (1e-4, as FuxiCTR's tables).

    Cost: ``O(len(ids) * width)`` a step, whatever the size; three times the table in memory, in training.
    """

    weight: Tensor
    moment: Tensor
    square: Tensor

    def __init__(
        self, size: int, width: int, std: float = 1e-4, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(size, width, generator=generator) * std)
        # moments are part of the checkpoint of a run, not of the model
        self.register_buffer("moment", torch.zeros(size, width), persistent=False)
        self.register_buffer("square", torch.zeros(size, width), persistent=False)
        self.steps = 0
        self._taken: list[tuple[Tensor, Tensor]] = []

    @property
    def width(self) -> int:
        """Numbers a row."""
        return int(self.weight.shape[1])

    def forward(self, ids: Tensor) -> Tensor:
        """``[..., width]`` of ids; in training they must be distinct over all calls of a step."""
        rows = self.weight[ids]
        if self.training and torch.is_grad_enabled():
            rows = rows.detach().requires_grad_()
            self._taken.append((ids, rows))
        return rows

    def gradients(self) -> list[Tensor]:
        """Of the rows taken since the last step, for clipping."""
        return [rows.grad for _, rows in self._taken if rows.grad is not None]

    @torch.no_grad()
    def step(self, rate: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        """Adam on the rows taken since the last step, then forget them."""
        self.steps += 1
        a, b = betas
        right = (1 - b**self.steps) ** 0.5 / (1 - a**self.steps)
        for ids, rows in self._taken:
            if rows.grad is None:
                continue
            flat, grad = ids.reshape(-1), rows.grad.reshape(-1, self.width)
            moment = self.moment[flat].lerp_(grad, 1 - a)
            square = self.square[flat].mul_(b).addcmul_(grad, grad, value=1 - b)
            self.moment[flat], self.square[flat] = moment, square
            self.weight.index_add_(0, flat, moment / square.sqrt().add_(eps), alpha=-rate * right)
        self._taken.clear()

    def forget(self) -> None:
        """Drop what was taken without a step (a batch that failed)."""
        self._taken.clear()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the weights."""
        return {"moment": self.moment, "square": self.square, "steps": torch.tensor(self.steps)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take :meth:`state` back."""
        self.moment.copy_(state["moment"])
        self.square.copy_(state["square"])
        self.steps = int(state["steps"])
