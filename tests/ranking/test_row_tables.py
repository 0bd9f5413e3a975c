"""Row tables against torch's sparse Adam; nothing moves but what was named."""

from __future__ import annotations

import torch
from torch import nn

from moonshelf.ranking.tables import RowTable


def test_steps_equal_those_of_sparse_adam() -> None:
    torch.manual_seed(0)
    table = RowTable(50, 4, std=1.0)
    other = nn.Embedding(50, 4, sparse=True)
    with torch.no_grad():
        other.weight.copy_(table.weight)
    theirs = torch.optim.SparseAdam(other.parameters(), lr=0.03)
    goal = torch.randn(50, 4)
    for step in range(12):
        ids = torch.randperm(50, generator=torch.Generator().manual_seed(step))[:9]
        ((table(ids) - goal[ids]) ** 2).sum().backward()
        table.step(0.03)
        theirs.zero_grad()
        ((other(ids) - goal[ids]) ** 2).sum().backward()
        theirs.step()
        torch.testing.assert_close(table.weight, other.weight.detach(), rtol=1e-5, atol=1e-6)


def test_rows_that_were_not_named_stay() -> None:
    table = RowTable(10, 3, std=1.0)
    before = table.weight.clone()
    table(torch.tensor([2, 7])).square().sum().backward()
    assert len(table.gradients()) == 1
    table.step(0.1)
    moved = (table.weight != before).any(1)
    assert moved.tolist() == [i in (2, 7) for i in range(10)] and not table.gradients()


def test_in_evaluation_ids_may_repeat_and_nothing_is_kept() -> None:
    table = RowTable(5, 2).eval()
    found = table(torch.tensor([[1, 1], [0, 4]]))
    assert found.shape == (2, 2, 2) and not found.requires_grad and not table.gradients()
    table.train()
    with torch.no_grad():
        table(torch.tensor([1]))
    assert not table.gradients()
    table(torch.tensor([1]))
    table.forget()
    table.step(0.1)
    assert set(table.state_dict()) == {"weight"}  # moments are not part of the model


def test_a_run_goes_on_where_it_was() -> None:
    def move(table: RowTable, seed: int) -> None:
        ids = torch.randperm(8, generator=torch.Generator().manual_seed(seed))[:3]
        (table(ids) ** 3).sum().backward()
        table.step(0.05)

    one = RowTable(8, 2, std=1.0, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        move(one, seed)
    two = RowTable(8, 2)
    two.load_state_dict(one.state_dict())
    two.load_state(one.state())
    for seed in range(3, 6):
        move(one, seed)
        move(two, seed)
    assert torch.equal(one.weight, two.weight)
