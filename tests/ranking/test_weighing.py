"""Weighing in blocks against the whole formula, its gradients against differences, and searches against loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_models import seen
from torch import Tensor
from torch.nn import functional as F

from moonshelf.ranking.models import parts, weighing
from moonshelf.ranking.models.parts import best, similarity
from moonshelf.ranking.models.weighing import weighed

B, L, K, H, V = 7, 4, 3, 5, 9


def inputs(dtype: torch.dtype, deep: bool) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    g = torch.Generator().manual_seed(0)
    places = torch.randint(0, V, (B, L), generator=g)
    there = torch.rand(B, L, generator=g) < 0.7
    there[0] = False
    shapes = [(V, K), (B, K), (B, H), (H, K), (H, K)]
    shapes += [(6, H), (6,), (1, 6), (1,)] if deep else [(1, H), (1,)]
    return places, there, there, [torch.randn(*s, generator=g, dtype=dtype).requires_grad_() for s in shapes]


def whole(places: Tensor, there: Tensor, softmax: bool, x: list[Tensor]) -> Tensor:
    """All pairs at once, as the formula has it."""
    every, target, q, wide, product, *layers = x
    k = every[places]
    h = q[:, None] + k @ wide.T + (target[:, None] * k) @ product.T
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        h = F.linear(torch.relu(h), weight, bias)
    weight = h.squeeze(-1)
    weight = weight.masked_fill(~there, -1e30).softmax(1) * there if softmax else weight * there
    return torch.einsum("bl,blk->bk", weight, k)


def ours(places: Tensor, there: Tensor, softmax: bool, x: list[Tensor]) -> Tensor:
    every, target, q, wide, product, *layers = x
    return weighed(every, places, there, target, (q, wide, product), tuple(layers), softmax=softmax)


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("pairs", [1, 3 * L, 1000])
def test_blocks_equal_the_whole(pairs: int, softmax: bool, deep: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(weighing, "PAIRS", pairs)
    places, there, _, x = inputs(torch.float64, deep)
    found = []
    for way in (ours, whole):
        out = way(places, there, softmax, x)
        found.append(
            (out.detach(), *torch.autograd.grad((out * torch.arange(K)).sum() + out.square().sum(), x))
        )
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_gradients_equal_finite_differences() -> None:
    places, there, _, x = inputs(torch.float64, True)
    assert torch.autograd.gradcheck(lambda *y: ours(places, there, True, list(y)), x)


def test_autocast_stays_outside() -> None:
    places, there, _, x = inputs(torch.float32, True)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ours(places, there, False, x)
    assert torch.equal(inside, ours(places, there, False, x))


@pytest.mark.parametrize("numbers", [1, 1_000_000])
def test_a_search_in_parts_equals_a_loop(numbers: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(parts, "NUMBERS", numbers)
    s = seen()
    for to in (s.batch.target, s.batch.asked):
        cosines, both = similarity(s, s.places, to)
        for b in range(len(to)):
            for at in range(s.places.shape[1]):
                entry, own = int(s.places[b, at]), int(to[b])
                want = bool(s.there[b, at] & s.batch.there[entry] & s.batch.there[own])
                assert bool(both[b, at]) == want
                assert float(cosines[b, at]) == pytest.approx(
                    float(s.content[entry] @ s.content[own]) * want, abs=1e-6
                )


def test_the_best_of_a_long_past() -> None:
    """Most alike first; then, without a similarity, the newest; never what is not there."""
    cosines = torch.tensor([[0.1, 0.9, 0.0, 0.5, 0.0, 0.0], [0.0] * 6])
    both = torch.tensor([[1, 1, 0, 1, 0, 0], [0] * 6]).bool()
    there = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]]).bool()
    places = torch.arange(6).expand(2, 6)
    for most, want in ((2, [{1, 3}, {3, 4}]), (4, [{0, 1, 3, 4}, {1, 2, 3, 4}])):
        c, _, p, t = best(cosines, both, places, there, most)
        assert [set(row.tolist()) for row in p] == want and bool(t.all())
        assert torch.equal(c, cosines.gather(1, p))
    short = best(cosines, both, places, there, 6)
    assert short[2] is places
