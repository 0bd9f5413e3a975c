"""Circle and sigmoid loss against loops written from the formulas; grades, weights and the guard of InfoNCE."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from moonshelf.training.losses import Relation, circle_loss, info_nce, sigmoid_loss, two_sided


def vectors(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks(b: int, c: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    draw = torch.rand(b, c, generator=g)
    return draw < 0.3, draw > 0.4


def test_circle_loss_equals_its_formula() -> None:
    q, c = vectors(5, 1), vectors(7, 2)
    positive, negative = masks(5, 7, 3)
    gamma, m, rows = 10.0, 0.3, []
    for i in range(5):
        s = F.cosine_similarity(q[i][None], c).tolist()
        wrong = [math.exp(gamma * max(0, s[j] + m) * (s[j] - m)) for j in range(7) if negative[i, j]]
        right = [
            math.exp(-gamma * max(0, 1 + m - s[j]) * (s[j] - (1 - m))) for j in range(7) if positive[i, j]
        ]
        if wrong and right:
            rows.append(math.log(1 + sum(wrong) * sum(right)))
    got = circle_loss(q, c, Relation.from_masks(positive, negative), gamma=gamma, margin=m)
    assert got.item() == pytest.approx(sum(rows) / len(rows), rel=1e-9)


def test_sigmoid_loss_equals_its_formula() -> None:
    q, c = vectors(4, 4), vectors(6, 5)
    positive, negative = masks(4, 6, 6)
    total = 0.0
    for i in range(4):
        for j in range(6):
            x = 7.0 * float(F.cosine_similarity(q[i], c[j], dim=0)) - 3.0
            if positive[i, j] or negative[i, j]:
                total += math.log(1 + math.exp(-x if positive[i, j] else x))
    got = sigmoid_loss(q, c, Relation.from_masks(positive, negative), 7.0, -3.0)
    assert got.item() == pytest.approx(total / 4, rel=1e-9)


def test_grades_weigh_positives_and_weights_weigh_queries() -> None:
    q, c = vectors(2, 7), vectors(4, 8)
    positive = torch.tensor([[True, True, False, False], [False, False, True, False]])
    relation = Relation.from_masks(positive, ~positive)
    alone = [
        info_nce(q, c, Relation.from_masks(positive & own, ~positive), 5.0)
        for own in (
            torch.tensor([[True, False, False, False], [False] * 4]),
            torch.tensor([[False, True, False, False], [False] * 4]),
            torch.tensor([[False] * 4, [True] * 4]),
        )
    ]
    graded = info_nce(q, c, relation, 5.0, grades=torch.tensor([1.0, 3.0, 1.0]))
    assert torch.allclose(graded, ((alone[0] + 3 * alone[1]) / 4 + alone[2]) / 2)
    weighted = info_nce(q, c, relation, 5.0, weights=torch.tensor([1.0, 4.0]))
    assert torch.allclose(weighted, ((alone[0] + alone[1]) / 2 + 4 * alone[2]) / 5)


def test_the_way_back_weighs_pairs_by_grade_and_query() -> None:
    q, c = vectors(3, 7), vectors(4, 8)
    positive = torch.tensor(
        [[True, True, False, False], [False, True, False, True], [False, False, True, False]]
    )
    relation = Relation.from_masks(positive, ~positive)
    weights, grades = (
        torch.tensor([2.0, 1.0, 0.5]),
        torch.tensor([1.0, 3.0, 1.0, 4.0, 2.0]),
    )  # pairs: row by row
    there, back = two_sided(q, c, relation, 5.0, weights=weights, grades=grades)
    assert torch.allclose(there, info_nce(q, c, relation, 5.0, weights=weights, grades=grades))
    # by hand: candidate 1 belongs to query 0 (grade 3, weight 2) and query 1 (grade 1, weight 1)
    asked = torch.tensor([2.0, 1.5, 0.5, 1.0])
    pairs = torch.tensor([1.0 * 2, 3.0 * 2, 1.0 * 1, 2.0 * 0.5, 4.0 * 1])  # by candidate
    assert torch.allclose(back, info_nce(c, q, relation.T, 5.0, weights=asked, grades=pairs))
    plain = two_sided(q, c, relation, 5.0)
    assert torch.allclose(plain[1], info_nce(c, q, relation.T, 5.0)) and not torch.allclose(back, plain[1])


def test_the_guard_leaves_out_negatives_more_alike_than_the_positive() -> None:
    q = torch.tensor([[1.0, 0.0]])
    c = torch.tensor([[0.8, 0.6], [0.99, 0.14], [0.0, 1.0]])  # positive, a twin of the query, a true negative
    own = torch.tensor([[True, False, False]])
    guarded = info_nce(q, c, Relation.from_masks(own, ~own), 10.0, guard=0.1)
    without = info_nce(q, c, Relation.from_masks(own, torch.tensor([[False, False, True]])), 10.0)
    assert torch.allclose(guarded, without)
    assert info_nce(q, c, Relation.from_masks(own, ~own), 10.0, guard=0.5) > guarded


def test_the_guard_of_the_sigmoid_loss() -> None:
    q = torch.tensor([[1.0, 0.0]])
    c = torch.tensor([[0.8, 0.6], [0.99, 0.14], [0.0, 1.0]])
    own = torch.tensor([[True, False, False]])
    guarded = sigmoid_loss(q, c, Relation.from_masks(own, ~own), 10.0, -5.0, guard=0.1)
    without = sigmoid_loss(q, c, Relation.from_masks(own, torch.tensor([[False, False, True]])), 10.0, -5.0)
    assert torch.allclose(guarded, without)


def test_shapes_that_do_not_fit_are_refused() -> None:
    own = torch.eye(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="the relation is"):
        info_nce(vectors(3, 1), vectors(4, 1), Relation.from_masks(own, ~own), 5.0)
