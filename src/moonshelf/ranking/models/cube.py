"""CUBE, the content-based user behaviour extractor (MOON 2511.11305, 1.6 and its figure 5).

::

    s_b = cos(r_b, r_t)                        past entry b against the target, content vectors
    ID interest      = attention(e_t over e_b)
    fusion interest  e' = sum_b W(s_b) e_b     similarity weighs, id embeddings are weighed
    content interest r' = sum_b W(s_b) r_b     the same weights on content vectors
    out = [ID interest, e', {s_b}, r', r_t, s_tq, r_q]

The past holds products *and* queries: text and photo live in one space. Of a past longer than ``MOST`` entries those
most alike are weighed; ``{s_b}`` is read whole. Open in the paper, options here: what W is,
whether entries are weighed by the target, by the query, or by both, and how the list ``{s_b}`` is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from moonshelf.ranking.models.din import Din
from moonshelf.ranking.models.muse import TIERS, SimTier
from moonshelf.ranking.models.parts import MOST, Seen, best, masked_softmax, similarity, started

Branch = Literal["id", "fusion", "content", "similarities", "vectors", "query"]
BRANCHES: tuple[Branch, ...] = ("id", "fusion", "content", "similarities", "vectors", "query")


@dataclass(frozen=True, slots=True, kw_only=True)
class CubeConfig:
    """Which branches there are, and the open questions (our defaults).

    Attributes:
        branches: ``id`` the ID interest, ``fusion`` e', ``content`` r', ``similarities`` {s_b}, ``vectors`` r_t,
            ``query`` s_tq and r_q.
        weights: W: softmax over the past, or the cosines as they are.
        against: what an entry's similarity is taken to: the target, the row's query, or the mean of both.
        read: {s_b} as a list, newest first, or as counts of tiers (SimTier), which forget the order.
        inner: numbers that a content vector is brought down to before it goes on.
        heat: temperature of the softmax at the start; it is learned.
    """

    branches: tuple[Branch, ...] = BRANCHES
    weights: Literal["softmax", "raw"] = "softmax"
    against: Literal["target", "query", "both"] = "target"
    read: Literal["list", "tiers"] = "tiers"
    inner: int = 16
    heat: float = 0.1


class Cube(nn.Module):
    """See the module.

    Args:
        width: K of an id embedding.
        dim: D of a content vector.
        longest: L at most, the length of the list {s_b}.
        config: see :class:`CubeConfig`.
    """

    def __init__(self, width: int, dim: int, longest: int, config: CubeConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CubeConfig()
        self.longest = longest
        has = set(config.branches)
        self.heat = nn.Parameter(torch.tensor(config.heat))
        self.interest = Din(width) if "id" in has else None
        self.down = nn.Linear(dim, config.inner, bias=False)
        self.tiers = SimTier(config.inner) if "similarities" in has and config.read == "tiers" else None
        parts = {
            "id": width,
            "fusion": width,
            "content": config.inner,
            "similarities": longest if config.read == "list" else TIERS + config.inner,
            "vectors": config.inner,
            "query": config.inner + 1,
        }
        self.width = sum(parts[name] for name in BRANCHES if name in has)
        started(self.down)

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``: the branches in the order of ``BRANCHES``."""
        batch, config = seen.batch, self.config
        has, places = set(config.branches), seen.places
        to_target, with_target = similarity(seen, places, batch.target)
        cosines, both = to_target, with_target
        if config.against != "target":
            to_query, with_query = similarity(seen, places, batch.asked)
            if config.against == "query":
                cosines, both = to_query, with_query
            else:  # a row without a query has the target alone
                count = (with_target.float() + with_query.float()).clamp(min=1)
                cosines, both = (to_target + to_query) / count, with_target | with_query
        listed = cosines * both
        cosines, both, places, there = best(cosines, both, places, seen.there, MOST)
        if config.weights == "softmax":
            weights = masked_softmax(cosines / self.heat.clamp(min=1e-2), both)
        else:
            weights = cosines * both
        out: list[Tensor] = []
        if self.interest is not None:
            out.append(self.interest.pooled(seen, places, there))
        if "fusion" in has:
            out.append(torch.einsum("bl,blk->bk", weights, seen.every[places]))
        small = self.down(seen.content)  # [V, inner]: once a distinct entry, and the same for all branches
        if "content" in has:
            out.append(torch.einsum("bl,bli->bi", weights, small[places]))
        if "similarities" in has:
            out.append(
                self.tiers.counted(to_target, with_target)
                if self.tiers is not None
                else self._newest_first(listed, seen.there)
            )
        if "vectors" in has:
            out.append(small[batch.target])
        if "query" in has:
            matched = (seen.content[batch.target] * seen.content[batch.asked]).sum(1, keepdim=True)
            out += [matched, small[batch.asked]]
        return torch.cat(out, dim=1)

    def _newest_first(self, cosines: Tensor, there: Tensor) -> Tensor:
        """``[B, longest]``: the newest entry at place 0, zeros behind the oldest."""
        slot = there.sum(1, keepdim=True) - 1 - torch.arange(cosines.shape[1], device=cosines.device)
        kept = there & (slot >= 0) & (slot < self.longest)
        laid = cosines.new_zeros(len(cosines), self.longest)
        return laid.scatter_add_(1, slot.clamp(0, self.longest - 1), cosines * kept)
