"""Circle loss: every similarity is pulled as strongly as it is far from where it should be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses.lse import LOW, Tile
from moonshelf.training.losses.parts import best_of, over_negatives, positive_cosines, units, weighted_mean
from moonshelf.training.losses.relation import Relation


def circle_loss(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    *,
    gamma: Tensor | float = 64.0,
    margin: float = 0.25,
    bank: Tensor | None = None,
    weights: Tensor | None = None,
    guard: float | None = None,
    tiled: bool | Tile | None = None,
) -> Tensor:
    """``L_i = log(1 + sum_n exp(gamma a_n (s_n - m)) * sum_p exp(-gamma a_p (s_p - (1 - m))))``.

    ``a_p = relu(1 + m - s_p)`` and ``a_n = relu(s_n + m)`` are held fixed (Sun et al. 2020, equation 4-6). MOON
    (2511.11305) is reported to use it on purchases; its ``m`` and ``gamma`` are unknown, ours are Sun's.

    Use it on clean pairs with many negatives: positives that are close already stop pulling. On noisy clicks a
    positive that will never fit pulls the hardest: prefer ``info_nce`` there.

    Args:
        queries, candidates, relation, bank, weights, guard, tiled: as in ``info_nce``.
        gamma: sharpness; a tensor is learned.
        margin: ``m`` in (0, 1): positives are to reach ``1 - m``, negatives to stay below ``m``.

    Returns:
        Weighted mean over the queries that have a positive and a negative; zero (with gradient) if none has.

    Cost: as ``info_nce``.
    """
    with torch.autocast(queries.device.type, enabled=False):
        a, b, past = units(queries, candidates, bank, relation)
        gamma = torch.as_tensor(gamma, dtype=a.dtype, device=a.device)
        i, cosine = positive_cosines(a, b, past, relation)
        limit = None if guard is None else best_of(cosine.detach(), i, len(a)) + guard
        wrong = over_negatives(a, b, past, relation, gamma, limit=limit, tiled=tiled, margin=margin)
        pull = -gamma * (1 + margin - cosine.detach()).clamp(min=0) * (cosine - (1 - margin))
        top = best_of(pull.detach(), i, len(a))
        counted = (wrong > LOW / 2) & torch.isfinite(top)
        top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
        mass = pull.new_zeros(len(a)).index_add(0, i, torch.exp(pull - top[i]))
        right = top + torch.where(counted, mass, torch.ones_like(mass)).log()
        row = F.softplus(torch.where(counted, wrong + right, torch.zeros_like(wrong)))
        return weighted_mean(row, counted, weights)
