"""What the losses share: unit rows, positive pairs, the sum over negatives, weighted means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses.lse import Curve, Negatives, Tile, lse_over
from moonshelf.training.losses.relation import Relation


def units(
    queries: Tensor, candidates: Tensor, bank: Tensor | None, relation: Relation
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Unit rows in float32 or better; the bank without gradient.

    Raises:
        ValueError: the relation is of another shape than the embeddings.
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    a, b = F.normalize(queries.to(dtype), dim=-1), F.normalize(candidates.to(dtype), dim=-1)
    past = F.normalize(bank.detach().to(dtype), dim=-1) if bank is not None and len(bank) else None
    shape = (len(a), len(b) + (0 if past is None else len(past)))
    if relation.shape != shape:
        raise ValueError(f"the relation is {relation.shape}, the embeddings are {shape}")
    return a, b, past


def positive_cosines(a: Tensor, b: Tensor, past: Tensor | None, relation: Relation) -> tuple[Tensor, Tensor]:
    """Query index and cosine ``[P]`` of the positive pairs, in their order."""
    i, j = relation.positive
    rows = b if past is None else torch.cat((b, past))
    return i, (a[i] * rows[j]).sum(-1)


def best_of(values: Tensor, i: Tensor, rows: int) -> Tensor:
    """``[rows]`` largest of the values of a row; +inf where it has none, so that a guard lets all pass."""
    best = values.new_full((rows,), float("-inf")).scatter_reduce(0, i, values, "amax")
    return torch.where(torch.isinf(best), values.new_full((), float("inf")), best)


def over_negatives(
    a: Tensor,
    b: Tensor,
    past: Tensor | None,
    relation: Relation,
    scale: Tensor,
    *,
    limit: Tensor | None,
    tiled: bool | Tile | None,
    margin: float | None = None,
) -> Tensor:
    """``[B]`` log-sum-exp over all negatives, fresh and past; ``LOW`` where a row has none."""
    lse, curve, fresh = lse_over(tiled, relation.shape), Curve(margin), len(b)
    own = lse(a, b, Negatives(relation.columns(0, fresh), scale, limit, curve))
    if past is None:
        return own
    rest = Negatives(relation.columns(fresh, relation.shape[1]), scale, limit, curve)
    return torch.logaddexp(own, lse(a, past, rest))


def weighted_mean(row: Tensor, counted: Tensor, weights: Tensor | None) -> Tensor:
    """Weighted mean of the rows that count; zero (with gradient) when none does."""
    weight = counted.to(row) * (1 if weights is None else weights.to(row))
    mass = weight.sum()
    return (weight * row).sum() / torch.where(mass > 0, mass, torch.ones_like(mass))
