"""Relations kept as pairs against matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.training.losses import Relation
from moonshelf.training.losses.relation import join

IDS = st.lists(st.integers(-2, 3), max_size=8).map(lambda x: torch.tensor(x, dtype=torch.int64))


@given(IDS, IDS)
def test_join_lists_equal_pairs_in_order(left: torch.Tensor, right: torch.Tensor) -> None:
    assert torch.equal(join(left, right), (left[:, None] == right[None]).nonzero().T)


@given(IDS, IDS)
def test_masks_ids_and_the_transposed_relation_agree(left: torch.Tensor, right: torch.Tensor) -> None:
    same = left[:, None] == right[None]
    groups = (left // 2)[:, None] == (right // 2)[None]
    by_ids = Relation.from_ids(left, right, left // 2, right // 2)
    by_masks = Relation.from_masks(same, ~groups)
    for a, b in ((by_ids, by_masks), (by_ids.T, Relation.from_masks(same.T, ~groups.T))):
        assert a.shape == b.shape
        assert torch.equal(a.positive, b.positive) and torch.equal(a.excluded, b.excluded)
    assert torch.equal(by_ids.negatives(), ~groups)
    assert torch.equal(by_ids.negatives_per_query(), (~groups).sum(1))
    part = by_ids.columns(1, len(right))
    assert torch.equal(part.negatives(), ~groups[:, 1:]) if len(right) else True


def test_overlapping_masks_are_refused() -> None:
    own = torch.eye(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="disjoint"):
        Relation.from_masks(own, own)
