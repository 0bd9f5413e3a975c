"""Tiles against the whole matrix: the same values, the same gradients, whatever the masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moonshelf.training.losses import Relation, circle_loss, info_nce, sigmoid_loss, two_sided
from moonshelf.training.losses.lse import TILE, tile_for


def problem(seed: int, b: int, c: int, m: int) -> dict[str, Any]:
    """Embeddings, a bank, and a random relation in which some queries have no positive or no negative."""
    g = torch.Generator().manual_seed(seed)
    q, k, bank = (torch.randn(n, 5, generator=g, dtype=torch.float64) for n in (b, c, m))
    ids, groups = torch.randint(0, 4, (b,), generator=g), torch.randint(0, 4, (c + m,), generator=g)
    positive = (ids[:, None] == groups[None]) & (torch.rand(b, c + m, generator=g) < 0.6)
    negative = (ids[:, None] != groups[None]) & (torch.rand(b, c + m, generator=g) < 0.8)
    positive[0], negative[b - 1] = False, False
    weights = torch.rand(b, generator=g, dtype=torch.float64)
    return {
        "q": q,
        "k": k,
        "bank": bank,
        "relation": Relation.from_masks(positive, negative),
        "weights": weights,
    }


LOSSES: dict[str, Callable[..., Tensor]] = {
    "info_nce": lambda q, k, p, s, t: info_nce(q, k, p["relation"], s, bank=p["bank"], tiled=t),
    "weighted": lambda q, k, p, s, t: info_nce(
        q, k, p["relation"], s, bank=p["bank"], weights=p["weights"], smoothing=0.2, guard=0.1, tiled=t,
        grades=torch.arange(1.0, p["relation"].positive.shape[1] + 1),
    ),
    "two_sided": lambda q, k, p, s, t: sum(two_sided(q, k, p["relation"], s, bank=p["bank"], tiled=t)),  # type: ignore
    "two_sided weighted": lambda q, k, p, s, t: sum(two_sided(  # type: ignore
        q, k, p["relation"], s, bank=p["bank"], weights=p["weights"], smoothing=0.1, guard=0.2, tiled=t,
        grades=torch.arange(1.0, p["relation"].positive.shape[1] + 1),
    )),
    "circle": lambda q, k, p, s, t: circle_loss(
        q, k, p["relation"], gamma=s, bank=p["bank"], weights=p["weights"], guard=0.3, tiled=t
    ),
    "sigmoid": lambda q, k, p, s, t: sigmoid_loss(
        q, k, p["relation"], s, -s.detach(), bank=p["bank"], weights=p["weights"], guard=0.2, tiled=t
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
@given(st.integers(0, 10**6), st.integers(2, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_tiles_give_the_value_and_gradients_of_the_matrix(
    name: str, seed: int, b: int, c: int, m: int, tile: int
) -> None:
    p = problem(seed, b, c, m)
    found = []
    for tiled in (False, (tile, tile + 1)):
        q, k = p["q"].clone().requires_grad_(), p["k"].clone().requires_grad_()
        scale = torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
        loss = LOSSES[name](q, k, p, scale, tiled)
        loss.backward()
        found.append([loss.detach(), q.grad, k.grad, scale.grad])
    for full, tiles in zip(*found, strict=True):
        assert torch.isfinite(full).all()
        torch.testing.assert_close(tiles, full, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "circle"])  # see the next test
def test_tiled_gradients_pass_gradcheck(name: str) -> None:
    p = problem(3, 5, 6, 3)
    args = (
        p["q"].requires_grad_(),
        p["k"].requires_grad_(),
        torch.tensor(2.0, dtype=torch.float64, requires_grad=True),
    )
    if name == "sigmoid":
        assert torch.autograd.gradcheck(
            lambda q, k, s: sigmoid_loss(q, k, p["relation"].columns(0, 6), s, s * 0.5, tiled=(2, 3)), args
        )
    else:
        assert torch.autograd.gradcheck(lambda q, k, s: LOSSES[name](q, k, p, s, (2, 3)), args)


def test_circle_gradients_hold_its_factors_fixed() -> None:
    """Its gradient is not that of its value: ``dL/ds_n = w gamma a_n``, ``dL/ds_p = -w gamma a_p`` (Sun et al.)."""
    gamma, m = 6.0, 0.25
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    angles = torch.tensor([0.4, 0.9, 1.4], dtype=torch.float64)  # positive, two negatives
    k = torch.stack((angles.cos(), angles.sin()), dim=1).requires_grad_()
    own = torch.tensor([[True, False, False]])
    s = angles.cos()
    a_p, a_n = 1 + m - s[0], (s[1:] + m).clamp(min=0)
    right, wrong = -gamma * a_p * (s[0] - (1 - m)), gamma * a_n * (s[1:] - m)
    share = torch.sigmoid(right + torch.logsumexp(wrong, 0))
    expected = torch.cat((-share * gamma * a_p[None], share * torch.softmax(wrong, 0) * gamma * a_n))
    for tiled in (False, (1, 2)):
        k.grad = None
        circle_loss(q, k, Relation.from_masks(own, ~own), gamma=gamma, margin=m, tiled=tiled).backward()
        assert k.grad is not None
        along = torch.stack((-angles.sin(), angles.cos()), dim=1)  # ds/dangle = -sin(angle)
        torch.testing.assert_close((k.grad * along).sum(1), expected * -angles.sin())


@pytest.mark.parametrize("name", LOSSES)
def test_tiles_in_float32_are_within_a_hundred_thousandth(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    ids, past = torch.arange(150), torch.randint(0, 400, (300,), generator=g)
    relation = Relation.from_ids(ids, torch.cat((ids, past)), ids // 2, torch.cat((ids, past)) // 2)
    p = {
        "relation": relation,
        "bank": torch.randn(300, 64, generator=g),
        "weights": torch.rand(150, generator=g),
    }
    base = torch.randn(2, 150, 64, generator=g)
    found = []
    for tiled in (False, (64, 100)):
        q, k = (x.clone().requires_grad_() for x in base)
        scale = torch.tensor(20.0, requires_grad=True)
        loss = LOSSES[name](q, k, p, scale, tiled)
        loss.backward()
        found.append([loss.detach(), q.grad, k.grad, scale.grad])
    for full, tiles in zip(*found, strict=True):
        assert full is not None and tiles is not None
        assert float((tiles - full).norm() / full.norm()) < 1e-5


def test_the_form_is_chosen_by_size() -> None:
    assert tile_for(None, (2048, 2048)) is None and tile_for(None, (2048, 2049)) == TILE
    assert tile_for(True, (1, 1)) == TILE and tile_for(False, (10**6, 10**6)) is None
    assert tile_for((3, 4), (1, 1)) == (3, 4)


def test_a_bank_gets_no_gradient_and_counts_like_candidates() -> None:
    p = problem(1, 6, 4, 5)
    together = torch.cat((p["k"], p["bank"]))
    assert torch.allclose(
        info_nce(p["q"], p["k"], p["relation"], 5.0, bank=p["bank"]),
        info_nce(p["q"], together, p["relation"], 5.0),
    )
    bank = p["bank"].requires_grad_()
    info_nce(p["q"].requires_grad_(), p["k"], p["relation"], 5.0, bank=bank, tiled=True).backward()
    assert bank.grad is None
