"""The pairwise sigmoid loss of SigLIP: every pair on its own, no normalisation over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses.lse import Blocks, Tile, tile_for
from moonshelf.training.losses.parts import best_of, positive_cosines, units
from moonshelf.training.losses.relation import Relation


def sigmoid_loss(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    bank: Tensor | None = None,
    weights: Tensor | None = None,
    guard: float | None = None,
    tiled: bool | Tile | None = None,
) -> Tensor:
    """``-sum_ij w_i log sigmoid(z_ij (scale cos_ij + bias)) / sum_i w_i``, z = 1 for positives, -1 for negatives.

    SigLIP (Zhai et al. 2023); SigLIP starts at ``scale = 10, bias = -10``. Pairs that are neither take no part.
    Use it when a query has many positives, or batches are small; it has no temperature that the batch size shifts.
    Not to compare losses between batch sizes: it is a sum over pairs, so more negatives make it larger.

    Args:
        queries, candidates, relation, bank, weights, guard, tiled: as in ``info_nce``.
        scale, bias: scalars; tensors are learned.

    Returns:
        The sum over pairs by the sum of weights, a scalar; queries without a pair add nothing.

    Cost: as ``info_nce``; the tiled form computes its gradients on the way forward, nothing twice.
    """
    with torch.autocast(queries.device.type, enabled=False):
        a, b, past = units(queries, candidates, bank, relation)
        scale, bias = (torch.as_tensor(x, dtype=a.dtype, device=a.device) for x in (scale, bias))
        weight = a.new_ones(len(a)) if weights is None else weights.to(a)
        i, cosine = positive_cosines(a, b, past, relation)
        right = (weight[i] * F.softplus(-(scale * cosine + bias))).sum()
        limit = None if guard is None else best_of(cosine.detach(), i, len(a)) + guard
        tile = tile_for(tiled, relation.shape)
        rows = b if past is None else torch.cat((b, past))
        if tile is not None:
            wrong: Tensor = _Tiled.apply(a, rows, scale, bias, weight, relation, limit, tile)  # type: ignore[no-untyped-call]
        else:
            cosines, negative = a @ rows.T, relation.negatives()
            if limit is not None:
                negative &= cosines.detach() <= limit[:, None]
            wrong = (weight[:, None] * F.softplus(scale * cosines + bias).masked_fill(~negative, 0)).sum()
        return (right + wrong) / weight.sum().clamp(min=torch.finfo(a.dtype).tiny)


class _Tiled(torch.autograd.Function):
    """Sum over negatives of ``w_i softplus(scale cos_ij + bias)``."""

    @staticmethod
    def forward(ctx, a, b, scale, bias, weight, relation, limit, tile):  # type: ignore[no-untyped-def]
        blocks, (rows, columns) = Blocks(relation, tile), tile
        da, db = torch.zeros_like(a), torch.zeros_like(b)
        total = d_scale = d_bias = a.new_zeros(())
        for row in range(0, len(a), rows):
            q, w = a[row : row + rows], weight[row : row + rows, None]
            for column in range(0, len(b), columns):
                c = b[column : column + columns]
                cosine = q @ c.T
                i, j = blocks.of(row, column)
                logits = cosine * scale + bias
                logits[i, j] = float("-inf")
                if limit is not None:
                    logits.masked_fill_(cosine > limit[row : row + rows, None], float("-inf"))
                total = total + (F.softplus(logits) * w).sum()
                slope = torch.sigmoid(logits).mul_(w)
                d_bias = d_bias + slope.sum()
                d_scale = d_scale + (slope * cosine).sum()
                da[row : row + rows].addmm_(slope, c)
                db[column : column + columns].addmm_(slope.T, q)
        ctx.save_for_backward(da.mul_(scale), db.mul_(scale), d_scale, d_bias)
        return total

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        return *(gradient * g for g in ctx.saved_tensors), None, None, None, None
