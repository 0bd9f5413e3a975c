"""The pairwise sigmoid loss of SigLIP: every pair on its own, no normalisation over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses.lse import TILE, Blocks, Tile
from moonshelf.training.losses.parts import units
from moonshelf.training.losses.relation import Relation


def sigmoid_loss(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    scale: Tensor | float,
    bias: Tensor | float,
    *,
    weights: Tensor | None = None,
    tiled: bool | Tile = False,
) -> Tensor:
    """``-sum_ij w_i log sigmoid(z_ij (scale cos_ij + bias)) / sum_i w_i``, z = 1 for positives, -1 for negatives.

    SigLIP (Zhai et al. 2023); SigLIP starts at ``scale = 10, bias = -10``. Pairs that are neither take no part.
    Use it when a query has many positives, or batches are small; it has no temperature that the batch size shifts.

    Args:
        queries, candidates, relation, weights, tiled: as in ``info_nce``.
        scale, bias: scalars; tensors are learned.

    Cost: as ``info_nce``; the tiled form computes its gradients on the way forward, nothing twice.
    """
    with torch.autocast(queries.device.type, enabled=False):
        a, b, _ = units(queries, candidates, None, relation)
        scale, bias = (torch.as_tensor(x, dtype=a.dtype, device=a.device) for x in (scale, bias))
        weight = a.new_ones(len(a)) if weights is None else weights.to(a)
        i, j = relation.positive
        right = (weight[i] * F.softplus(-(scale * (a[i] * b[j]).sum(-1) + bias))).sum()
        if tiled:
            wrong: Tensor = _Tiled.apply(
                a, b, scale, bias, weight, relation, TILE if tiled is True else tiled
            )  # type: ignore[no-untyped-call]
        else:
            each = F.softplus(scale * (a @ b.T) + bias)
            wrong = (weight[:, None] * each.masked_fill(~relation.negatives(), 0)).sum()
        return (right + wrong) / weight.sum().clamp(min=torch.finfo(a.dtype).tiny)


class _Tiled(torch.autograd.Function):
    """Sum over negatives of ``w_i softplus(scale cos_ij + bias)``."""

    @staticmethod
    def forward(ctx, a, b, scale, bias, weight, relation, tile):  # type: ignore[no-untyped-def]
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
        return *(gradient * g for g in ctx.saved_tensors), None, None, None
