"""DIN's weighing and pooling, forward and backward, a few thousand pairs at a time.

A batch has ``B L`` pairs of a row and an entry of its past. Layer by layer over all of them, every intermediate goes to
main memory and back, and that takes longer than the arithmetic. Here all layers run over as many pairs as fit into a
core's cache; nothing of the inside is kept, the backward pass makes it again. Same numbers but for the order of sums.
Our design, after what FlashAttention (Dao et al. 2022) does for attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PAIRS = 4096
"""At once on a CPU: of 64 + 32 numbers each, with their gradients; measured flat from 2,048 to 16,384."""


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
        inside = _Inside(every, places, floats)
        for part in _parts(places):
            k, _, layers = inside.run(part)
            weight = _weights(layers[-1].view(k.shape[:2]), there[part], softmax)
            torch.bmm(weight.unsqueeze(1), k, out=out[part].unsqueeze(1))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        every, places, there, *floats = ctx.saved_tensors
        product, layers = floats[3], floats[4:]
        told, sums = torch.zeros_like(every), [torch.zeros_like(x) for x in floats]
        to_target, to_q, to_wide, to_product, *to_layers = sums
        inside, backs = (
            _Inside(every, places, floats),
            _Inside(every, places, floats),
        )  # gradients in the same room
        entries = every.new_empty(*places.shape, every.shape[1])
        ones = every.new_ones(1, len(inside.layers[0]))  # sums columns several times as fast as sum(0)
        for part in _parts(places):
            k, turned, xs = inside.run(part)
            to_k, to_turned, to_xs = backs.of(part)
            weight = _weights(xs[-1].view(k.shape[:2]), there[part], ctx.softmax)
            g = grad[part].to(every.dtype)
            back = torch.bmm(g.unsqueeze(1), k.transpose(1, 2)).squeeze(1)
            if ctx.softmax:
                back = weight * (back - (back * weight).sum(1, keepdim=True))
            back = (back * there[part]).view(-1, 1)
            for i in range(len(layers) - 2, -1, -2):
                x, to_x = xs[i // 2], to_xs[i // 2]
                to_layers[i].addmm_(back.t(), x)
                to_layers[i + 1].add_((ones[:, : len(x)] @ back).view(-1))
                torch.mm(back, layers[i], out=to_x)
                back = torch.ops.aten.threshold_backward.grad_input(to_x, x, 0, grad_input=to_x)
            back = back.view(*k.shape[:2], -1)
            torch.sum(back, 1, out=to_q[part])
            torch.bmm(back, turned, out=to_k)
            torch.addcmul(to_k, weight.unsqueeze(2), g.unsqueeze(1), out=entries[part])
            torch.bmm(back.transpose(1, 2), k, out=to_turned)
            to_wide += to_turned.sum(0)
            # the rows' matrices have served: their room takes the two products
            to_product += torch.mul(to_turned, floats[0][part].unsqueeze(1), out=turned).sum(0)
            torch.sum(torch.mul(to_turned, product, out=turned), 1, out=to_target[part])
        told.index_add_(
            0, places.reshape(-1), entries.view(-1, every.shape[1])
        )  # each call costs O(V) too: one
        return (told, None, None, None, *sums)


def _parts(places: Tensor) -> Iterator[slice]:
    """Rows at once: on a CPU as many as have ``PAIRS`` pairs, elsewhere all."""
    n = _rows(places)
    for at in range(0, len(places), n):
        yield slice(at, min(at + n, len(places)))


def _rows(places: Tensor) -> int:
    return max(1, PAIRS // places.shape[1] if places.device.type == "cpu" else len(places))


class _Inside:
    """Room for what is inside the network for some rows, taken once: fresh memory costs as much as the arithmetic.

    Attributes:
        k: ``[n, L, K]``, entries. turned: ``[n, H, K]``, the first layer of each row.
        layers: what leaves each layer, ``[n L, ..]``; all but the last after their ReLU.
    """

    def __init__(self, every: Tensor, places: Tensor, floats: Sequence[Tensor]) -> None:
        self.every, self.places, self.floats = every, places, floats
        n, length = min(_rows(places), len(places)), places.shape[1]
        wide, layers = floats[2], floats[4:]
        self.k = every.new_empty(n, length, wide.shape[1])
        self.turned = every.new_empty(n, *wide.shape)
        widths = [len(wide), *(len(bias) for bias in layers[1::2])]
        self.layers = [every.new_empty(n * length, width) for width in widths]

    def of(self, part: slice) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The room of these rows."""
        n, length = part.stop - part.start, self.places.shape[1]
        return self.k[:n], self.turned[:n], [x[: n * length] for x in self.layers]

    def run(self, part: slice) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Fill it."""
        target, q, wide, product, *layers = self.floats
        k, turned, xs = self.of(part)
        torch.index_select(self.every, 0, self.places[part].reshape(-1), out=k.view(-1, k.shape[2]))
        torch.addcmul(wide, target[part].unsqueeze(1), product, out=turned)
        x = xs[0].view(*k.shape[:2], -1)
        torch.bmm(k, turned.transpose(1, 2), out=x).add_(q[part].unsqueeze(1)).relu_()
        for i in range(0, len(layers), 2):
            torch.addmm(layers[i + 1], xs[i // 2], layers[i].t(), out=xs[i // 2 + 1])
            if i + 2 < len(layers):
                xs[i // 2 + 1].relu_()
        return k, turned, xs


def _weights(logits: Tensor, there: Tensor, softmax: bool) -> Tensor:
    if not softmax:
        return logits * there
    return F.softmax(logits.masked_fill(~there, torch.finfo(logits.dtype).min), dim=-1) * there
