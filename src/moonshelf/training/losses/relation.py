"""Who is right and who is wrong for whom, kept as the few pairs that are special: memory grows with the batch alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Relation:
    """Positives and negatives of ``B`` queries and ``C`` candidates. Every pair that is not excluded is a negative.

    Attributes:
        shape: ``(B, C)``.
        positive: ``[2, P]`` int64, (query, candidate) pairs that belong together, in ascending order.
        excluded: ``[2, E]`` int64, pairs that are no negatives: the positives, other SKUs of their designs, and
            whatever must not be pushed away; in ascending order.
    """

    shape: tuple[int, int]
    positive: Tensor
    excluded: Tensor

    @classmethod
    def from_masks(cls, positives: Tensor, negatives: Tensor) -> Relation:
        """From two bool matrices ``[B, C]``; a pair in neither takes no part.

        Raises:
            ValueError: a pair is in both, or the shapes differ.
        """
        if positives.shape != negatives.shape or bool((positives & negatives).any()):
            raise ValueError("positives and negatives must be disjoint matrices of one shape")
        b, c = positives.shape
        return cls((b, c), positives.nonzero().T.contiguous(), (~negatives).nonzero().T.contiguous())

    @classmethod
    def from_ids(
        cls,
        queries: Tensor,
        candidates: Tensor,
        query_groups: Tensor | None = None,
        groups: Tensor | None = None,
    ) -> Relation:
        """Positive where ids are equal, no negatives where groups (default: ids) are equal.

        Args:
            queries, candidates: ``[B]``, ``[C]`` int64, product acted on and product shown.
            query_groups, groups: the same for designs (SPU); products of one group never repel.

        Cost: two sorts; no ``B x C`` matrix.
        """
        positive = join(queries, candidates)
        given = query_groups is not None and groups is not None
        excluded = join(query_groups, groups) if given else positive  # type: ignore[arg-type]
        return cls((len(queries), len(candidates)), positive, excluded)

    @property
    def T(self) -> Relation:  # as of a matrix
        """The same seen from the candidates."""
        return Relation(self.shape[::-1], _ordered(self.positive.flip(0)), _ordered(self.excluded.flip(0)))

    def to(self, device: torch.device | str) -> Relation:
        """On another device."""
        return Relation(self.shape, self.positive.to(device), self.excluded.to(device))

    def columns(self, start: int, stop: int) -> Relation:
        """The part that concerns candidates ``start <= c < stop``, renumbered from 0."""

        def part(pairs: Tensor) -> Tensor:
            inside = (pairs[1] >= start) & (pairs[1] < stop)
            return torch.stack((pairs[0, inside], pairs[1, inside] - start))

        return Relation((self.shape[0], stop - start), part(self.positive), part(self.excluded))

    def rows(self, chosen: Tensor) -> Relation:
        """The part that concerns these queries (ascending numbers), renumbered from 0."""
        place = torch.full((self.shape[0],), -1, device=chosen.device)
        place[chosen] = torch.arange(len(chosen), device=chosen.device)

        def part(pairs: Tensor) -> Tensor:
            inside = place[pairs[0]] >= 0
            return torch.stack((place[pairs[0, inside]], pairs[1, inside]))

        return Relation((len(chosen), self.shape[1]), part(self.positive), part(self.excluded))

    def negatives(self) -> Tensor:
        """The bool matrix ``[B, C]`` of negatives."""
        matrix = torch.ones(self.shape, dtype=torch.bool, device=self.excluded.device)
        matrix[self.excluded[0], self.excluded[1]] = False
        return matrix

    def negatives_per_query(self) -> Tensor:
        """``[B]`` int64."""
        return self.shape[1] - torch.bincount(self.excluded[0], minlength=self.shape[0])


def join(left: Tensor, right: Tensor) -> Tensor:
    """``[2, N]`` int64: all (i, j) with ``left[i] == right[j]``, ascending. Cost: a sort of ``right``."""
    values, order = torch.sort(right, stable=True)
    first, last = torch.searchsorted(values, left), torch.searchsorted(values, left, right=True)
    count = last - first
    i = torch.repeat_interleave(torch.arange(len(left), device=left.device), count)
    start = torch.repeat_interleave(first - torch.cumsum(count, 0) + count, count)
    return torch.stack((i, order[start + torch.arange(len(i), device=left.device)]))


def _ordered(pairs: Tensor) -> Tensor:
    by_column = pairs[:, torch.argsort(pairs[1], stable=True)]
    return by_column[:, torch.argsort(by_column[0], stable=True)]
