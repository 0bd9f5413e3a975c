"""Embeddings of all processes, with the right gradients.

The gradient of a vector is the sum of what *all* processes say about it; a gather that passes on only the own part
(or leaves the sum out) trains on another loss than the one it reports. Here the backward pass sums over processes and
takes the own rows. When the loss of the whole batch is the mean of the processes' losses (each computes all of it, or
its queries' part weighed by their share) and the gradients of the parameters are averaged over processes, as
``distributed.average_gradients`` and ``DistributedDataParallel`` do, the update is that of one process.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from moonshelf.errors import InputError
from moonshelf.types import ProductBatch


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


def device_of_messages() -> torch.device:
    """Where small messages between processes must lie."""
    return torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")


def encode_together(
    encode: Callable[[ProductBatch], Tensor],
    own: ProductBatch,
    width: int | tuple[int, ...],
    *,
    cut: bool = False,
) -> Tensor:
    """Everybody's rows ``[sum of rows, *width]``, each encoded by the process that has it; a part may be empty.

    ``cut``: the tower's weights lie in pieces (``shard``), so a process without rows runs it, too.
    """
    if own.size or world()[1] == 1:
        return gather(encode(own))
    shape = width if isinstance(width, tuple) else (width,)
    # no rows, but the backward pass must come by: all processes meet there
    rows = (
        encode(_token(own))[:0] if cut else torch.zeros(0, *shape, device=own.ids.device, requires_grad=True)
    )
    return gather(rows)


def _token(like: ProductBatch) -> ProductBatch:
    """A row of one token: what a process without rows encodes, where all must."""
    ids = torch.ones(1, 1, dtype=torch.int64, device=like.ids.device)
    return ProductBatch(1, like.images[:0], like.owner[:0], ids, ids.bool())


def finite(rows: Tensor, what: str, stage: str, step: int) -> Tensor:
    """``rows`` as they are.

    A NaN must be met here: a loss that leaves rows without negatives out would leave it out, too, and look good.

    Raises:
        InputError: a number is not finite.
    """
    if not bool(torch.isfinite(rows.detach()).all()):
        bad = torch.nonzero(~torch.isfinite(rows.detach()).flatten(1).all(1)).flatten().tolist()
        raise InputError(
            f"{stage}: the encoder gives numbers that are not finite for {len(bad)} of {len(rows)} {what} at step "
            f"{step}, the first in row {bad[0]}",
            mend="lower the learning rates (optim.*_lr), or use precision fp32",
        )
    return rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows):  # type: ignore[no-untyped-def]
        rank, size = world()
        counts = [torch.zeros(1, dtype=torch.int64, device=device_of_messages()) for _ in range(size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=device_of_messages()))
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
