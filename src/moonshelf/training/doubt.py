"""The dynamic sample filter: pairs that the encoder does not believe count less (MOON2.0, 2511.12449, 2.5).

``phi = sigmoid(kappa (s_qp - s_qn - margin))`` with the cosine to the right product and to wrong ones, and a margin
that decays while training goes on. Below a threshold of .6 a pair counts phi, above it 1: doubted, not dropped. The
weight, ``kappa``, the decay, and that ``s_qn`` is the mean over the negatives of the batch are our design: the paper's
negative is one product that was shown and passed over, which a shop without impressions does not have.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses import Relation
from moonshelf.training.losses.contrastive import mean_negative

BINS = 10


@torch.no_grad()
def confidence(queries: Tensor, products: Tensor, led: Relation, kappa: float, margin: float) -> Tensor:
    """phi ``[B]``; a query with several right products is believed by the best of them, one without any is at 0.

    Args:
        queries: ``[B, D]``, any length.
        products: ``[P, D]``.
        led: of shape ``(B, P)``.

    Cost: no ``B x P`` matrix.
    """
    a, b = F.normalize(queries.float(), dim=-1), F.normalize(products.float(), dim=-1)
    i, j = led.positive
    right = a.new_full((len(a),), -1.0).scatter_reduce(0, i, (a[i] * b[j]).sum(-1), "amax")
    phi = torch.sigmoid(kappa * (right - mean_negative(a, b, None, led) - margin))
    return torch.where(torch.bincount(i, minlength=len(a)) > 0, phi, torch.zeros_like(phi))


def weights_of(phi: Tensor, threshold: float) -> Tensor:
    """1 from the threshold on, phi below it."""
    return torch.where(phi >= threshold, torch.ones_like(phi), phi)


def logged(phi: Tensor, weights: Tensor) -> dict[str, float]:
    """For the run log: share that is doubted, mean weight, and how many fall into each tenth of phi."""
    counts = torch.bincount((phi * BINS).long().clamp(max=BINS - 1), minlength=BINS)
    bins = {f"phi_{k}": float(n) for k, n in enumerate(counts.tolist())}
    return {"doubted": float((weights < 1).float().mean()), "pair_weight": float(weights.mean()), **bins}
