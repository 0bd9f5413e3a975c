"""Embeddings of all processes, with the right gradients.

Every process scores its own queries against everybody's candidates. The gradient of a candidate is then the sum of
what *all* processes say about it; a gather that passes on only the own part (or leaves the sum out) trains on another
loss than the one it reports. Here the backward pass sums over processes and takes the own rows. With the gradients of
the parameters averaged over processes (as ``DistributedDataParallel`` does), the update is that of one process
with the whole batch, when every process weighs its loss with ``share``.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """This process and how many there are: ``(0, 1)`` without ``torch.distributed``."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather(rows: Tensor) -> Tensor:
    """Rows of all processes, in the order of their ranks; any number each, none included.

    Args:
        rows: ``[n, ...]``; n may differ between processes, the other dimensions may not. Floating rows get gradients.

    Returns:
        ``[sum of n, ...]``, the same on every process.

    Cost: every process receives everything once forward; backward one all-reduce of the same size.
    """
    if world()[1] == 1:
        return rows
    out: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return out


def share(count: int | Tensor) -> float:
    """``n_own * processes / n_all``: weighs a process's mean so that the average over processes is the mean of all.

    Args:
        count: queries that the process's mean runs over.
    """
    size = world()[1]
    if size == 1:
        return 1.0
    total = torch.tensor([float(count)], dtype=torch.float64, device=_device())
    dist.all_reduce(total)
    return float(count) * size / max(1.0, float(total))


def _device() -> torch.device:
    return torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):  # type: ignore[no-untyped-def]
        rank, size = world()
        counts = [torch.zeros(1, dtype=torch.int64, device=_device()) for _ in range(size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=_device()))
        ctx.counts, ctx.rank = [int(c) for c in counts], rank
        most = max(ctx.counts)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(size)]
        dist.all_gather(parts, padded)
        if not rows.is_floating_point():
            out = torch.cat([part[:n] for part, n in zip(parts, ctx.counts, strict=True)])
            ctx.mark_non_differentiable(out)
            return out
        return torch.cat([part[:n] for part, n in zip(parts, ctx.counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)  # a process that needs no gradient must still come here: all of them do
        start = sum(ctx.counts[: ctx.rank])
        return total[start : start + ctx.counts[ctx.rank]]
