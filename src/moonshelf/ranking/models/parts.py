"""What every interest model gets, and the small pieces that several of them use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.ranking.batches import ClickBatch

NUMBERS = 1_000_000
"""Of content vectors held at a time in a search: 4 MB."""
MOST = 50
"""Entries of a long past that are looked at closely, as in SIM and MUSE."""


class Seen(NamedTuple):
    """A batch with its embeddings.

    Attributes:
        every: ``[V, K]`` id and feature embedding of each distinct product and query.
        content: ``[V, D]`` unit content vectors, zero where there is none; D = 0 without content.
        batch: places of targets and pasts among the V, masks.
        targets: ``[B, K]``, rows of ``every`` taken out once: each time costs ``O(V K)`` in the backward pass.
    """

    every: Tensor
    content: Tensor
    batch: ClickBatch
    targets: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """``[B, K]``."""
        return self.every[self.batch.target] if self.targets is None else self.targets

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


@torch.no_grad()
def similarity(seen: Seen, places: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of each row's past with one thing a row. Content vectors are given, so nothing has a gradient.

    Args:
        places: ``[B, L]`` of the past.
        to: ``[B]`` places of what it is compared with.

    Returns:
        ``[B, L]``, 0 where a vector is missing, and ``[B, L]`` bool where both vectors are there.

    Cost: the past's vectors are read once a context, not once a row; ``NUMBERS`` numbers of them are held at a time.
    """
    batch, content = seen.batch, seen.content
    wanted, length = content[to], places.shape[1]
    cosines = content.new_zeros(len(to), length)
    order = torch.argsort(batch.context, stable=True)
    count = torch.bincount(batch.context, minlength=len(batch.past))
    begin = count.cumsum(0) - count
    contexts = torch.argsort(count)  # those with as many rows as another stand together: little is padded
    for part in torch.split(contexts, max(1, NUMBERS // max(1, length * content.shape[1]))):
        slot = torch.arange(int(count[part].max()), device=to.device)
        own = slot < count[part].unsqueeze(1)  # [c, n]
        row = order[(begin[part].unsqueeze(1) + slot).clamp(max=len(to) - 1)]
        past = F.embedding(batch.past[part], content)  # [c, L, D]
        found = torch.bmm(wanted[row], past.transpose(1, 2))
        cosines[row[own]] = found[own].to(cosines.dtype)
    both = seen.there & batch.there[places] & batch.there[to].unsqueeze(1)
    return cosines * both, both


def best(
    cosines: Tensor, both: Tensor, places: Tensor, there: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The ``most`` entries of a long past that are most alike, MUSE's search (2512.07216); a short past as it is.

    Entries without a similarity come behind those with one, the newest first.

    Returns:
        cosines, both, places, there, ``[B, min(L, most)]`` each, in no order.
    """
    length = places.shape[1]
    if length <= most:
        return cosines, both, places, there
    newest = torch.arange(length, device=places.device) / length - 3  # in [-3, -2): below any cosine
    score = torch.where(both, cosines, newest.to(cosines.dtype)).masked_fill(~there, float("-inf"))
    at = score.topk(most, dim=1, sorted=False).indices
    return cosines.gather(1, at), both.gather(1, at), places.gather(1, at), there.gather(1, at)
