"""Values and gradients of the losses beside those of their peers, on the same numbers.

    pip install "moonshelf[peers]" && python benchmarks/loss_peers.py

InfoNCE against sentence-transformers' MultipleNegativesRankingLoss (one and two directions) and
pytorch-metric-learning's NTXentLoss (several positives a query), circle loss against pytorch-metric-learning's.
Prints the largest relative difference of values and of gradients; the last line says whether all stay below 1e-5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version

import torch
from pytorch_metric_learning.losses import CircleLoss, NTXentLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor

from moonshelf.training.losses import Relation, circle_loss, info_nce, two_sided

N, D, SCALE = 200, 64, 20.0
Loss = Callable[[Tensor, Tensor], Tensor]


def data(products: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, candidates and their product numbers; several rows share one."""
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(0, products, (N,), generator=g)
    centres = torch.randn(products, D, generator=g)
    queries, candidates = (centres[ids] + 2 * torch.randn(N, D, generator=g) for _ in range(2))
    return queries.requires_grad_(), candidates.requires_grad_(), ids


def compare(name: str, ours: Loss, theirs: Loss, products: int = N) -> float:
    """Print the differences, return the larger one."""
    found = []
    for loss in (ours, theirs):
        q, c, _ = data(products)
        value = loss(q, c)
        value.backward()
        found.append((value.item(), torch.cat((q.grad, c.grad))))  # type: ignore[arg-type]
    (a, grad_a), (b, grad_b) = found
    value, gradient = abs(a - b) / abs(b), float((grad_a - grad_b).norm() / grad_b.norm())
    print(f"{name:<58} {a:.6f}  value {value:.1e}  gradient {gradient:.1e}")
    return max(value, gradient)


def main() -> int:
    print(
        ", ".join(f"{p} {version(p)}" for p in ("torch", "sentence-transformers", "pytorch-metric-learning"))
    )
    index = torch.arange(N)
    own = Relation.from_ids(index, index)

    def ranking(q: Tensor, c: Tensor, **options: object) -> Tensor:
        loss = MultipleNegativesRankingLoss(torch.nn.Identity(), scale=SCALE, **options)  # type: ignore[arg-type]
        return loss.compute_loss_from_embeddings([q, c], torch.empty(0))

    worst = [
        compare("info_nce, MultipleNegativesRankingLoss", lambda q, c: info_nce(q, c, own, SCALE), ranking),
        compare(
            "info_nce tiled, MultipleNegativesRankingLoss",
            lambda q, c: info_nce(q, c, own, SCALE, tiled=(64, 48)),
            ranking,
        ),
        compare(
            "two_sided, MultipleNegativesRankingLoss both ways",
            lambda q, c: sum(two_sided(q, c, own, SCALE)) / 2,  # type: ignore[return-value]
            lambda q, c: 0.5 * (ranking(q, c) + ranking(c, q)),
        ),
    ]
    for products in (N, 40):
        *_, ids = data(products)
        led = Relation.from_ids(ids, ids)
        several = f"{products} products of {N}"
        pairs = torch.bincount(
            led.positive[0], minlength=N
        ).float()  # theirs is a mean over pairs, ours over queries

        def both(q: Tensor, c: Tensor, peer: torch.nn.Module, ids: Tensor = ids) -> Tensor:
            return peer(
                q, ids, ref_emb=c, ref_labels=ids.clone()
            )  # the same object would mean: leave the diagonal out

        worst += [
            compare(
                f"info_nce, NTXentLoss, {several}",
                lambda q, c, led=led, pairs=pairs: info_nce(q, c, led, SCALE, weights=pairs),  # type: ignore[misc]
                lambda q, c, both=both: both(q, c, NTXentLoss(temperature=1 / SCALE)),  # type: ignore[misc]
                products,
            ),
            compare(
                f"circle_loss, CircleLoss, {several}",
                lambda q, c, led=led: circle_loss(q, c, led, gamma=32.0, margin=0.25),  # type: ignore[misc]
                lambda q, c, both=both: both(q, c, CircleLoss(m=0.25, gamma=32)),  # type: ignore[misc]
                products,
            ),
        ]
    print(f"all within 1e-5: {max(worst) < 1e-5} (largest {max(worst):.1e})")
    return 0 if max(worst) < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
