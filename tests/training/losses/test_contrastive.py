"""Losses against loops written from the formulas."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from moonshelf.training.losses import Relation, alignment, info_nce, matryoshka, nt_xent


def vectors(n: int, seed: int, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(q, c, positive, negative, scale) -> float:
    rows = []
    for i in range(len(q)):
        s = [float(scale * F.cosine_similarity(q[i], c[j], dim=0)) for j in range(len(c))]
        against = [s[j] for j in range(len(c)) if negative[i, j]]
        ps = [s[j] for j in range(len(c)) if positive[i, j]]
        if ps and against:
            total = sum(math.exp(a) for a in against)
            rows.append(sum(-math.log(math.exp(p) / (math.exp(p) + total)) for p in ps) / len(ps))
    return sum(rows) / max(1, len(rows))


def test_info_nce_equals_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    q, c = vectors(6, 1), vectors(9, 2)
    positive = torch.rand(6, 9, generator=generator) < 0.3
    negative = ~positive & (torch.rand(6, 9, generator=generator) < 0.7)
    positive[2], negative[3] = False, False
    got = info_nce(q, c, Relation.from_masks(positive, negative), 7.0)
    assert abs(got.item() - by_hand(q, c, positive, negative, 7.0)) < 1e-9


def test_info_nce_with_one_positive_is_cross_entropy() -> None:
    q, c = vectors(5, 3), vectors(5, 4)
    own = torch.eye(5, dtype=torch.bool)
    logits = 12.0 * F.normalize(q, dim=-1) @ F.normalize(c, dim=-1).T
    assert torch.allclose(
        info_nce(q, c, Relation.from_masks(own, ~own), 12.0), F.cross_entropy(logits, torch.arange(5))
    )


def test_info_nce_gradients_are_right_and_finite() -> None:
    q, c = vectors(4, 5).requires_grad_(), vectors(6, 6).requires_grad_()
    positive = torch.zeros(4, 6, dtype=torch.bool)
    positive[0, 0] = positive[1, 1] = positive[1, 2] = True
    negative = ~positive
    negative[3] = False
    assert torch.autograd.gradcheck(
        lambda a, b: info_nce(a, b, Relation.from_masks(positive, negative), 5.0), (q, c)
    )
    none = info_nce(q, c, Relation.from_masks(torch.zeros_like(positive), negative), 5.0)
    none.backward()
    assert none.item() == 0
    assert q.grad is not None and bool(torch.isfinite(q.grad).all())


def test_masked_pairs_take_no_part() -> None:
    q, c = vectors(3, 7), vectors(3, 8)
    own = torch.eye(3, dtype=torch.bool)
    negative = ~own
    negative[0, 1] = False
    moved = c.clone()
    moved[1] = -moved[1] * 3
    row = torch.tensor([True, False, False])[:, None]
    before = info_nce(q, c, Relation.from_masks(own & row, negative & row), 9.0)
    after = info_nce(q, moved, Relation.from_masks(own & row, negative & row), 9.0)
    assert torch.equal(before, after)


def test_nt_xent_and_alignment_leave_a_group_alone() -> None:
    a, b = vectors(4, 9), vectors(4, 10)
    apart, together = torch.arange(4), torch.tensor([0, 0, 1, 2])
    both = torch.cat((a, b))
    own = torch.zeros(8, 8, dtype=torch.bool)
    for i in range(4):
        own[i, i + 4] = own[i + 4, i] = True
    negative = ~own & ~torch.eye(8, dtype=torch.bool)
    assert torch.allclose(
        nt_xent(a, b, apart, 4.0), info_nce(both, both, Relation.from_masks(own, negative), 4.0)
    )
    assert nt_xent(a, b, together, 4.0) < nt_xent(a, b, apart, 4.0)
    logits = 4.0 * F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T
    clip = 0.5 * (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4)))
    assert torch.allclose(alignment(a, b, apart, 4.0), clip)


def test_matryoshka_weighs_prefixes_by_their_length() -> None:
    q, c = vectors(5, 11), vectors(5, 12)
    own = torch.eye(5, dtype=torch.bool)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return info_nce(x, y, Relation.from_masks(own, ~own), 3.0)

    expected = (8 * loss(q, c) + 4 * loss(q[:, :4], c[:, :4]) + 2 * loss(q[:, :2], c[:, :2])) / 14
    assert torch.allclose(matryoshka(loss, (q, c), (8, 4, 2)), expected)


def test_label_smoothing_is_cross_entropy_with_a_soft_target() -> None:
    q, c = vectors(5, 11), vectors(5, 12)
    own = torch.eye(5, dtype=torch.bool)
    logits = 9.0 * F.normalize(q, dim=-1) @ F.normalize(c, dim=-1).T
    # torch spreads its share over all K classes, the right one included: a share of a (K - 1) / K over the wrong ones
    theirs = F.cross_entropy(logits, torch.arange(5), label_smoothing=0.25)
    assert torch.allclose(info_nce(q, c, Relation.from_masks(own, ~own), 9.0, smoothing=0.25 * 4 / 5), theirs)


def test_label_smoothing_leaves_masked_pairs_alone() -> None:
    q, c = vectors(3, 13), vectors(4, 14)
    own = torch.eye(3, 4, dtype=torch.bool)
    negative = ~own
    negative[:, 3], negative[2] = False, False
    moved = torch.cat((c[:3], -9 * c[3:]))
    one, two = (info_nce(q, x, Relation.from_masks(own, negative), 5.0, smoothing=0.2) for x in (c, moved))
    assert torch.allclose(one, two, rtol=1e-12) and bool(torch.isfinite(one))
