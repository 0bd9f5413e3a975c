"""Small networks on content vectors inside the click model: an adapter that learns from clicks, and the debiasing
one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """``v' = unit(v + W2 relu(W1 v))``; ``W2`` starts at zero, so that ``v' = v`` before the first step.

    As an *adapter* it lets clicks move vectors that stay frozen in the shelf (our design). As the *debiasing
    network* of "Visual Encoding and Debiasing for CTR Prediction" (arXiv 2205.04168, step 3; the paper's formulas
    are not known, the form is ours) it learns to take out of a product's vector what says how often the product was
    shown.

    Args:
        dim: D of a content vector.
        hidden: units; the network has ``2 D hidden`` weights.

    Rows that are all zeros (no vector) stay so.
    """

    def __init__(self, dim: int, hidden: int = 64) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, hidden)
        self.outer = nn.Linear(hidden, dim, bias=False)
        nn.init.xavier_normal_(self.inner.weight)
        nn.init.zeros_(self.inner.bias)
        nn.init.zeros_(self.outer.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """``[N, D]`` unit rows of ``[N, D]`` unit rows."""
        moved = vectors + self.outer(torch.relu(self.inner(vectors)))
        there = (vectors != 0).any(dim=1, keepdim=True)
        return F.normalize(moved, dim=1) * there


class Examination(nn.Module):
    """How likely a shopper looks at a place at all: the position-based model (Craswell et al. 2008, WSDM).

    ``P(click at k) = e_k P(click | seen)`` with ``e_1 = 1``, ``log e_k = -softplus(r_k)``; as PAL (Guo et al. 2019,
    RecSys) learns it, together with the click model. The relevance part alone then says what a product would get if
    it were looked at, wherever it happened to be shown.

    Args:
        places: positions beyond are taken for the last one.
    """

    def __init__(self, places: int = 64) -> None:
        super().__init__()
        self.places = places
        self.raw = nn.Parameter(torch.full((places,), -1.0))  # e = .73 at the start

    def log_share(self, position: Tensor) -> Tensor:
        """``[B]`` log e of positions from 1; 0 (not known): looked at."""
        at = position.clamp(0, self.places)
        found = -F.softplus(self.raw[(at - 1).clamp(min=0)])
        return torch.where(at >= 2, found, torch.zeros_like(found))

    def forward(self, logits: Tensor, position: Tensor) -> Tensor:
        """Logits ``[B, labels]`` of a click at a position from logits of a click when looked at."""
        log_p = (self.log_share(position).unsqueeze(1) + F.logsigmoid(logits)).clamp(max=-1e-7)
        placed = log_p - torch.log(-torch.expm1(log_p))
        return torch.where(position.unsqueeze(1) >= 2, placed, logits)

    def curve(self, n: int = 10) -> list[float]:
        """e_1 to e_n."""
        with torch.no_grad():
            return [float(x) for x in self.log_share(torch.arange(1, n + 1)).exp()]
