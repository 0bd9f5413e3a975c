"""What a past says of a product in a few plain numbers: more of its colour than others have, nearer than its category.

Our design. Inside a list everything is of one category, so what tells products apart there is what they have beyond
it: an attribute that the user took more often than people do, and a vector with its category's mean taken away. Raw
cosines are nearly all category (on the demo shop a logistic model gains nothing from them and 1.7 points of AUC from
the same cosines with means taken away), and embeddings need many more clicks to find either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.ranking.batches import ClickBatch

STRENGTH = 20.0  # acts that what everybody does counts for, at the start
MOST = 50_000  # products whose vectors tell the means


class Taste(nn.Module):
    """``[B, F + 1]``: a lift for each of F feature columns, and a similarity.

    ::

        lift_f = log((n_f + a_f q_f) / ((n + a_f) q_f))
        similarity = sum_p <unit(v_p - m_p), unit(v - m)> / (n + a)

    ``n_f`` of the past's ``n`` products with a value in column f have the row's own value, which share ``q_f`` of all
    acts has; ``m`` is the mean vector of a product's category. The strengths ``a`` are learned. 0 where the product has
    no value or no vector.

    Args:
        sizes: of the F columns.
        dim: of content vectors; 0: no similarity.
        group: which column holds the category; -1: none, there is one mean.
    """

    means: Tensor

    def __init__(self, sizes: Sequence[int], dim: int, group: int = -1) -> None:
        super().__init__()
        self.group, self.width = group, len(sizes) + (1 if dim else 0)
        start = float(np.log(np.expm1(STRENGTH)))
        self.raw = nn.Parameter(torch.full((self.width,), start))
        self.shares: list[str] = []
        for at, size in enumerate(sizes):
            self.register_buffer(f"share{at}", torch.full((size,), 1.0 / size))
            self.shares.append(f"share{at}")
        groups = sizes[group] if group >= 0 else 1
        self.register_buffer("means", torch.zeros(groups if dim else 0, dim))

    def fit(
        self,
        columns: np.ndarray,
        acts: np.ndarray,
        fetch: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Take shares and means.

        Args:
            columns: ``[P, F]`` numbers of products.
            acts: ``[A]`` products that anybody acted on, once an act; of training's time alone.
            fetch: vectors of products, and which there are.
        """
        for at, name in enumerate(self.shares):
            share: Tensor = getattr(self, name)
            counts = np.bincount(columns[acts, at], minlength=len(share)).astype(np.float64)
            counts[0] = 0  # what has no value is no value
            share.copy_(torch.from_numpy((counts + 1) / (counts + 1)[1:].sum()))
        if fetch is None or not len(self.means):
            return
        products = np.arange(len(columns))
        products = products[:: max(1, len(products) // MOST)]
        total = torch.zeros(self.means.shape, dtype=torch.float64)
        held = torch.zeros(self.means.shape[0], dtype=torch.float64)
        for begin in range(0, len(products), 4096):
            some = products[begin : begin + 4096]
            vectors, there = fetch(some)
            group = columns[some, self.group] if self.group >= 0 else np.zeros(len(some), np.int64)
            place = torch.from_numpy(group[there].astype(np.int64))
            total.index_add_(0, place, torch.from_numpy(vectors[there]).double())
            held.index_add_(0, place, torch.ones(len(place), dtype=torch.float64))
        whole = total.sum(0) / held.sum().clamp(min=1)
        # a category of one product has nothing beside its mean: few products count with the mean of all
        self.means.copy_((total + whole) / (held + 1).unsqueeze(1))

    def forward(self, batch: ClickBatch, vectors: Tensor, moved: Callable[[Tensor], Tensor]) -> Tensor:
        """Args:
        vectors: ``[V, D]`` content vectors as the model sees them. moved: how the model moves those of products.
        """
        strength = F.softplus(self.raw)
        past = batch.item_columns[batch.past]  # [C, L, F]
        there = batch.past_there.unsqueeze(-1) & (past != 0)  # queries have no features
        own = batch.item_columns[batch.target]  # [B, F]
        same = ((past[batch.context] == own.unsqueeze(1)) & there[batch.context]).sum(1)
        n = there.sum(1)[batch.context]
        parts = []
        for at, name in enumerate(self.shares):
            q = getattr(self, name)[own[:, at]]
            lift = torch.log((same[:, at] + strength[at] * q) / ((n[:, at] + strength[at]) * q))
            parts.append(torch.where(own[:, at] > 0, lift, torch.zeros_like(lift)))
        if len(self.means):
            parts.append(self._similar(batch, self.beyond(batch, vectors, moved), strength[-1]))
        return torch.stack(parts, dim=1) if parts else vectors.new_zeros(len(batch), 0)

    def beyond(self, batch: ClickBatch, vectors: Tensor, moved: Callable[[Tensor], Tensor]) -> Tensor:
        """``[V, D]`` unit vectors of products with the mean of their category taken away; zeros for all else."""
        if self.group >= 0:
            means = moved(self.means)[batch.item_columns[:, self.group]]
        else:
            means = moved(self.means)
        return F.normalize(vectors - means, dim=1) * (batch.there & batch.product).unsqueeze(1)

    def _similar(self, batch: ClickBatch, rest: Tensor, strength: Tensor) -> Tensor:
        acts = batch.past_there & (batch.there & batch.product)[batch.past]
        total = (rest[batch.past] * acts.unsqueeze(-1)).sum(
            1
        )  # [C, D]: a sum of cosines is the cosine to a sum
        return (total[batch.context] * rest[batch.target]).sum(1) / (acts.sum(1)[batch.context] + strength)
