"""Contrastive losses: pure functions of embeddings and masks. No state, no random numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    queries: Tensor,
    candidates: Tensor,
    positives: Tensor,
    negatives: Tensor,
    scale: Tensor | float,
    smoothing: float = 0.0,
) -> Tensor:
    """InfoNCE with any number of positives a query, each against the query's negatives alone.

    ``L_i = mean over p in P(i) of -log( exp(s_ip) / (exp(s_ip) + sum over n in N(i) of exp(s_in)) )``,
    ``s = scale * cos``. With one positive it is the loss of MOON (2511.11305, stage 2); with several,
    positives never push each other away (in SupCon they do; leaving that out is our design). A pair in
    neither mask (same product, same SPU, excluded category) takes no part.

    Args:
        queries: ``[B, D]``, any length (normalised here).
        candidates: ``[C, D]``, any length.
        positives: ``[B, C]`` bool.
        negatives: ``[B, C]`` bool, disjoint from ``positives``.
        scale: inverse temperature.
        smoothing: share of the target that the negatives divide evenly among themselves (label smoothing,
            Szegedy et al. 2016): adds ``smoothing * (s_ip - mean over n of s_in)``, so that a pair which is
            told apart already stops growing. 0 is the plain loss.

    Returns:
        Mean over the queries that have a positive and a negative; zero (with gradient) if none has.

    Cost: ``B x C x D`` multiply-adds and a ``B x C`` matrix.
    """
    # full precision even under autocast: at bf16 and scale 16 two cosines .004 apart are the same logit
    with torch.autocast(queries.device.type, enabled=False):
        dtype = torch.promote_types(queries.dtype, torch.float32)
        a, b = F.normalize(queries.to(dtype), dim=-1), F.normalize(candidates.to(dtype), dim=-1)
        logits = scale * (a @ b.T)
    # a finite floor: the gradient of a log-sum-exp over nothing but -inf is NaN even where it is not used
    against = torch.logsumexp(logits.masked_fill(~negatives, -1e9), dim=1, keepdim=True)
    counted = positives & negatives.any(1, keepdim=True)
    each = F.softplus(torch.where(counted, against - logits, torch.zeros_like(logits)))
    if smoothing:
        kept = negatives.to(logits.dtype)
        average = (logits * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp(min=1)
        each = each + smoothing * (logits - average)
    number = counted.sum(1)
    row = (each * counted).sum(1) / number.clamp(min=1)
    return row.sum() / (number > 0).sum().clamp(min=1)


def nt_xent(first: Tensor, second: Tensor, groups: Tensor, scale: Tensor | float) -> Tensor:
    """Self-supervision: two views of one photo attract, all other photos of the batch repel.

    SimCLR's NT-Xent (Chen et al. 2020; S1 of 2205.04168). Photos of one group (the same product, or near
    duplicates) are left out of each other's negatives.

    Args:
        first, second: ``[B, D]``, row i of both is photo i.
        groups: ``[B]`` int64; photos with an equal number are not negatives of each other.
        scale: inverse temperature.
    """
    both = torch.cat((first, second))
    same = groups.repeat(2)[:, None] == groups.repeat(2)[None]
    partner = torch.zeros_like(same)
    index = torch.arange(len(first), device=first.device)
    partner[index, index + len(first)] = True
    partner[index + len(first), index] = True
    return info_nce(both, both, partner, ~same, scale)


def alignment(images: Tensor, texts: Tensor, groups: Tensor, scale: Tensor | float) -> Tensor:
    """Image and text of one product attract, in both directions (CLIP, Radford et al. 2021).

    Args:
        images, texts: ``[B, D]``, row i of both is product i.
        groups: ``[B]`` int64; rows of one group (same SPU, same title) are not negatives of each other.
        scale: inverse temperature.
    """
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    negatives = groups[:, None] != groups[None]
    forward = info_nce(images, texts, own, negatives, scale)
    return 0.5 * (forward + info_nce(texts, images, own, negatives, scale))


def matryoshka(loss: Callable[..., Tensor], vectors: Sequence[Tensor], widths: Sequence[int]) -> Tensor:
    """Weighted mean of ``loss(*prefixes)`` over nested widths (Kusupati et al. 2022): prefixes become good vectors.

    Each width counts in proportion to its length (256: 1, 128: 1/2, ...), so that short prefixes do not hold
    the full vector back; with equal weights recall@1 of the full vector fell by 8 points (docs/LOG.md, E5).

    Args:
        loss: takes the vectors, cut, in the order given.
        vectors: each ``[*, D]``, unnormalised.
        widths: lengths at which they are cut.
    """
    parts = [width * loss(*(v[:, :width] for v in vectors)) for width in widths]
    return torch.stack(parts).sum() / sum(widths)
