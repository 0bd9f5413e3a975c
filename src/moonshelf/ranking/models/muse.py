"""MUSE's interest unit (2512.07216, Apache-2.0 code at alimama-tech/MUSE): SimTier and similarity-aware attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moonshelf.ranking.models.parts import MOST, Seen, best, masked_softmax, similarity, started

TIERS = 22  # slots of .1 over [-1, 1], the last for 1 itself and one to spare, as published


class SimTier(nn.Module):
    """How many past entries are how much alike the target: ``log(1 + count)`` of each tier times a learned vector.

    Args:
        inner: numbers a tier is turned into; their sum over tiers is what leaves.
    """

    def __init__(self, inner: int = 16) -> None:
        super().__init__()
        self.width = TIERS + inner
        self.tiers = nn.Linear(TIERS, inner, bias=False)
        started(self)

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``: the counts themselves, then their mixture."""
        return self.counted(*similarity(seen, seen.places, seen.batch.target))

    def counted(self, cosines: Tensor, both: Tensor) -> Tensor:
        """The same of similarities that are known already, ``[B, L]`` each."""
        tier = (
            ((cosines + 1) * 10 + 1e-4).floor().long().clamp(0, TIERS - 1)
        )  # cosines are known to some 1e-7
        counts = cosines.new_zeros(len(cosines), TIERS).scatter_add_(1, tier, both.to(cosines.dtype))
        told = torch.log1p(counts)
        return torch.cat((told, self.tiers(told)), dim=1)


class SimilarityAttention(nn.Module):
    """SA-TA: attention over the past whose logits know the content's similarity.

    ``b1 dot + b2 cos / a + b3 dot cos / a`` with ``dot`` of id embeddings (scaled), ``cos`` of content vectors and
    learned ``a, b1, b2, b3``; softmax; values are id embeddings. Of a past longer than ``MOST`` the entries most alike.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.mix = nn.Parameter(torch.tensor([1.0, 1.0, 1.0]))
        self.heat = nn.Parameter(torch.tensor(0.1))
        started(self)

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``."""
        return self.attended(seen, *similarity(seen, seen.places, seen.batch.target))

    def attended(self, seen: Seen, cosines: Tensor, both: Tensor) -> Tensor:
        """The same with similarities that are known already, ``[B, L]`` each."""
        cosines, _, places, there = best(cosines, both, seen.places, seen.there, MOST)
        cosines = cosines / self.heat.clamp(min=1e-2)
        dot = (
            torch.einsum("blk,bk->bl", self.key(seen.every)[places], self.query(seen.target))
            / self.width**0.5
        )
        logits = self.mix[0] * dot + self.mix[1] * cosines + self.mix[2] * dot * cosines
        return torch.einsum("bl,blk->bk", masked_softmax(logits, there), seen.every[places])


class Muse(nn.Module):
    """Both units side by side: counts of the whole past, attention over what is most alike; one search for both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tier, self.attend = SimTier(), SimilarityAttention(width)
        self.width = self.tier.width + width

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``."""
        found = similarity(seen, seen.places, seen.batch.target)
        return torch.cat((self.tier.counted(*found), self.attend.attended(seen, *found)), dim=1)
