"""Sampler, views and memory on their own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshelf.training.loop import rate_at
from moonshelf.training.memory import ProductMemory
from moonshelf.training.sampler import cycle, epoch_order, grouped_batches
from moonshelf.training.views import ViewConfig, random_views


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=80),
    st.integers(2, 20),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 5),
)
def test_grouped_batches_use_each_pair_once(products, batch, per_product, same, seed) -> None:
    rows = np.array(products)
    categories = rows % 3
    order = epoch_order(len(rows), 0, seed, "t", 0)
    made = grouped_batches(
        rows,
        categories,
        order,
        batch=batch,
        per_product=per_product,
        same_category=same,
        rng=np.random.default_rng(seed),
    )
    used = np.concatenate(made)
    assert len(np.unique(used)) == len(used)
    assert max(map(len, made)) <= max(batch, per_product)
    dropped = len(rows) - len(used)
    assert dropped < max(2, batch // 2)


def test_same_category_batches_are_purer() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 200, 600)
    categories = rows % 10

    def purity(same: bool) -> float:
        made = grouped_batches(
            rows,
            categories,
            np.arange(600),
            batch=24,
            per_product=3,
            same_category=same,
            rng=np.random.default_rng(1),
        )
        return float(np.mean([np.bincount(categories[b]).max() / len(b) for b in made]))

    assert purity(True) > 0.8
    assert purity(False) < 0.5


def test_an_epoch_is_a_permutation_and_repeats_for_its_seed() -> None:
    a, b = epoch_order(50, 0, 3, "x", 1), epoch_order(50, 0, 3, "x", 1)
    assert sorted(a.tolist()) == list(range(50))
    assert (a == b).all()
    assert (a != epoch_order(50, 0, 3, "x", 2)).any()
    assert len(epoch_order(50, 7, 3, "x", 1)) == 7


def test_a_cycle_visits_every_row_once_a_pass() -> None:
    whole = cycle(7, 0, 21, 0, "x")
    assert all(sorted(whole[i : i + 7].tolist()) == list(range(7)) for i in (0, 7, 14))
    assert (np.concatenate([cycle(7, i, 3, 0, "x") for i in range(0, 21, 3)]) == whole).all()


def test_views_are_a_function_of_their_generator() -> None:
    pixels = torch.randint(
        0, 255, (5, 3, 80, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    first = random_views(pixels, 64, ViewConfig(), torch.Generator().manual_seed(1))
    again = random_views(pixels, 64, ViewConfig(), torch.Generator().manual_seed(1))
    other = random_views(pixels, 64, ViewConfig(), torch.Generator().manual_seed(2))
    assert first.shape == (5, 3, 64, 64)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.min()) >= -127 / 128 - 1e-6 and float(first.max()) <= 1.0 + 1e-6


def test_a_view_without_any_change_is_the_photo() -> None:
    still = ViewConfig(
        min_area=1,
        aspect=1,
        rotate=0,
        perspective=0,
        mirror=0,
        light=0,
        white_balance=0,
        grey=0,
        blur=0,
        noise=0,
        erase=0,
    )
    pixels = torch.randint(
        0, 255, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    view = random_views(pixels, 64, still, torch.Generator().manual_seed(0))
    assert torch.allclose(view, (pixels.float() - 127) / 128, atol=1e-4)


def test_memory_holds_the_newest_vector_of_each_product() -> None:
    memory = ProductMemory(3, 2)
    memory.put(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([10, 20]), 0)
    memory.put(torch.tensor([[1.5, 1.5]]), torch.tensor([10]), 1)
    memory.put(torch.tensor([[3.0, 3.0], [4.0, 4.0]]), torch.tensor([30, 40]), 2)
    vectors, products, steps = memory.contents()
    assert sorted(steps.tolist()) == [1, 2, 2]
    held = dict(zip(products.tolist(), vectors[:, 0].tolist(), strict=True))
    assert held == {10: 1.5, 30: 3.0, 40: 4.0}  # 20 was the oldest vector
    copy = ProductMemory(3, 2)
    copy.load_state(memory.state())
    copy.put(torch.tensor([[5.0, 5.0]]), torch.tensor([50]), 3)
    memory.put(torch.tensor([[5.0, 5.0]]), torch.tensor([50]), 3)
    assert torch.equal(copy.vectors, memory.vectors) and torch.equal(copy.products, memory.products)


def test_memory_takes_any_batch() -> None:
    memory = ProductMemory(3, 1)
    rows = torch.arange(6.0)[:, None]
    memory.put(rows[:3], torch.tensor([7, 8, 7]), 0)  # of one product the last vector stays
    assert dict(zip(memory.products.tolist(), memory.vectors[:, 0].tolist(), strict=True)) == {
        7: 2,
        8: 1,
        -1: 0,
    }
    memory.put(
        rows, torch.tensor([8, 1, 2, 3, 4, 5]), 1
    )  # more new ones than slots: 8 is refreshed, the last two stay
    assert dict(zip(memory.products.tolist(), memory.vectors[:, 0].tolist(), strict=True)) == {
        8: 0,
        4: 4,
        5: 5,
    }
    assert memory.steps.tolist() == [1, 1, 1]
    memory.put(rows[:0], torch.tensor([], dtype=torch.int64), 2)
    assert memory.steps.tolist() == [1, 1, 1]
    ProductMemory(0, 1).put(rows, torch.arange(6), 0)


def test_pairs_without_categories_make_batches_of_one_category_too() -> None:
    rows, none = np.arange(6), np.array([0, 1, -1, 0, -1, 1])
    for categories in (np.full(6, -1), none):
        found = grouped_batches(
            rows, categories, rows, batch=2, per_product=1, same_category=True, rng=np.random.default_rng(0)
        )
        assert sorted(np.concatenate(found).tolist()) == rows.tolist()
        assert all(len(set(categories[batch].tolist())) == 1 for batch in found)


def test_rate_warms_up_and_ends_at_zero() -> None:
    rates = [rate_at(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.001
    assert all(a >= b for a, b in pairwise(rates[10:]))
