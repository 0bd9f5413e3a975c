"""Does the dynamic filter doubt the right pairs? On the demo shop, whose truth says which searches were corrupted.

    python benchmarks/doubt.py DEMO_SHOP --work DIR [--seeds 3] [--set posttrain.view_size=96 ...]

Trains with the filter and without it, then asks each encoder for phi of every training pair, at the margin of the last
step (0). AUC: how often a clean pair has more phi than a corrupted one (.5 is chance). Recall on the test searches
says whether doubting helps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch

from moonshelf import commands, pipeline
from moonshelf.encoder import load_encoder
from moonshelf.evaluation.image_search import search_recall
from moonshelf.evaluation.metrics import auc, bootstrap_interval, hits_at, paired_difference
from moonshelf.evaluation.result import OURS
from moonshelf.shop.shop import open_shop
from moonshelf.training.doubt import confidence
from moonshelf.training.losses import Relation
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.prior import prior_vectors

DUAL = ["stages=posttrain", "posttrain.align=dual", "posttrain.own_queries=true"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    truth = pl.read_parquet(a.shop / "truth" / "searches.parquet").select(
        "query_id", "corrupted", "corruption"
    )
    shop = open_shop(a.shop, cache=a.work / "read")
    assert shop.searches is not None
    pairs = SearchPairs([shop])
    told = shop.searches.join(truth, on="query_id").select(
        "query_image_id", "query_text", "product_id", "corrupted", "corruption"
    )
    told = told.unique(["query_image_id", "query_text", "product_id"], keep="first")
    asked = pl.DataFrame(
        [
            (photo, text, pairs.products[at][1])
            for (_, photo, text), at in zip(pairs.queries, pairs.product_of, strict=True)
        ],
        schema={"query_image_id": pl.String, "query_text": pl.String, "product_id": pl.String},
        orient="row",
    )
    keys = ["query_image_id", "query_text", "product_id"]
    known = asked.join(told, on=keys, how="left", nulls_equal=True, maintain_order="left")
    lost = int(known["corrupted"].null_count())  # the reader has merged or mended their search
    known = known.with_columns(pl.col("corrupted").fill_null(value=False), pl.col("corruption").fill_null(""))
    corrupted = known["corrupted"].to_numpy().astype(bool)
    print(f"{len(pairs)} pairs, {int(corrupted.sum())} corrupted, {lost} unknown and counted as clean")
    hits: dict[str, list[np.ndarray]] = {}
    for name, settings in (("with filter", ["posttrain.dual.filter=true"]), ("without", [])):
        for seed in range(a.seeds):
            config = commands.resolve("demo", [*DUAL, *settings, *a.set], seed)
            folder = pipeline.train_stage(
                "posttrain", shop, a.work / name.replace(" ", "") / str(seed), config
            )
            encoder = load_encoder(folder)
            queries, products = prior_vectors(pairs, encoder, folder.parent / "vectors")
            led = Relation.from_ids(
                torch.from_numpy(pairs.product_of), torch.arange(len(products)),
                pairs.groups[torch.from_numpy(pairs.product_of)], pairs.groups,
            )  # fmt: skip
            phi = confidence(
                torch.from_numpy(queries),
                torch.from_numpy(products),
                led,
                config.posttrain.dual.filter_kappa,
                0.0,
            ).numpy()
            means = f"mean phi clean {phi[~corrupted].mean():.3f}, corrupted {phi[corrupted].mean():.3f}"
            print(f"{name}, seed {seed}: AUC {auc(phi, ~corrupted)}; {means}")
            for kind in sorted(set(known.filter(pl.col("corrupted"))["corruption"])):
                own = (known["corruption"] == kind).to_numpy() & corrupted
                some = own | ~corrupted
                print(f"    {kind:<18} n = {int(own.sum()):<5} AUC {auc(phi[some], ~corrupted[some])}")
            found = search_recall(shop, encoder, baselines=False)
            hits.setdefault(name, []).append(hits_at(found.ranks[OURS], 10))
    first, second = (np.mean(hits[name], axis=0) for name in ("with filter", "without"))
    print(
        f"photo search recall@10: with filter {bootstrap_interval(first)}, without {bootstrap_interval(second)}"
    )
    print(f"difference {paired_difference(first, second)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
