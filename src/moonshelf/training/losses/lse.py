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
FULL_UP_TO = 1 << 22
"""Similarities that are held as one matrix unless a form is asked for; the tiles win beyond it."""


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


@dataclass(frozen=True, slots=True)
class Negatives:
    """What the sum runs over and how.

    Attributes:
        relation: of the shape of queries and candidates.
        scale: scalar tensor; gets a gradient.
        limit: ``[B]``, negatives more alike than this are left out (false-negative guard); no gradient.
        curve: how a cosine becomes a logit.
    """

    relation: Relation
    scale: Tensor
    limit: Tensor | None = None
    curve: Curve = Curve()


def lse_full(queries: Tensor, candidates: Tensor, over: Negatives) -> Tensor:
    """``[B]``; rows without a negative give ``LOW``. Cost: ``B x C`` numbers, several times over."""
    cosine = queries @ candidates.T
    negative = over.relation.negatives()
    if over.limit is not None:
        negative &= cosine.detach() <= over.limit[:, None]
    logits, margin = over.scale * cosine, over.curve.margin
    if margin is not None:
        logits = over.scale * (cosine.detach() + margin).clamp(min=0) * (cosine - margin)
    return torch.logsumexp(logits.masked_fill(~negative, LOW), dim=1).clamp(min=LOW)


def lse_tiled(queries: Tensor, candidates: Tensor, over: Negatives, tile: Tile = TILE) -> Tensor:
    """The same, ``tile[0] x tile[1]`` similarities at a time.

    Args:
        queries: ``[B, D]`` unit rows.
        candidates: ``[C, D]`` unit rows; without ``requires_grad`` they are visited once only.
        tile: rows and columns of a tile.

    Cost: ``2 B C D`` multiply-adds forward, as many backward for candidates with gradient; memory
    ``B (D + 3)`` and three tiles.
    """
    out: Tensor = _Tiled.apply(queries, candidates, over.scale, over, tile)  # type: ignore[no-untyped-call]
    return out


def tile_for(tiled: bool | Tile | None, shape: tuple[int, int]) -> Tile | None:
    """The tile of the form to use, None for the full one.

    Args:
        tiled: False full, True tiled, a pair of numbers its rows and columns, None by size.
        shape: queries and candidates.
    """
    if isinstance(tiled, tuple):
        return tiled
    wanted = shape[0] * shape[1] > FULL_UP_TO if tiled is None else tiled
    return TILE if wanted else None


def lse_over(tiled: bool | Tile | None, shape: tuple[int, int]) -> Callable[..., Tensor]:
    """``lse_full`` or ``lse_tiled``, see ``tile_for``."""
    tile = tile_for(tiled, shape)
    return lse_full if tile is None else partial(lse_tiled, tile=tile)


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
    def forward(ctx, queries, candidates, scale, over, tile):  # type: ignore[no-untyped-def]
        blocks = Blocks(over.relation, tile)
        b, d = queries.shape
        lse, bend = queries.new_full((b,), LOW), queries.new_zeros(b)
        pull = queries.new_zeros(b, d)
        for row in range(0, b, tile[0]):
            rows = slice(row, row + tile[0])
            q = queries[rows]
            top = q.new_full((len(q),), LOW)
            mass, slopes, mean = q.new_zeros(len(q)), q.new_zeros(len(q)), q.new_zeros(len(q), d)
            for column in range(0, len(candidates), tile[1]):
                c = candidates[column : column + tile[1]]
                p, slope = _tile(q, c, over, row, column, blocks)
                higher = torch.maximum(top, p.amax(1))
                p.sub_(higher[:, None]).exp_()
                fade = torch.exp(top - higher)
                mass = mass * fade + p.sum(1)
                if slope is not None:
                    slopes = slopes * fade + p.mul_(slope).sum(1)
                mean = torch.addmm(mean * fade[:, None], p, c)
                top = higher
            filled = mass > 0
            safe = torch.where(filled, mass, torch.ones_like(mass))
            lse[rows] = torch.where(filled, top + safe.log(), top.new_full((), LOW))
            pull[rows], bend[rows] = mean / safe[:, None], slopes / safe
        ctx.save_for_backward(queries, candidates, lse, pull, bend)
        ctx.over, ctx.blocks, ctx.tile = over, blocks, tile
        return lse

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        queries, candidates, lse, pull, bend = ctx.saved_tensors
        tile, weight = ctx.tile, gradient * ctx.over.scale
        d_queries = d_candidates = d_scale = None
        if ctx.needs_input_grad[0]:
            d_queries = weight[:, None] * pull
        if ctx.needs_input_grad[1]:
            d_candidates = torch.zeros_like(candidates)
            for row in range(0, len(queries), tile[0]):
                rows = slice(row, row + tile[0])
                q = queries[rows]
                weighted = q * weight[rows, None]
                for column in range(0, len(candidates), tile[1]):
                    c = candidates[column : column + tile[1]]
                    p, slope = _tile(q, c, ctx.over, row, column, ctx.blocks)
                    p.sub_(lse[rows, None]).exp_()
                    if slope is not None:
                        p.mul_(slope)
                    d_candidates[column : column + tile[1]].addmm_(p.T, weighted)
        if ctx.needs_input_grad[2]:  # sum over j of p_ij f(s_ij) / scale, with f = scale a (s - m) or scale s
            margin = ctx.over.curve.margin or 0.0
            d_scale = (gradient * ((queries * pull).sum(1) - margin * bend)).sum()
        return d_queries, d_candidates, d_scale, None, None


def _tile(
    q: Tensor, c: Tensor, over: Negatives, row: int, column: int, blocks: Blocks
) -> tuple[Tensor, Tensor | None]:
    """Logits of one tile, -inf where a pair is no negative, and their slope."""
    cosine = q @ c.T
    logits, slope = over.curve(cosine, over.scale)
    if over.limit is not None:
        logits.masked_fill_(cosine > over.limit[row : row + len(q), None], float("-inf"))
    i, j = blocks.of(row, column)
    logits[i, j] = float("-inf")
    return logits, slope
