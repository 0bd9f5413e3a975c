"""A small bidirectional transformer over visual and text tokens, and the pooling behind it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.encoder.moe import ExpertFeedForward

VISUAL, TEXT = 0, 1
EXPANSION = 4


class FusionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward block (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

    Both residual branches start at zero, so a new block is the identity and an untrained encoder
    answers with its anchored tokens alone. Tokens have length 1, not sqrt(width), so the branches are
    divided by sqrt(width): Adam moves every weight by the learning rate, whatever the scale of the stream.

    With ``experts`` the feed-forward part is a mixture of them (``moe``), ``top_k`` a token.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        expansion: int = EXPANSION,
        experts: int = 0,
        top_k: int = 2,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.branch = width**-0.5
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        closed = [self.out]
        self.routed: ExpertFeedForward | None = None
        if experts:
            self.routed = ExpertFeedForward(width, expansion * width, experts, top_k, guided=guided)
        else:
            self.up = nn.Linear(width, expansion * width)
            self.down = nn.Linear(expansion * width, width)
            closed.append(self.down)
        for layer in closed:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, mask: Tensor, modality: Tensor, guide: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """``x [B, T, D]``, ``mask [B, T]`` True at real tokens, ``modality [T, D]`` added to attention's input.

        ``guide``: see ``ExpertFeedForward``.

        Returns:
            ``[B, T, D]``, and what the router did with each row (``ExpertFeedForward``), None without experts.
        """
        b, t, d = x.shape
        q, k, v = self._heads(x, modality)
        h = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        x = x + self.branch * self.out(h.transpose(1, 2).reshape(b, t, d))
        if self.routed is not None:
            out, routing = self.routed(self.norm2(x), mask, guide)
            return x + self.branch * out, routing
        return x + self.branch * self.down(F.gelu(self.up(self.norm2(x)))), None

    def _heads(self, x: Tensor, modality: Tensor) -> Tensor:
        """Queries, keys and values ``[3, B, heads, T, D / heads]``."""
        b, t, d = x.shape
        h = self.norm1(x) + modality
        split: Tensor = self.qkv(h).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return split

    def attention(self, x: Tensor, mask: Tensor, modality: Tensor) -> Tensor:
        """Who attends to whom in this block: ``[B, heads, T, T]``, rows sum to 1. For looking at, not for speed."""
        q, k, _ = self._heads(x, modality)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        shares: Tensor = scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(-1)
        return shares


def scatter_photos(tokens: Tensor, owner: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Lay the tokens of each row's photos side by side.

    Args:
        tokens: ``[N, G, D]``, N photos.
        owner: ``[N]`` row of each photo, ascending.
        size: number of rows B.

    Returns:
        ``[B, P * G, D]`` with P the largest number of photos of a row, and its mask ``[B, P * G]``.
    """
    n, g, d = tokens.shape
    counts = torch.bincount(owner, minlength=size)
    most = int(counts.max()) if n else 0
    first = torch.cumsum(counts, 0) - counts
    slot = torch.arange(n, device=owner.device) - first[owner]
    laid = tokens.new_zeros(size, most, g, d)
    laid[owner, slot] = tokens
    present = torch.arange(most, device=owner.device)[None] < counts[:, None]
    return laid.view(size, most * g, d), present.repeat_interleave(g, dim=1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x [B, T, D]`` over the tokens where ``mask [B, T]``; zero where a row has none."""
    keep = mask.unsqueeze(-1).to(x.dtype)
    return (x * keep).sum(1) / keep.sum(1).clamp(min=1)
