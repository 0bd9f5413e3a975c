"""Circle loss: every similarity is pulled as strongly as it is far from where it should be."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses.contrastive import best_of, check_shape, positive_cosines
from moonshelf.training.losses.lse import LOW, Curve, Tile, lse_over
from moonshelf.training.losses.relation import Relation


def circle_loss(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    *,
    gamma: float = 64.0,
    margin: float = 0.25,
    bank: Tensor | None = None,
    weights: Tensor | None = None,
    guard: float | None = None,
    tiled: bool | Tile = False,
) -> Tensor:
    """``L_i = log(1 + sum_n exp(gamma a_n (s_n - m)) * sum_p exp(-gamma a_p (s_p - (1 - m))))``.

    ``a_p = relu(1 + m - s_p)`` and ``a_n = relu(s_n + m)`` are held fixed (Sun et al. 2020, equation 4-6). MOON
    (2511.11305) is reported to use it on purchases; its ``m`` and ``gamma`` are unknown, ours are Sun's.

    Use it on clean pairs with many negatives: positives that are close already stop pulling. On noisy clicks a
    positive that will never fit pulls the hardest: prefer ``info_nce`` there.

    Args:
        queries, candidates, relation, bank, weights, guard, tiled: as in ``info_nce``.
        gamma: sharpness.
        margin: ``m`` in (0, 1): positives are to reach ``1 - m``, negatives to stay below ``m``.

    Returns:
        Weighted mean over the queries that have a positive and a negative; zero (with gradient) if none has.
    """
    with torch.autocast(queries.device.type, enabled=False):
        dtype = torch.promote_types(queries.dtype, torch.float32)
        a, b = F.normalize(queries.to(dtype), dim=-1), F.normalize(candidates.to(dtype), dim=-1)
        past = None if bank is None else F.normalize(bank.detach().to(dtype), dim=-1)
        check_shape(a, b, past, relation)
        i, cosine = positive_cosines(a, b, past, relation)
        limit = None if guard is None else best_of(cosine.detach(), i, len(a)) + guard
        sharp, curve = torch.tensor(gamma, dtype=dtype, device=a.device), Curve(margin)
        lse = lse_over(tiled)
        wrong = lse(a, b, relation.columns(0, len(b)), sharp, limit, curve)
        if past is not None and len(past):
            rest = relation.columns(len(b), relation.shape[1])
            wrong = torch.logaddexp(wrong, lse(a, past, rest, sharp, limit, curve))
        pull = -gamma * (1 + margin - cosine.detach()).clamp(min=0) * (cosine - (1 - margin))
        top = best_of(pull.detach(), i, len(a))
        counted = (wrong > LOW / 2) & torch.isfinite(top)
        top = torch.where(torch.isfinite(top), top, torch.zeros_like(top))
        mass = pull.new_zeros(len(a)).index_add(0, i, torch.exp(pull - top[i]))
        right = top + torch.where(counted, mass, torch.ones_like(mass)).log()
        row = F.softplus(torch.where(counted, wrong + right, torch.zeros_like(wrong)))
        weight = counted.to(dtype) * (1 if weights is None else weights.to(dtype))
        total = weight.sum()
        return (weight * row).sum() / torch.where(total > 0, total, torch.ones_like(total))
