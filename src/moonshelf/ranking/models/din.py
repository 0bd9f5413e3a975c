"""Deep interest network (Zhou et al. 2018, KDD): a small network weighs each past entry against the target."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.ranking.models.parts import Seen, started
from moonshelf.ranking.models.weighing import weighed


class Din(nn.Module):
    """``sum_l a(q, k_l) k_l`` with ``a = MLP([q, k, q - k, q * k])``, weights as they come or through a softmax.

    The first layer is taken apart: ``W [q, k, q - k, q * k] = (W1 + W3) q + (W2 - W3) k + W4 (q * k)``. The first term
    is computed once a row, the others together: :mod:`~moonshelf.ranking.models.weighing`. Same numbers. W is learned
    as it stands: Adam moves ``W1 + W3`` and ``W2 - W3`` twice as far as one matrix in their place.

    Args:
        width: K of an entry.
        hidden: of the weighing network.
        softmax: normalise the weights; FuxiCTR and the paper do not.

    Cost: ``B L K H`` multiplications for the first hidden layer in place of ``4 B L K H``.
    """

    def __init__(self, width: int, hidden: tuple[int, ...] = (64, 32), *, softmax: bool = False) -> None:
        super().__init__()
        self.width, self.softmax = width, softmax
        self.first = nn.Linear(4 * width, hidden[0])
        rest: list[nn.Module] = []
        for a, b in zip(hidden, (*hidden[1:], 1), strict=True):
            rest += [nn.ReLU(), nn.Linear(a, b)]
        self.rest = nn.Sequential(*rest)
        started(self)

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``."""
        return self.pooled(seen, seen.places, seen.there)

    def pooled(self, seen: Seen, places: Tensor, there: Tensor) -> Tensor:
        """The same over chosen entries.

        Args:
            places: ``[B, L]`` of the entries.
            there: ``[B, L]`` bool.
        """
        target = seen.target
        w1, w2, w3, w4 = torch.split(self.first.weight, self.width, dim=1)
        first = F.linear(target, w1 + w3, self.first.bias), w2 - w3, w4
        layers = [
            p for layer in self.rest if isinstance(layer, nn.Linear) for p in (layer.weight, layer.bias)
        ]
        return weighed(seen.every, places, there, target, first, tuple(layers), softmax=self.softmax)


class MeanPast(nn.Module):
    """The mean of the past, whatever the target: what DIN is measured against."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``."""
        batch = seen.batch
        weight = batch.past_there / batch.past_there.sum(1, keepdim=True).clamp(min=1)
        mean = torch.einsum("cl,clk->ck", weight, seen.every[batch.past])
        return mean[batch.context]


class TargetAttention(nn.Module):
    """Scaled dot-product attention of the target over the past, several heads (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int = 4, inner: int = 64) -> None:
        super().__init__()
        self.width, self.heads = inner, heads
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        started(self)

    def forward(self, seen: Seen) -> Tensor:
        """``[B, inner]``; zeros for an empty past."""
        places, there = seen.places, seen.there
        b = len(places)

        def split(x: Tensor) -> Tensor:
            return x.view(b, -1, self.heads, self.width // self.heads).transpose(1, 2)

        q = split(self.query(seen.target).unsqueeze(1))
        k, v = split(self.key(seen.every)[places]), split(self.value(seen.every)[places])
        some = there.clone()
        some[:, 0] |= ~there.any(1)  # attention over nothing would be NaN
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=some[:, None, None, :])
        return out.transpose(1, 2).reshape(b, self.width) * there.any(1, keepdim=True)
