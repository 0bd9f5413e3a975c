"""Several processes as one: who does which rows, the same gradients everywhere, rank 0 writes.

A batch belongs to all processes together and is a function of (seed, step). Every process decodes and encodes its own
part of the rows, gathers everybody's vectors (``gather``), and computes the same loss of the same numbers; the mean of
the gradients over processes is then the gradient of one process with the whole batch. Weights, queue and temperatures
stay equal without being sent, so rank 0's checkpoint is everybody's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from moonshelf import progress
from moonshelf.errors import InputError
from moonshelf.training.gather import device_of_messages, world
from moonshelf.training.shard import in_pieces

ValueT = TypeVar("ValueT")
_WAIT = timedelta(hours=2)  # rank 0 validates and writes while the others wait


@contextlib.contextmanager
def joined() -> Iterator[bool]:
    """Take part in the group that ``torchrun`` or ``accelerate launch`` has started, if one has; yields "I am rank 0".

    NCCL where there are GPUs, else gloo. Ranks above 0 print nothing but errors.

    Raises:
        InputError: another process of the group has ended.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield world()[0] == 0
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_WAIT)
    try:
        with progress.quiet() if dist.get_rank() else contextlib.nullcontext():
            yield dist.get_rank() == 0
    except RuntimeError as error:
        if not isinstance(error, InputError) and _lost(error):
            raise InputError(
                "another process of this run has ended",
                mend="see what it said, then run the same command again with --resume: it goes on from the last "
                "checkpoint",
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def _lost(error: RuntimeError) -> bool:
    text = str(error)
    return any(
        w in text for w in ("Connection closed by peer", "Connection reset", "NCCL", "gloo", "Broken pipe")
    )


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """Rank 0 first, then the others: what it leaves on disk is there for them."""
    rank, size = world()
    if size > 1 and rank:
        dist.barrier()
    yield
    if size > 1 and not rank:
        dist.barrier()


def wait() -> None:
    """Until every process is here."""
    if world()[1] > 1:
        dist.barrier()


def part(rows: int, rank: int | None = None, size: int | None = None) -> slice:
    """The consecutive rows of this process, or of ``rank`` among ``size``; parts differ by one row at most, and may be
    empty.
    """
    own, all_ranks = world()
    rank, size = own if rank is None else rank, size or all_ranks
    return slice(rows * rank // size, rows * (rank + 1) // size)


def agreed(value: ValueT) -> ValueT:
    """Rank 0's value, on every process."""
    if world()[1] == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Mean of the gradients over processes, in place; one message for all of them.

    A parameter that has a gradient on some processes only (an empty part) counts as zero on the others. The gradients
    of cut parameters (``shard``) are means already.
    """
    size = world()[1]
    parameters = [p for p in parameters if not in_pieces(p)]
    if size == 1:
        return
    there = torch.tensor([float(p.grad is not None) for p in parameters], device=device_of_messages())
    dist.all_reduce(there, op=dist.ReduceOp.MAX)
    used = [p for p, flag in zip(parameters, there.tolist(), strict=True) if flag]
    flat = torch.cat([_gradient(p).reshape(-1).float() for p in used]) if used else torch.zeros(0)
    dist.all_reduce(flat)
    flat /= size
    at = 0
    for parameter in used:
        n = parameter.numel()
        parameter.grad = flat[at : at + n].view_as(parameter).to(parameter.dtype)
        at += n


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
