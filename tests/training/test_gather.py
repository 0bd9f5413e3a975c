"""Two and three processes against one: the same loss, the same gradients, uneven batches included."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from moonshelf.training.gather import gather, world
from moonshelf.training.losses import Relation, info_nce

N, D = 11, 6


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.nn.Linear]:
    g = torch.Generator().manual_seed(0)
    q, c = torch.randn(N, D, generator=g), torch.randn(N, D, generator=g)
    torch.manual_seed(1)
    return q, c, torch.randint(0, 6, (N,), generator=g), torch.nn.Linear(D, D)


def loss_of(
    q: torch.Tensor, c: torch.Tensor, mine: torch.Tensor, everybody: torch.Tensor
) -> tuple[torch.Tensor, int]:
    relation = Relation.from_ids(mine, everybody)
    return info_nce(q, c, relation, 4.0), len(mine)


def one() -> tuple[float, torch.Tensor]:
    q, c, ids, tower = data()
    loss, _ = loss_of(tower(q), tower(c), ids, ids)
    loss.backward()
    return loss.item(), tower.weight.grad.clone()


def work(rank: int, size: int, port: int, out: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size)
    q, c, ids, tower = data()
    cuts = [0, 4, 9, N] if size == 3 else [0, 7, N]  # uneven on purpose
    own = slice(cuts[rank], cuts[rank + 1])
    everybody = gather(ids[own])
    assert torch.equal(everybody, ids)
    loss, count = loss_of(tower(q[own]), gather(tower(c[own])), ids[own], everybody)
    loss = loss * (
        count * size / N
    )  # a mean over own queries, weighed so that the mean over processes is that of all
    loss.backward()
    for value in (tower.weight.grad, total := loss.detach().clone()):
        dist.all_reduce(value)
        value /= size
    if rank == 0:
        torch.save((total.item(), tower.weight.grad), out)
    assert gather(torch.zeros(2 * rank, 3)).shape == (size * (size - 1), 3)  # one process has no rows at all
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="gloo over loopback")
@pytest.mark.parametrize("size", [2, 3])
def test_many_processes_are_one(size: int, tmp_path: Path) -> None:
    mp.spawn(work, args=(size, free_port(), str(tmp_path / "out")), nprocs=size)
    loss, gradient = torch.load(tmp_path / "out", weights_only=True)
    expected, its_gradient = one()
    assert loss == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient, its_gradient, rtol=1e-5, atol=1e-7)


def test_one_process_needs_nothing() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert world() == (0, 1) and gather(rows) is rows
