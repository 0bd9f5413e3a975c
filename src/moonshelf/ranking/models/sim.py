"""Search-based interest model (SIM, Pi et al. 2020, CIKM): first find the entries that matter, then weigh those."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from moonshelf.ranking.models.din import Din
from moonshelf.ranking.models.parts import Seen, similarity

Find = Literal["hard", "soft", "content"]


class Sim(nn.Module):
    """The ``most`` best entries of a long past, weighed by a :class:`Din`.

    ``hard``: entries of the target's category, newest first. ``soft``: by inner product of the id embeddings.
    ``content``: by cosine of the content vectors (MUSE's search, 2512.07216). What is chosen has no gradient.

    Args:
        width: K.
        find: see above.
        most: entries kept.
        category: column of ``item_columns`` that ``hard`` looks at; -1: there is none, and the newest are taken.

    Cost: a sort of L numbers a row; the network then meets ``most`` entries, however long the past is.
    """

    def __init__(self, width: int, find: Find = "hard", most: int = 50, category: int = 0) -> None:
        super().__init__()
        self.width, self.find, self.most, self.category = width, find, most, category
        self.weigh = Din(width)

    @torch.no_grad()
    def rank(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """``[B, L]``: how much each entry is wanted, and whether it may be taken at all."""
        batch, places, there = seen.batch, seen.places, seen.there
        newest = torch.arange(places.shape[1], device=places.device).float().expand(places.shape)
        if self.find == "hard":
            if self.category < 0 or not batch.item_columns.shape[1]:
                return newest, there
            kind = batch.item_columns[:, self.category]
            return newest, there & (kind[places] == kind[batch.target].unsqueeze(1)) & (kind[places] > 0)
        if self.find == "content":
            return similarity(seen, places, batch.target)
        return torch.einsum("blk,bk->bl", seen.every[places], seen.target), there

    def forward(self, seen: Seen) -> Tensor:
        """``[B, width]``."""
        score, may = self.rank(seen)
        most = min(self.most, score.shape[1])
        chosen = score.masked_fill(~may, float("-inf")).topk(most, dim=1).indices
        return self.weigh.pooled(seen, seen.places.gather(1, chosen), may.gather(1, chosen))
