"""DIN's weighing and pooling, forward and backward, a few thousand pairs at a time.

A batch has ``B L`` pairs of a row and an entry of its past. Layer by layer over all of them, every intermediate goes to
main memory and back, and that takes longer than the arithmetic. Here all layers run over as many pairs as fit into a
core's cache; nothing of the inside is kept, the backward pass makes it again. Same numbers but for the order of sums.
Our design, after what FlashAttention (Dao et al. 2022) does for attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PAIRS = 2048
"""At once on a CPU: 64 + 32 numbers each, their gradients and the entries are some 2 MB, the cache of a core."""


def weighed(
    every: Tensor,
    places: Tensor,
    there: Tensor,
    target: Tensor,
    first: tuple[Tensor, Tensor, Tensor],
    layers: tuple[Tensor, ...],
    *,
    softmax: bool = False,
) -> Tensor:
    """``sum_l a(t_b, k_bl) k_bl`` with ``k_bl = every[places[b, l]]`` and a ReLU network ``a``.

    The first layer is ``q_b + W k_bl + P (t_b * k_bl)``, which is one matrix a row: ``q_b + (W + P diag(t_b)) k_bl``.

    Args:
        every: ``[V, K]``.
        places: ``[B, L]`` int64.
        there: ``[B, L]`` bool; the others weigh nothing.
        target: ``[B, K]``.
        first: q ``[B, H]``, W and P ``[H, K]``.
        layers: weights and biases of the others, in turn, the last with one output.
        softmax: over what is there; zeros where nothing is.

    Returns:
        ``[B, K]`` of the type of ``every``; autocast does not reach inside.

    Cost: ``B L (K H + H H' + ..)`` multiplications forward and three times that backward, plus the forward ones again;
    ``B L`` numbers kept: the places.
    """
    with torch.autocast(every.device.type, enabled=False):
        floats = [x.to(every.dtype) for x in (target, *first, *layers)]
        found: Tensor = _Weighed.apply(every, places, there, softmax, *floats)  # type: ignore[no-untyped-call]
    return found


class _Weighed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, every: Tensor, places: Tensor, there: Tensor, softmax: bool, *floats: Tensor
    ) -> Tensor:
        ctx.save_for_backward(every, places, there, *floats)
        ctx.softmax = softmax
        out = every.new_empty(len(places), every.shape[1])
        for part in _parts(places):
            k, _, inside = _inside(every, places[part], part, floats)
            weight = _weights(inside[-1].view(k.shape[:2]), there[part], softmax)
            torch.bmm(weight.unsqueeze(1), k, out=out[part].unsqueeze(1))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        every, places, there, *floats = ctx.saved_tensors
        target, q, wide, product, *layers = floats
        told, (to_target, to_q, to_wide, to_product, *to_layers) = (
            torch.zeros_like(every),
            [torch.zeros_like(x) for x in floats],
        )
        for part in _parts(places):
            k, turned, inside = _inside(every, places[part], part, floats)
            weight = _weights(inside[-1].view(k.shape[:2]), there[part], ctx.softmax)
            g = grad[part].to(every.dtype)
            back = torch.bmm(k, g.unsqueeze(2)).squeeze(2)
            if ctx.softmax:
                back = weight * (back - (back * weight).sum(1, keepdim=True))
            else:
                back = back * there[part]
            back = back.view(-1, 1)
            ones = back.new_ones(1, len(back))  # a product with ones sums columns several times as fast as sum(0)
            for i in range(len(layers) - 2, -1, -2):
                x = inside[i // 2]
                to_layers[i].addmm_(back.t(), x)
                to_layers[i + 1].add_((ones @ back).view(-1))
                back = torch.ops.aten.threshold_backward(back @ layers[i], x, 0)
            back = back.view(*k.shape[:2], -1)
            torch.sum(back, 1, out=to_q[part])
            to_turned = torch.bmm(back.transpose(1, 2), k)
            to_wide += to_turned.sum(0)
            to_product += torch.einsum("bhk,bk->hk", to_turned, target[part])
            torch.sum(to_turned * product, 1, out=to_target[part])
            to_k = torch.bmm(back, turned)
            to_k.addcmul_(weight.unsqueeze(2), g.unsqueeze(1))
            told.index_add_(0, places[part].reshape(-1), to_k.view(-1, k.shape[2]))
        return (told, None, None, None, to_target, to_q, to_wide, to_product, *to_layers)


def _parts(places: Tensor) -> Iterator[slice]:
    """Rows at once: on a CPU as many as have ``PAIRS`` pairs, elsewhere all."""
    n = max(1, PAIRS // places.shape[1] if places.device.type == "cpu" else len(places))
    for at in range(0, len(places), n):
        yield slice(at, min(at + n, len(places)))


def _inside(
    every: Tensor, places: Tensor, part: slice, floats: list[Tensor] | tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Entries ``[n, L, K]``, the rows' matrices ``[n, H, K]``, and what leaves each layer, ``[n L, ..]``."""
    target, q, wide, product, *layers = floats
    k = F.embedding(places, every)
    turned = torch.addcmul(wide, target[part].unsqueeze(1), product)
    x = torch.bmm(k, turned.transpose(1, 2)).add_(q[part].unsqueeze(1)).flatten(0, 1)
    inside = []
    for i in range(0, len(layers), 2):
        inside.append(x.relu_())
        x = torch.addmm(layers[i + 1], x, layers[i].t())
    return k, turned, [*inside, x]


def _weights(logits: Tensor, there: Tensor, softmax: bool) -> Tensor:
    if not softmax:
        return logits * there
    return F.softmax(logits.masked_fill(~there, torch.finfo(logits.dtype).min), dim=-1) * there
