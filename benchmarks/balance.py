"""The parts of the modality-balanced encoder on products never trained on: the ablation of MOON2.0's Table 4, our runs.

    python benchmarks/balance.py SHOP --work DIR [--seeds 3] [--held-out 0.2] [--only full mixed] [--set ...]

A share of the products (whole designs) is taken out with everything that shows them; they are the gallery and the
queries of the benchmark's nine directions, and its labels. Every line starts from the untrained encoder, sees the same
products for the same number of steps, and leaves one part out of `full` (other photos and titles are made of these
products alone); `mixed` trains text, photo and joint queries
in MOON's fixed ratio against the joint view of the product, in place of all directions at once. Settings are given to
all lines alike. Intervals are over products, differences paired, hits averaged over seeds first. Finished trainings
and measurements are kept; the table comes after each seed.

`--tune` holds out another set of products: to choose settings on, before the test set is looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf import commands, pipeline, workspace
from moonshelf.augment.make import augment
from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.evaluation import benchmark
from moonshelf.evaluation.metrics import hits_at
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

    def measured(encoder: CompactEncoder, out: Path) -> Found:
        """Ranks and labels of an encoder; kept, so that the table can be printed again for nothing."""
        path = out.with_suffix(".npz")
        if not path.is_file() or str(np.load(path)["version"]) != encoder.version:
            result = benchmark.measure(held, benchmark.of_encoder(encoder), tasks=tasks)
            workspace.write_json(out.with_suffix(".json"), result.to_json())
            labels = {k: v.value for k, v in result.metrics.items() if k.endswith("accuracy")}
            np.savez(path, version=encoder.version, labels=json.dumps(labels), **result.ranks)
        kept = np.load(path)
        return Found({d.name: kept[d.name] for d in tasks.directions}, json.loads(str(kept["labels"])))

    config = commands.resolve("laptop", [*DUAL, *LINES["without experts"][1:], *a.set], 0)
    untrained = CompactEncoder.untrained(config.encoder)
    made = place / "made"
    augment(shop, made, benchmark.of_encoder(untrained), checked_by=untrained.version)
    results: dict[str, list[Found]] = {"off the shelf": [measured(untrained, place / "untrained")]}
    for seed in range(a.seeds):  # whole tables come first, more seeds later
        for name in a.only:
            line = [setting.format(made=made) for setting in LINES[name]]
            config = commands.resolve("laptop", [*DUAL, *line, *a.set], seed)
            work = place / f"seed{seed}" / "".join(c for c in name if c.isalnum())
            folder = pipeline.train_stage("posttrain", shop, work, config)
            results.setdefault(name, []).append(measured(load_encoder(folder), work))
        table(results, tasks, a.cut, a.only[0])
    return 0


@dataclass(frozen=True)
class Found:
    """Rank of the first right product by direction, and zero-shot accuracies."""

    ranks: dict[str, np.ndarray]
    labels: dict[str, float]


def resampled(results: dict[str, list[Found]], tasks: benchmark.Tasks, cut: int) -> dict[str, np.ndarray]:
    """``[1 + 2,000, directions]`` recall of every line: as measured, then with products drawn anew.

    The same products are drawn for all lines and directions, so any difference is paired; a product's queries in
    several directions, which are alike, stay together. Hits are means over seeds.
    """
    products = sorted({p for d in tasks.directions for p in d.products})
    row = {p: i for i, p in enumerate(products)}
    drawn = np.random.default_rng(0).multinomial(len(products), [1 / len(products)] * len(products), 2000)
    weights = np.concatenate((np.ones((1, len(products))), drawn)).astype(np.float32)
    out: dict[str, np.ndarray] = {}
    for line, found in results.items():
        columns = []
        for d in tasks.directions:
            at = [row[p] for p in d.products]
            hits = np.mean([hits_at(f.ranks[d.name], cut) for f in found], axis=0)
            total, count = np.bincount(at, hits, len(products)), np.bincount(at, minlength=len(products))
            columns.append((weights @ total) / np.maximum(weights @ count, 1))
        out[line] = np.stack(columns, axis=1)
    return out


def interval(values: np.ndarray) -> str:
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return f"{values[0]:+.3f} [{low:+.3f}, {high:+.3f}]"


def table(results: dict[str, list[Found]], tasks: benchmark.Tasks, cut: int, first: str) -> None:
    """Means over seeds by direction, then differences to the first line with intervals."""
    names = [d.name for d in tasks.directions]
    recall = resampled(results, tasks, cut)
    mean = {line: values.mean(1) for line, values in recall.items()}
    spread = {line: np.ptp(values, axis=1) for line, values in recall.items()}
    seeds = {line: len(found) for line, found in results.items()}
    print(f"\nrecall@{cut}, n={[len(d.queries) for d in tasks.directions]}, seeds {seeds}")
    print(f"{'':<24}" + "".join(f"{d:>13}" for d in names) + f"{'mean':>9}{'spread':>9}   mean of each seed")
    for line, values in recall.items():
        cells = "".join(f"{v:>13.3f}" for v in values[0])
        each = " ".join(
            f"{np.mean([hits_at(f.ranks[d], cut).mean() for d in names]):.3f}" for f in results[line]
        )
        print(f"{line:<24}{cells}{mean[line][0]:>9.3f}{spread[line][0]:>9.3f}   {each}")
    print(f"\n{first!r} minus the line, 95% over products: mean over directions, spread, then each direction")
    for line in recall:
        if line != first:
            print(
                f"{line:<24} mean {interval(mean[first] - mean[line])}  spread {interval(spread[first] - spread[line])}"
            )
            for at, d in enumerate(names):
                print(f"    {d:<13} {interval(recall[first][:, at] - recall[line][:, at])}")
    print("\nzero-shot accuracy, mean of seeds")
    for key in sorted(results[first][0].labels):
        cells = (f"{line}: {np.mean([f.labels[key] for f in found]):.3f}" for line, found in results.items())
        print(f"  {key:<36}" + "  ".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
