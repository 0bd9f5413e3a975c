"""Tiled InfoNCE against the whole matrix, at a large batch with a large queue: peak memory and time of the loss alone.

    python benchmarks/tiled_loss.py [--batch 16384] [--queue 65536] [--width 256] [--rounds 5] [--threads 2]

The whole-matrix side is the usual code, `F.cross_entropy(scale * q @ cat(c, queue).T, arange)`, in its leanest form
(the scale is multiplied into the queries). Every round runs both sides in turn, forward and backward, each in a
process of its own, so that the peak of one is not the other's. Memory is the growth of the peak resident set over
the inputs. Values and gradients are compared before anything is timed, at a size where both fit twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.training.losses import Relation, info_nce

SCALE = 20.0


def inputs(batch: int, queue: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    q = F.normalize(torch.randn(batch, width, generator=g), dim=1)
    c = F.normalize(q + 0.2 * torch.randn(batch, width, generator=g), dim=1)
    return q.requires_grad_(), c.requires_grad_(), F.normalize(torch.randn(queue, width, generator=g), dim=1)


def whole(q: Tensor, c: Tensor, bank: Tensor) -> Tensor:
    a, b = F.normalize(q, dim=1), F.normalize(c, dim=1)
    return F.cross_entropy((SCALE * a) @ torch.cat((b, bank)).T, torch.arange(len(q)))


def tiled(q: Tensor, c: Tensor, bank: Tensor) -> Tensor:
    index = torch.arange(len(q))
    pairs = torch.stack((index, index))
    relation = Relation((len(q), len(c) + len(bank)), pairs, pairs)
    return info_nce(q, c, relation, SCALE, bank=bank, tiled=True)


SIDES = {"whole": whole, "tiled": tiled}


def peak_kilobytes() -> int:
    """Peak resident set of this process alone (Linux); getrusage would count that of its parent too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def child(side: str, batch: int, queue: int, width: int) -> None:
    q, c, bank = inputs(batch, queue, width)
    small = inputs(64, 64, width)
    SIDES[side](*small).backward()  # threads and libraries are up before the clock and the scale are read
    before = peak_kilobytes()
    begun = time.perf_counter()
    loss = SIDES[side](q, c, bank)
    loss.backward()
    seconds = time.perf_counter() - begun
    grown = (peak_kilobytes() - before) / 1024
    print(json.dumps({"seconds": seconds, "megabytes": grown, "loss": loss.item()}))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--queue", type=int, default=65536)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    if a.child:
        child(a.child, a.batch, a.queue, a.width)
        return 0
    found = []
    for side in SIDES.values():
        q, c, bank = inputs(3000, 5000, a.width)
        loss = side(q, c, bank)
        loss.backward()
        found.append((loss.detach(), q.grad, c.grad))
    for x, y in zip(*found, strict=True):
        assert x is not None and y is not None
        print(f"largest relative difference {float((x - y).norm() / x.norm()):.2e}")
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for i in range(a.rounds):
        for name in SIDES:
            sizes = ["--batch", str(a.batch), "--queue", str(a.queue), "--width", str(a.width)]
            command = [sys.executable, __file__, "--child", name, "--threads", str(a.threads), *sizes]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[name].append(json.loads(out))
            print(f"round {i + 1} {name}: {runs[name][-1]}", flush=True)
    middle = {
        name: {key: statistics.median(r[key] for r in found) for key in ("seconds", "megabytes")}
        for name, found in runs.items()
    }
    for name, value in middle.items():
        print(f"{name:<6} {value['seconds']:8.2f} s {value['megabytes']:10.0f} MB  (median of {a.rounds})")
    w, t = middle["whole"], middle["tiled"]
    memory, clock = w["megabytes"] / t["megabytes"], t["seconds"] / w["seconds"]
    print(f"memory tiled / whole 1/{memory:.1f}, time tiled / whole {clock:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
