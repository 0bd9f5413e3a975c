"""What every interest model gets, and the small pieces that several of them use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.ranking.batches import ClickBatch


class Seen(NamedTuple):
    """A batch with its embeddings.

    Attributes:
        every: ``[V, K]`` id and feature embedding of each distinct product and query.
        content: ``[V, D]`` unit content vectors, zero where there is none; D = 0 without content.
        batch: places of targets and pasts among the V, masks.
    """

    every: Tensor
    content: Tensor
    batch: ClickBatch

    @property
    def target(self) -> Tensor:
        """``[B, K]``."""
        return self.every[self.batch.target]

    @property
    def places(self) -> Tensor:
        """``[B, L]`` places of each row's past."""
        return self.batch.past[self.batch.context]

    @property
    def there(self) -> Tensor:
        """``[B, L]`` bool."""
        return self.batch.past_there[self.batch.context]


class Interest(Protocol):
    """A module that turns a past into ``width`` numbers a row."""

    width: int

    def __call__(self, seen: Seen) -> Tensor:
        """``[B, width]``."""
        ...


def masked_softmax(logits: Tensor, there: Tensor) -> Tensor:
    """Softmax over the last dimension among what is there; all zeros where nothing is."""
    weights = F.softmax(logits.masked_fill(~there, torch.finfo(logits.dtype).min), dim=-1)
    return weights * there


def tower(inputs: int, hidden: Sequence[int], outputs: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """Linear and ReLU layers, started as FuxiCTR starts them: xavier."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        inputs = width
    layers.append(nn.Linear(inputs, outputs))
    made = nn.Sequential(*layers)
    started(made)
    return made


def started(module: nn.Module) -> None:
    """Xavier-normal weights, zero biases, for all linear layers of a module."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def similarity(seen: Seen, places: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of each row's past with one thing a row.

    Args:
        places: ``[B, L]`` of the past.
        to: ``[B]`` places of what it is compared with.

    Returns:
        ``[B, L]``, 0 where a vector is missing, and ``[B, L]`` bool where both vectors are there.

    Cost: the past's vectors are read once a context, not once a row.
    """
    batch = seen.batch
    past = seen.content[batch.past]  # [C, L, D]
    cosines = torch.einsum("bld,bd->bl", past[batch.context], seen.content[to])
    both = seen.there & batch.there[places] & batch.there[to].unsqueeze(1)
    return cosines * both, both
