"""Log-sum-exp over negatives, in two forms with equal values and gradients: one matrix, or tiles of it.

``L_i = log sum over negatives j of exp(f(q_i . c_j))`` with ``f(s) = scale * s`` (InfoNCE) or
``f(s) = gamma * relu(s + m) * (s - m)`` (the negatives of circle loss, the first factor held fixed).

The tiled form holds one tile of similarities. While it goes over a row of tiles it keeps the running maximum,
the sum of exponentials, and their sum weighted with the candidates, ``sum_j p_ij f'(s_ij) c_j``: that is already
the gradient of the row (as attention computes its output, Milakov and Gimelshein 2018; Dao et al. 2022). Only
candidates that need a gradient are visited a second time, so a queue of past vectors costs no recomputation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from moonshelf.training.losses.relation import Relation

LOW = -1e30
Tile = tuple[int, int]
TILE: Tile = (1024, 2048)
"""Rows and columns of a tile: 8 MB of float32."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How a cosine becomes a logit: ``scale * s``, or with a margin ``scale * relu(s + margin) * (s - margin)``."""

    margin: float | None = None

    def __call__(self, cosine: Tensor, scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and their slope ``df/ds / scale`` where it is not 1 (the factor ``relu`` is held fixed)."""
        if self.margin is None:
            return cosine * scale, None
        slope = (cosine + self.margin).clamp_(min=0)
        return (cosine - self.margin).mul_(slope).mul_(scale), slope


def lse_full(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    scale: Tensor,
    limit: Tensor | None = None,
    curve: Curve | None = None,
) -> Tensor:
    """``[B]``; rows without a negative give ``LOW``. Cost: ``B x C`` numbers, several times over."""
    curve = curve or Curve()
    cosine = queries @ candidates.T
    negative = relation.negatives()
    if limit is not None:
        negative &= cosine.detach() <= limit[:, None]
    if curve.margin is None:
        logits = cosine * scale
    else:
        logits = scale * (cosine.detach() + curve.margin).clamp(min=0) * (cosine - curve.margin)
    return torch.logsumexp(logits.masked_fill(~negative, LOW), dim=1).clamp(min=LOW)


def lse_tiled(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    scale: Tensor,
    limit: Tensor | None = None,
    curve: Curve | None = None,
    tile: Tile = TILE,
) -> Tensor:
    """The same, ``tile[0] x tile[1]`` similarities at a time.

    Args:
        queries: ``[B, D]`` unit rows.
        candidates: ``[C, D]`` unit rows; without ``requires_grad`` they are visited once only.
        relation: of shape ``(B, C)``.
        scale: scalar tensor; gets a gradient.
        limit: ``[B]``, negatives more alike than this are left out (false-negative guard); no gradient.
        curve: how a cosine becomes a logit.
        tile: rows and columns of a tile.

    Cost: ``2 B C D`` multiply-adds forward, as many backward for candidates with gradient; memory
    ``B (D + 2)`` and three tiles.
    """
    out: Tensor = _Tiled.apply(queries, candidates, scale, relation, limit, curve or Curve(), tile)  # type: ignore[no-untyped-call]
    return out


def lse_over(tiled: bool | Tile) -> Callable[..., Tensor]:
    """The form to use: False full, True tiled, or tiles of this size."""
    if isinstance(tiled, tuple):
        return partial(lse_tiled, tile=tiled)
    return lse_tiled if tiled else lse_full


class Blocks:
    """The excluded pairs of a relation, looked up by tile."""

    def __init__(self, relation: Relation, tile: Tile) -> None:
        i, j = relation.excluded
        self._key = (i // tile[0]) * (relation.shape[1] // tile[1] + 1) + j // tile[1]
        self._key, order = torch.sort(self._key, stable=True)
        self._i, self._j = i[order], j[order]
        self._per_row = relation.shape[1] // tile[1] + 1
        self._tile = tile

    def of(self, row: int, column: int) -> tuple[Tensor, Tensor]:
        """Excluded (i, j) inside the tile that starts at (row, column), counted from its corner."""
        key = (row // self._tile[0]) * self._per_row + column // self._tile[1]
        bounds = torch.searchsorted(self._key, torch.tensor([key, key + 1], device=self._key.device))
        first, last = bounds.tolist()
        return self._i[first:last] - row, self._j[first:last] - column


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, queries, candidates, scale, relation, limit, curve, tile):  # type: ignore[no-untyped-def]
        blocks = Blocks(relation, tile)
        b, d = queries.shape
        lse = queries.new_full((b,), LOW)
        pull = queries.new_zeros(b, d)
        for row in range(0, b, tile[0]):
            q = queries[row : row + tile[0]]
            top = q.new_full((len(q),), LOW)
            mass, mean = q.new_zeros(len(q)), q.new_zeros(len(q), d)
            for column in range(0, len(candidates), tile[1]):
                c = candidates[column : column + tile[1]]
                logits, slope = _tile(q, c, scale, limit, row, column, blocks, curve)
                higher = torch.maximum(top, logits.amax(1))
                logits.sub_(higher[:, None]).exp_()
                fade = torch.exp(top - higher)
                mass = mass * fade + logits.sum(1)
                weighted = logits if slope is None else logits.mul_(slope)
                mean = torch.addmm(mean * fade[:, None], weighted, c)
                top = higher
            filled = mass > 0
            safe = torch.where(filled, mass, torch.ones_like(mass))
            lse[row : row + tile[0]] = torch.where(filled, top + safe.log(), top.new_full((), LOW))
            pull[row : row + tile[0]] = mean / safe[:, None]
        ctx.save_for_backward(queries, candidates, scale, lse, pull)
        ctx.blocks, ctx.limit, ctx.curve, ctx.tile = blocks, limit, curve, tile
        return lse

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        queries, candidates, scale, lse, pull = ctx.saved_tensors
        tile, weight = ctx.tile, gradient * scale
        d_queries = d_candidates = d_scale = None
        if ctx.needs_input_grad[0]:
            d_queries = weight[:, None] * pull
        if ctx.needs_input_grad[1]:
            d_candidates = torch.zeros_like(candidates)
            for row in range(0, len(queries), tile[0]):
                rows = slice(row, row + tile[0])
                q = queries[rows]
                for column in range(0, len(candidates), tile[1]):
                    c = candidates[column : column + tile[1]]
                    p, slope = _tile(q, c, scale, ctx.limit, row, column, ctx.blocks, ctx.curve)
                    p.sub_(lse[rows, None]).exp_()
                    if slope is not None:
                        p.mul_(slope)
                    d_candidates[column : column + tile[1]].addmm_(p.T, q * weight[rows, None])
        if ctx.needs_input_grad[2]:
            if ctx.curve.margin is None:
                d_scale = (gradient * (queries * pull).sum(1)).sum()
            else:  # f = scale * a (s - m): the sum over j of p a (s - m)
                raise NotImplementedError("the scale of circle loss is a constant")
        return d_queries, d_candidates, d_scale, None, None, None, None


def _tile(  # type: ignore[no-untyped-def]
    q: Tensor,
    c: Tensor,
    scale: Tensor,
    limit: Tensor | None,
    row: int,
    column: int,
    blocks: Blocks,
    curve: Curve,
):
    """Logits of one tile, -inf where a pair is no negative, and their slope."""
    cosine = q @ c.T
    out = None if limit is None else cosine > limit[row : row + len(q), None]
    logits, slope = curve(cosine, scale)
    if out is not None:
        logits.masked_fill_(out, float("-inf"))
    i, j = blocks.of(row, column)
    logits[i, j] = float("-inf")
    return logits, slope
