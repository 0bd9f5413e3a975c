"""Networks on content vectors, and the share of looks that a place gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moonshelf.ranking.models.residual import Examination, Residual


def test_a_new_residual_changes_nothing_and_leaves_what_is_not_there() -> None:
    vectors = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[2] = 0
    network = Residual(5, 7)
    assert torch.allclose(network(vectors), vectors, atol=1e-6)
    with torch.no_grad():
        network.outer.weight.normal_(generator=torch.Generator().manual_seed(1))
    moved = network(vectors)
    length = moved.norm(dim=1)
    assert length[2] == 0 and torch.allclose(length[[0, 1, 3, 4, 5]], torch.ones(5), atol=1e-6)
    by_hand = vectors[0] + network.outer.weight @ torch.relu(
        network.inner.weight @ vectors[0] + network.inner.bias
    )
    assert torch.allclose(moved[0], by_hand / by_hand.norm(), atol=1e-6)


def test_a_click_at_a_place_is_a_look_and_a_click() -> None:
    examination = Examination(4)
    with torch.no_grad():
        examination.raw.copy_(torch.tensor([5.0, 0.0, 1.0, 2.0]))
    logits = torch.tensor([[-2.0], [0.0], [1.5], [40.0], [-40.0], [0.3]]).double()
    position = torch.tensor([2, 3, 9, 2, 4, 1])
    share = torch.tensor([0.5, *(1 / (1 + np.exp([1.0, 2.0, 0.0, 2.0]))), 1.0]).double()
    found = torch.sigmoid(examination(logits, position)).squeeze(1)
    wanted = share * torch.sigmoid(logits).squeeze(1)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(examination(logits, torch.zeros(6, dtype=torch.int64)), logits)  # an unknown place
    assert examination.curve(3) == pytest.approx([1.0, 0.5, 1 / (1 + np.e)])


def test_looks_are_learned_from_clicks() -> None:
    """Products are placed by how good they are; the share of looks is still found, as logits are known apart from
    it.
    """
    g = torch.Generator().manual_seed(0)
    truth = torch.tensor([1.0, 0.65, 0.5, 0.4, 0.3])
    logits = torch.randn(60_000, 1, generator=g) - 0.5
    position = torch.randint(1, 6, (60_000,), generator=g)
    click = torch.rand(60_000, generator=g) < truth[position - 1] * torch.sigmoid(logits).squeeze(1)
    examination = Examination(5)
    optimiser = torch.optim.Adam(examination.parameters(), lr=0.1)
    for _ in range(80):
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(examination(logits, position).squeeze(1), click.float())
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert examination.curve(5) == pytest.approx(truth.tolist(), abs=0.02)
