"""What experts cost: a training step of the dual stage, dense against mixture, the same active width.

    python benchmarks/expert_cost.py SHOP [--rounds 5] [--batch 64] [--side 96] [--experts 4] [--threads 2]

The dense encoder has feed-forward blocks of as many hidden units as a token meets in its experts (top_k times the usual
number). Forward and backward of one batch, both sides in turn in one process, median of the rounds; ratio last.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from moonshelf.encoder import CompactConfig, CompactEncoder
from moonshelf.encoder.fusion import FusionBlock
from moonshelf.shop.shop import open_shop
from moonshelf.training.config import DualConfig, PosttrainConfig
from moonshelf.training.dual import DualPosttrain


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--top-k", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    shop = open_shop(a.shop)
    plain = CompactEncoder.untrained(CompactConfig(image_size=a.side))
    dense = CompactEncoder.untrained(CompactConfig(image_size=a.side))
    for i in range(len(dense.fusion)):
        dense.fusion[i] = FusionBlock(plain.width, plain.config.heads, expansion=4 * a.top_k)
    experts = plain.upcycled(a.experts, a.top_k)
    config = PosttrainConfig(
        batch=a.batch,
        view_size=a.side,
        align="dual",
        own_queries=True,
        memory=0,
        query_weight=0,
        dual=DualConfig(),
    )
    routed = replace(config, dual=DualConfig(weights="learned"))
    sides = {
        "plain": (plain, DualPosttrain([shop], plain, config, 0)),
        "dense": (dense, DualPosttrain([shop], dense, config, 0)),
        "experts": (experts, DualPosttrain([shop], experts, routed, 0)),
    }
    batch = sides["plain"][1].prepare(0)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(a.rounds + 1):
        for name, (encoder, stage) in sides.items():
            encoder.train()
            encoder.zero_grad(set_to_none=True)
            begun = time.perf_counter()
            stage.loss(encoder, batch, 0)[0].backward()  # type: ignore[no-untyped-call]
            if turn:  # the first one warms up
                seconds[name].append(time.perf_counter() - begun)
    for name, own in seconds.items():
        print(f"{name:<8} {statistics.median(own):.3f} s a batch  ({min(own):.3f} to {max(own):.3f})")
    middle = {name: statistics.median(own) for name, own in seconds.items()}
    print(f"experts / plain dense      {middle['experts'] / middle['plain']:.3f}")
    print(f"experts / dense, same active width  {middle['experts'] / middle['dense']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
