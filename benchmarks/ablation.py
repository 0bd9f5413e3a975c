"""What each part of posttrain is worth on one shop: the same start, one change a line, several seeds.

    python benchmarks/ablation.py SHOP --work DIR [--seeds 3] [--held-out 21] [--set posttrain.view_size=96 ...]

A shop with photo searches is asked by photo: `--held-out` random products leave the training data with everything that
shows them (as in image_search.py), and the test searches are counted apart for products that were trained on and for
those that were not. A shop without searches is asked by text: the titles of its products stand for searches
(constructed data), products are shown by their photos alone, and 500 products are taken out and asked for (as in
all_shops.py).

Every seed pretrains once; every line starts from there and changes one thing against `base`, which has the negatives of
its batch alone. A line that the shop's tables do not allow says why. Differences are paired over queries, with the hits
of a query averaged over seeds first; beside them the difference of every seed. Finished trainings are not repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from all_shops import take_out
from image_search import without
from moonshelf import commands, measuring, pipeline, workspace
from moonshelf.encoder import load_encoder
from moonshelf.errors import InputError
from moonshelf.evaluation.image_search import search_recall
from moonshelf.evaluation.metrics import bootstrap_interval, hits_at, paired_difference
from moonshelf.evaluation.result import OURS
from moonshelf.recipes import RunConfig
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.shop.splits import product_disjoint

BASE = ["posttrain.memory=0"]
LINES: dict[str, list[str]] = {
    "base": [],
    "+ category negatives": ["posttrain.category_hard=1"],
    "+ mined negatives": ["posttrain.mine=8"],
    "+ queue": ["posttrain.memory=8192"],
    "+ all three": ["posttrain.category_hard=1", "posttrain.mine=8", "posttrain.memory=8192"],
    "+ cleaning: spu": ["posttrain.clean=spu"],
    "+ cleaning: entities": ["posttrain.clean=entities"],
    "+ cleaning: hardest": ["posttrain.clean=hardest"],
    "+ cleaning: rebalance": ["posttrain.clean=rebalance"],
    "circle for InfoNCE": ["posttrain.loss=circle"],
}


class Task:
    """What is trained on, and the questions by name."""

    def __init__(self, path: Path, work: Path, held: int, seed: int) -> None:
        whole = open_shop(path, cache=work / "whole")
        assert whole.products is not None
        self.by_photo = measuring.has_searches(whole, "train", "image")
        self.settings: list[str] = []
        self.asked: dict[str, tuple[Shop, set[str] | None]]
        if self.by_photo:
            ids = whole.products["product_id"].to_list()
            apart = set(product_disjoint(ids, whole.leak_groups(), held / len(ids), seed))
            raw = without(path, frozenset(apart), work / "shop")
            self.asked = {"trained on": (whole, set(ids) - apart), "never trained on": (whole, apart)}
        else:
            kept, left = take_out(path, 500, work, seed)
            if left is None:
                raise SystemExit(f"{path} has neither photo searches nor titles")
            raw = spoken(kept, work / "shop")
            self.settings = ["posttrain.types=text>image:1", "posttrain.label_smoothing=0"]
            self.asked = {"never trained on": (open_shop(left, cache=work / "asked-read"), None)}
        self.shop = open_shop(raw, cache=work / "read")

    def hits(self, encoder: Path, cut: int) -> dict[str, np.ndarray]:
        """Whether each test query found its product among the first ``cut``."""
        model, out = load_encoder(encoder, pipeline.device()), {}
        for name, (shop, products) in self.asked.items():
            kind, use = ("image", ("image", "text")) if self.by_photo else ("text", ("image",))
            found = search_recall(
                shop, model, kind=kind, products=products, gallery_use=use, baselines=False  # type: ignore[arg-type]
            )  # fmt: skip
            out[name] = hits_at(found.ranks[OURS], cut)
        return out


def spoken(shop: Path, out: Path) -> Path:
    """The shop with the titles of its products as training searches."""
    products = pl.read_parquet(shop / "products.parquet").filter(pl.col("title").str.len_chars() > 0)
    searches = products.select(
        pl.col("product_id").alias("query_id"),
        pl.col("product_id"),
        pl.col("title").alias("query_text"),
        pl.lit("train").alias("split"),
    )
    if not out.is_dir():
        with workspace.atomic_folder(out) as folder:
            products.write_parquet(folder / "products.parquet")
            searches.write_parquet(folder / "searches.parquet")
            pl.read_parquet(shop / "images.parquet").write_parquet(folder / "images.parquet")
    return out


def configured(settings: Sequence[str], seed: int) -> RunConfig:
    return commands.resolve("laptop", [*settings, "stages=posttrain"], seed)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=21)
    parser.add_argument("--cut", type=int, default=1, help="recall at this rank")
    parser.add_argument("--only", nargs="+", default=[*LINES], choices=[*LINES])
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    task = Task(a.shop, a.work, a.held_out, 0)
    hits: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in a.only}
    refused: dict[str, str] = {}
    for seed in range(a.seeds):
        place = a.work / f"seed{seed}"
        start = pipeline.train_stage("pretrain", task.shop, place, configured(a.set, seed))
        for name in a.only:
            if name in refused:
                continue
            settings = [*BASE, *task.settings, *a.set, *LINES[name]]
            try:
                folder = pipeline.train_stage(
                    "posttrain", task.shop, place / "".join(c for c in name if c.isalnum()),
                    configured(settings, seed), start=start,
                )  # fmt: skip
            except InputError as error:
                if name == "base":
                    raise  # everything is measured against it
                refused[name] = str(error)
                continue
            hits[name].append(task.hits(folder, a.cut))
    for asked in task.asked:
        print(
            f"\n{a.shop.name}, {asked}: recall@{a.cut}, mean of {a.seeds} seeds; difference to base, paired"
        )
        base = np.mean([h[asked] for h in hits["base"]], axis=0)
        for name in a.only:
            if name in refused:
                print(f"  {name:<24} not on this shop: {refused[name]}")
                continue
            mean = np.mean([h[asked] for h in hits[name]], axis=0)
            apart = [
                float((h[asked] * 1.0 - b[asked]).mean())
                for h, b in zip(hits[name], hits["base"], strict=True)
            ]
            print(
                f"  {name:<24} {bootstrap_interval(mean, seed=0)}  {paired_difference(mean, base, seed=0)}  "
                f"seeds {' '.join(f'{d:+.3f}' for d in apart)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
