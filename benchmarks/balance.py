"""The parts of the modality-balanced encoder on products never trained on: the ablation of MOON2.0's Table 4, our runs.

    python benchmarks/balance.py SHOP --work DIR [--seeds 3] [--held-out 0.2] [--only full mixed] [--set ...]

A share of the products (whole designs) is taken out with everything that shows them; they are the gallery and the
queries of the benchmark's nine directions, and its labels. Every line starts from the untrained encoder, sees the same
products for the same number of steps, and leaves one part out of `full` (other photos and titles are made of these
products alone); `mixed` trains text, photo and joint queries
in MOON's fixed ratio against the joint view of the product, in place of all directions at once. Settings are given to
all lines alike. Differences are paired over queries, hits averaged over seeds first. Finished trainings are kept.

`--tune` holds out another set of products: to choose settings on, before the test set is looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf import commands, pipeline, workspace
from moonshelf.augment.make import augment
from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.evaluation import benchmark
from moonshelf.evaluation.metrics import bootstrap_interval, hits_at, paired_difference
from moonshelf.shop.shop import open_shop
from moonshelf.shop.splits import product_disjoint

DUAL = [
    "stages=posttrain",
    "posttrain.own_queries=true",
    "posttrain.align=dual",
    "posttrain.dual.filter=true",
    "posttrain.dual.weights=learned",
    "posttrain.dual.inter_weights=1,3,1",  # chosen on the tuning products (docs/LOG.md)
    "encoder.experts=4",
]
MADE = "posttrain.augmented={made}"  # what was made of the products to train on
LINES: dict[str, list[str]] = {
    "full": [MADE],
    "without experts": [MADE, "encoder.experts=0", "posttrain.dual.weights=fixed"],
    "fixed weights": [MADE, "posttrain.dual.weights=fixed"],
    "without dual-level": [
        MADE,
        "posttrain.align=joint",
        "posttrain.dual.weights=fixed",
        "encoder.experts=0",
    ],
    "without intra": [MADE, "posttrain.dual.intra_weight=0"],
    "without filter": [MADE, "posttrain.dual.filter=false"],
    "without co-augmentation": [],
    "mixed 12:3:2": [
        "posttrain.align=joint",
        "posttrain.dual.weights=fixed",
        "encoder.experts=0",
        "posttrain.types=image>rich+image:12,text>rich+image:3,title+image>rich+image:2",
    ],
}
TABLES = ("products", "searches", "events", "impressions", "images")


def parted(path: Path, gone: frozenset[str], out: Path) -> tuple[Path, Path]:
    """A raw Parquet shop without some products and everything that shows them, and a shop of these alone."""
    frames = {n: pl.read_parquet(path / f"{n}.parquet") for n in TABLES if (path / f"{n}.parquet").is_file()}
    apart = pl.col("product_id").is_in(list(gone))
    mine = {n: f.filter(apart) for n, f in frames.items() if n != "images"}
    rest = {n: f.filter(~apart) for n, f in frames.items() if n != "images"}

    def shown(tables: dict[str, pl.DataFrame]) -> set[str]:
        found = set(tables["products"]["image_ids"].explode().drop_nulls())
        if "searches" in tables and "query_image_id" in tables["searches"].columns:
            found |= set(tables["searches"]["query_image_id"].drop_nulls())
        return found

    photos = shown(mine) - shown(rest)
    for tables, chosen in (
        (mine, pl.col("image_id").is_in(list(shown(mine)))),
        (rest, ~pl.col("image_id").is_in(list(photos))),
    ):
        tables["images"] = frames["images"].filter(chosen)
    if "searches" in mine:
        mine["searches"] = mine["searches"].with_columns(split=pl.lit("test"))
    for name, tables in (("kept", rest), ("asked", mine)):
        if not (out / name / path.name).is_dir():
            with workspace.atomic_folder(out / name / path.name) as folder:
                for table, frame in tables.items():
                    if len(frame):
                        frame.write_parquet(folder / f"{table}.parquet")
    return out / "kept" / path.name, out / "asked" / path.name


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--cut", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=[*LINES], choices=[*LINES])
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    raw = open_shop(a.shop, cache=a.work / "whole")
    assert raw.products is not None
    ids = raw.products["product_id"].to_list()
    test = product_disjoint(ids, raw.leak_groups(), a.held_out, 0)
    left = [p for p in ids if p not in test]
    place = a.work / ("tune" if a.tune else "test")
    if a.tune:
        # the products of the test stay out of both sides
        asked = product_disjoint(left, raw.leak_groups(), a.held_out, 1)
        kept, _ = parted(a.shop, asked | test, place)
        _, other = parted(a.shop, asked, place / "asked-alone")
    else:
        kept, other = parted(a.shop, test, place)
    shop, held = open_shop(kept, cache=place / "kept-read"), open_shop(other, cache=place / "asked-read")
    tasks = benchmark.build_tasks(held)
    print(
        f"{len(left) if not a.tune else '?'} products to train on; {len(tasks.directions[0].gallery)} in the gallery"
    )

    def measured(encoder: CompactEncoder, out: Path) -> benchmark.BenchmarkResult:
        result = benchmark.measure(held, benchmark.of_encoder(encoder), tasks=tasks)
        workspace.write_json(out.with_suffix(".json"), result.to_json())
        return result

    config = commands.resolve("laptop", [*DUAL, *LINES["without experts"][1:], *a.set], 0)
    untrained = CompactEncoder.untrained(config.encoder)
    made = place / "made"
    augment(shop, made, benchmark.of_encoder(untrained), checked_by=untrained.version)
    results: dict[str, list[benchmark.BenchmarkResult]] = {}
    for name in a.only:
        for seed in range(a.seeds):
            line = [setting.format(made=made) for setting in LINES[name]]
            config = commands.resolve("laptop", [*DUAL, *line, *a.set], seed)
            work = place / f"seed{seed}" / "".join(c for c in name if c.isalnum())
            folder = pipeline.train_stage("posttrain", shop, work, config)
            results.setdefault(name, []).append(measured(load_encoder(folder), work))
    results["off the shelf"] = [measured(untrained, place / "untrained")]
    table(results, tasks, a.cut, a.only[0])
    return 0


def table(
    results: dict[str, list[benchmark.BenchmarkResult]], tasks: benchmark.Tasks, cut: int, first: str
) -> None:
    """Means over seeds by direction, and paired differences of the mean over directions to the first line."""
    names = [d.name for d in tasks.directions]
    hits = {
        line: {d: np.mean([hits_at(r.ranks[d], cut) for r in found], axis=0) for d in names}
        for line, found in results.items()
    }
    print(f"\nrecall@{cut}, mean of seeds")
    print(f"{'':<20}" + "".join(f"{d:>13}" for d in names) + f"{'mean':>9}{'spread':>9}")
    for line, by in hits.items():
        values = np.array([by[d].mean() for d in names])
        cells = "".join(f"{v:>13.3f}" for v in values)
        print(f"{line:<20}{cells}{values.mean():>9.3f}{np.ptp(values):>9.3f}")
    print(f"\ndifference to {first!r} by direction, paired over queries, 95%")
    for line in hits:
        for d in names if line != first else []:
            apart = paired_difference(hits[line][d], hits[first][d], seed=0)
            print(f"  {line:<20} {d:<13} {apart}  of {bootstrap_interval(hits[first][d], seed=0)}")
    labels = sorted({k for k in results[first][0].metrics if k.endswith("accuracy")})
    print("\nzero-shot accuracy, mean of seeds")
    for key in labels:
        cells = (
            f"{line}: {np.mean([r.metrics[key].value for r in found]):.3f}" for line, found in results.items()
        )
        print(f"  {key:<36}" + "  ".join(cells))
    print(json.dumps({line: len(found) for line, found in results.items()}))


if __name__ == "__main__":
    sys.exit(main())
