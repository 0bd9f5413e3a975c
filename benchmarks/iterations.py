"""The five iterations on one shop: recipes v1 to v5, several seeds, and what each adds to the one before.

    python benchmarks/iterations.py SHOP --work DIR [--seeds 3] [--set posttrain.view_size=96 ...]

Test searches by photo and by text. v2 to v5 share one pretrain a seed. A `--set` that a recipe does not use (posttrain2
in v3) has no effect on it. Differences are paired over queries, with the hits of a query averaged over seeds first.
Finished trainings are not repeated. What each iteration adds is our own reading; the paper's list is not known.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from moonshelf import commands, measuring, pipeline
from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.errors import TooLittleData
from moonshelf.evaluation.image_search import search_recall
from moonshelf.evaluation.metrics import bootstrap_interval, hits_at, paired_difference
from moonshelf.evaluation.queries import Kind
from moonshelf.evaluation.result import OURS
from moonshelf.shop.shop import Shop, open_shop

NAMES = ("v1", "v2", "v3", "v4", "v5")


def trained(name: str, shop: Shop, work: Path, settings: list[str], seed: int) -> str | Path:
    """The encoder at the end of a recipe."""
    config = commands.resolve(name, settings, seed)
    folder: str | Path = "compact"
    if config.stages != "none":
        folder = pipeline.train_stage("pretrain", shop, work, config)
    later: tuple[pipeline.StageName, ...] = (
        ("posttrain", "posttrain2") if config.stages == "all" else ("posttrain",)
    )
    if config.stages in ("both", "all"):
        for stage in later:
            try:
                folder = pipeline.train_stage(stage, shop, work / name, config, start=folder)
            except TooLittleData as error:
                print(f"{name}: {stage} left out: {error}", file=sys.stderr)
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cut", type=int, default=1, help="recall at this rank")
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    shop = open_shop(a.shop, cache=a.work / "read")
    kinds: list[Kind] = [k for k in ("image", "text") if measuring.has_searches(shop, "test", k)]
    hits: dict[tuple[Kind, str], list[np.ndarray]] = {}
    for seed in range(a.seeds):
        for name in NAMES:
            folder = trained(name, shop, a.work / f"seed{seed}", a.set, seed)
            config = commands.resolve(name, a.set, seed)
            encoder = (
                CompactEncoder.untrained(config.encoder) if folder == "compact" else load_encoder(folder)
            )
            rows = None
            for kind in kinds:
                found = search_recall(shop, encoder, kind=kind, baselines=False, gallery_rows=rows)
                rows = found.gallery_rows
                hits.setdefault((kind, name), []).append(hits_at(found.ranks[OURS], a.cut))
    for kind in kinds:
        print(
            f"\n{shop.name}, search by {kind}: recall@{a.cut}, mean of {a.seeds} seeds; difference to the one before"
        )
        before = None
        for name in NAMES:
            mean = np.mean(hits[kind, name], axis=0)
            step = "" if before is None else f"{paired_difference(mean, before, seed=0)}"
            print(f"  {name}  {bootstrap_interval(mean, seed=0)}  n = {len(mean)}  {step}")
            before = mean
    return 0


if __name__ == "__main__":
    sys.exit(main())
