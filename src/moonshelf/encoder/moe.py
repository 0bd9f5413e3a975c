"""Mixture of experts in place of a feed-forward block: every token goes to the few experts that its router picks.

After MOON2.0 (2511.12449, modality-driven MoE): ``G = softmax(W_g h)``, the ``top_k`` largest are kept and divided by
their sum, ``out = sum over kept z of G~_z f_z(h)``. Number of experts, ``top_k`` and which layers are not known: ours.
What the router does with each row leaves beside the output, as the weights of the alignment objectives hang on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ExpertFeedForward(nn.Module):
    """``experts`` two-layer networks, ``top_k`` of them for each token.

    Args:
        width: of a token.
        hidden: of each expert; a token meets ``top_k * hidden`` of them.
        experts: Z, at least ``top_k``.
        top_k: experts a token.
        guided: two more experts, for the tokens of a product's category and for those of its attributes, which go there
            and nowhere else (MOON 2511.11305's predecessor sends them so; whether they meet routed experts as well is
            not known: ours do not). They count neither in routing nor in balance.

    Cost: ``4 * width * hidden * top_k`` FLOPs a real token; padding costs nothing, unlike in a dense block.
    """

    def __init__(self, width: int, hidden: int, experts: int, top_k: int, *, guided: bool = False) -> None:
        super().__init__()
        if not 1 <= top_k <= experts:
            raise ValueError(f"top_k is {top_k}, but there are {experts} experts")
        self.experts, self.top_k, self.guided = experts, top_k, guided
        self.router = nn.Linear(width, experts, bias=False)
        experts += 2 if guided else 0
        self.up = nn.Parameter(torch.empty(experts, hidden, width))
        self.up_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.down = nn.Parameter(torch.zeros(experts, width, hidden))  # an identity block at the start
        self.down_bias = nn.Parameter(torch.zeros(experts, width))
        nn.init.normal_(self.router.weight, std=0.02)  # near even: no modality starts with experts of its own
        for z in range(experts):
            nn.init.kaiming_uniform_(self.up[z], a=5**0.5)

    @torch.no_grad()
    def upcycle(self, up: nn.Linear, down: nn.Linear) -> None:
        """Every expert a copy of a dense block (Komatsuzaki et al. 2023): the same function at the start.

        They part ways as the router, which starts at random, sends them other tokens.
        """
        self.up.copy_(up.weight.expand_as(self.up))
        self.up_bias.copy_(up.bias.expand_as(self.up_bias))
        self.down.copy_(down.weight.expand_as(self.down))
        self.down_bias.copy_(down.bias.expand_as(self.down_bias))

    def forward(self, h: Tensor, mask: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens through their experts.

        Args:
            h: ``[B, T, D]``.
            mask: ``[B, T]`` True at real tokens; the others come back as zeros.
            guide: ``[B, T]`` 1 at tokens of the category, 2 at those of attributes, else 0; None: all 0.

        Returns:
            ``[B, T, D]``, and ``[B, 2, Z]``: means over a row's tokens of ``G`` and of the kept ``G~``, both with
            gradient; each sums to 1 (0 in a row without tokens).
        """
        laid = torch.zeros_like(h)
        if self.guided and guide is not None:
            for kind in (1, 2):
                own = mask & (guide == kind)
                z = self.experts + kind - 1
                laid = laid.masked_scatter(own.unsqueeze(-1), self._expert(z, h[own]).to(h.dtype))
            mask = mask & (guide == 0)
        tokens = h[mask]
        exact = torch.promote_types(tokens.dtype, torch.float32)  # under bf16 two chances could tie
        chance = F.softmax(self.router(tokens), dim=-1, dtype=exact)
        best, chosen = chance.topk(self.top_k, dim=-1)
        share = best / best.sum(-1, keepdim=True)
        kept = torch.zeros_like(chance).scatter(1, chosen, share)
        out = torch.zeros_like(tokens)
        for z in range(self.experts):
            rows, at = torch.nonzero(chosen == z, as_tuple=True)
            if len(rows):
                own = self._expert(z, tokens[rows])
                out = out.index_add(0, rows, (own * share[rows, at, None]).to(out.dtype))
        laid = laid.masked_scatter(mask.unsqueeze(-1), out)
        return laid, self._by_row(torch.stack((chance, kept), dim=1), mask)

    def _expert(self, z: int, tokens: Tensor) -> Tensor:
        hidden = F.gelu(F.linear(tokens, self.up[z], self.up_bias[z]))
        return F.linear(hidden, self.down[z], self.down_bias[z])

    @staticmethod
    def _by_row(routed: Tensor, mask: Tensor) -> Tensor:
        """``[N, 2, Z]`` of the real tokens to means of rows ``[B, 2, Z]``."""
        row = torch.nonzero(mask)[:, 0]
        total = routed.new_zeros(len(mask), *routed.shape[1:]).index_add(0, row, routed)
        return total / mask.sum(1).clamp(min=1)[:, None, None]
