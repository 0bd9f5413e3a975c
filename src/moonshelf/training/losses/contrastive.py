"""InfoNCE and what is built from it. Pure functions of embeddings, a relation and weights: no state, no randomness."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses.lse import LOW, Tile
from moonshelf.training.losses.parts import best_of, over_negatives, positive_cosines, units, weighted_mean
from moonshelf.training.losses.relation import Relation

_PAIRS = 1 << 14


def info_nce(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    scale: Tensor | float,
    *,
    bank: Tensor | None = None,
    weights: Tensor | None = None,
    grades: Tensor | None = None,
    smoothing: float = 0.0,
    guard: float | None = None,
    tiled: bool | Tile | None = None,
) -> Tensor:
    """InfoNCE with any number of positives a query, each against the query's negatives alone.

    ``L_i = mean over p in P(i) of -log( exp(s_ip) / (exp(s_ip) + sum over n in N(i) of exp(s_in)) )``,
    ``s = scale * cos``. With one positive it is the loss of MOON (2511.11305, stage 2); with several,
    positives never push each other away (in SupCon they do; leaving that out is our design).

    Use it for pairs of which each says "this and not the others". Not for judged pairs on a scale without order
    among candidates (use a regression), nor when most negatives are false (use ``sigmoid_loss`` or a guard).

    Args:
        queries: ``[B, D]``, any length (normalised here).
        candidates: ``[C, D]``, any length; they get gradients.
        relation: of shape ``(B, C)``, or ``(B, C + M)`` with a bank.
        scale: inverse temperature; a tensor is learned.
        bank: ``[M, D]`` past embeddings as further candidates, without gradient.
        weights: ``[B]`` weight of each query, >= 0.
        grades: ``[P]`` weight of each positive pair within its query, in the order of ``relation.positive``.
        smoothing: share of the target that the negatives divide evenly among themselves (label smoothing,
            Szegedy et al. 2016): adds ``smoothing * (s_ip - mean over n of s_in)``, so that a pair which is
            told apart already stops growing. 0 is the plain loss.
        guard: negatives whose cosine exceeds that of the query's best positive by this margin are taken for
            unlabelled positives and left out.
        tiled: never hold the ``B x C`` matrix; the same value and gradients (``lse.lse_tiled``);
            a pair of numbers sets rows and columns of a tile; None decides by size.

    Returns:
        Weighted mean over the queries that have a positive and a negative; zero (with gradient) if none has.

    Cost: full, ``B x C x D`` multiply-adds forward and several ``B x C`` matrices; tiled see ``lse_tiled``.
    """
    # full precision even under autocast: at bf16 and scale 16 two cosines .004 apart are the same logit
    with torch.autocast(queries.device.type, enabled=False):
        a, b, past = units(queries, candidates, bank, relation)
        scale = torch.as_tensor(scale, dtype=a.dtype, device=a.device)
        i, cosine = positive_cosines(a, b, past, relation)
        limit = None if guard is None else best_of(cosine.detach(), i, len(a)) + guard
        against = over_negatives(a, b, past, relation, scale, limit=limit, tiled=tiled)
        counted = against > LOW / 2
        each = F.softplus(torch.where(counted[i], against[i] - scale * cosine, torch.zeros_like(cosine)))
        if smoothing:
            each = each + smoothing * scale * (cosine - mean_negative(a, b, past, relation)[i])
        return weighted_mean(*_within_queries(each, i, counted, grades), weights)


def two_sided(
    queries: Tensor,
    candidates: Tensor,
    relation: Relation,
    scale: Tensor | float,
    *,
    bank: Tensor | None = None,
    weights: Tensor | None = None,
    grades: Tensor | None = None,
    smoothing: float = 0.0,
    guard: float | None = None,
    tiled: bool | Tile | None = None,
) -> tuple[Tensor, Tensor]:
    """``info_nce`` from queries to candidates (and the bank), and from candidates to queries.

    Use it where either side may be asked for. Not when candidates are far more than queries: the way back then has
    few rows that count.

    Args:
        queries, candidates, relation, scale, bank, grades, smoothing, guard, tiled: as in ``info_nce``; the relation
            covers candidates and bank, the way back the candidates alone.
        weights: ``[B]`` weight of each query; on the way back a pair has the weight of its query.

    Returns:
        The two losses. Cost: twice that of ``info_nce``.
    """
    options: dict[str, Any] = {"smoothing": smoothing, "guard": guard, "tiled": tiled}
    there = info_nce(
        queries, candidates, relation, scale, bank=bank, weights=weights, grades=grades, **options
    )
    i, j = relation.positive
    heavy, graded = None, None
    if weights is not None or grades is not None:
        each = torch.ones(len(i), dtype=queries.dtype, device=queries.device) if grades is None else grades
        if weights is not None:
            each = each * weights[i]
            asked = each.new_zeros(relation.shape[1]).index_add(0, j, weights[i])
            number = torch.bincount(j, minlength=relation.shape[1])
            heavy = (asked / number.clamp(min=1))[: len(candidates)]
        inside = torch.nonzero(j < len(candidates)).flatten()
        graded = each[inside[torch.argsort(j[inside], stable=True)]]
    back = relation.columns(0, len(candidates)).T
    return there, info_nce(candidates, queries, back, scale, weights=heavy, grades=graded, **options)


def nt_xent(
    first: Tensor,
    second: Tensor,
    groups: Tensor,
    scale: Tensor | float,
    *,
    tiled: bool | Tile | None = None,
) -> Tensor:
    """Self-supervision: two views of one photo attract, all other photos of the batch repel.

    SimCLR's NT-Xent (Chen et al. 2020; S1 of 2205.04168). Photos of one group (the same product, or near
    duplicates) are left out of each other's negatives.

    Args:
        first, second: ``[B, D]``, row i of both is photo i.
        groups: ``[B]`` int64; photos with an equal number are not negatives of each other.
        scale, tiled: as in ``info_nce``.

    Cost: ``info_nce`` of ``2B`` queries and as many candidates. Not for batches of one group: nothing repels.
    """
    both, twice, n = torch.cat((first, second)), groups.repeat(2), len(first)
    index = torch.arange(2 * n, device=first.device)
    partner = torch.stack((index, (index + n) % max(1, 2 * n)))
    same = Relation.from_ids(twice, twice)
    return info_nce(both, both, Relation(same.shape, partner, same.excluded), scale, tiled=tiled)


def alignment(
    images: Tensor, texts: Tensor, groups: Tensor, scale: Tensor | float, *, tiled: bool | Tile | None = None
) -> Tensor:
    """Image and text of one product attract, in both directions (CLIP, Radford et al. 2021).

    Args:
        images, texts: ``[B, D]``, row i of both is product i.
        groups: ``[B]`` int64; rows of one group (same SPU, same title) are not negatives of each other.
        scale, tiled: as in ``info_nce``.

    Cost: twice that of ``info_nce``.
    """
    index = torch.arange(len(images), device=images.device)
    same = Relation.from_ids(groups, groups)
    own = Relation(same.shape, torch.stack((index, index)), same.excluded)
    there, back = two_sided(images, texts, own, scale, tiled=tiled)
    return 0.5 * (there + back)


def mean_negative(a: Tensor, b: Tensor, past: Tensor | None, relation: Relation) -> Tensor:
    """``[B]`` mean cosine to the negatives (a guard changes nothing here), without a ``B x C`` matrix."""
    rows = b if past is None else torch.cat((b, past))
    left = torch.zeros_like(a)
    for i, j in zip(*(pairs.split(_PAIRS) for pairs in relation.excluded), strict=True):
        left = left.index_add(0, i, rows[j])  # by parts: a query may exclude most of a large queue
    number = relation.negatives_per_query().clamp(min=1)
    return (a * (rows.sum(0) - left)).sum(-1) / number


def _within_queries(each: Tensor, i: Tensor, counted: Tensor, grades: Tensor | None) -> tuple[Tensor, Tensor]:
    """``[B]`` weighted mean over the positives of a query, and which queries have any."""
    grade = (torch.ones_like(each) if grades is None else grades.to(each)) * counted[i]
    total = each.new_zeros(len(counted)).index_add(0, i, grade)
    row = each.new_zeros(len(counted)).index_add(0, i, grade * each)
    return row / torch.where(total > 0, total, torch.ones_like(total)), total > 0
