"""One encoder for several shops against one trained on a single shop.

    python benchmarks/all_shops.py SHOP --extra SHOP ... --work DIR [--alone DIR] [--asked 500] [--recipe thorough]

1. `alone`: `moonshelf run` on SHOP (or, with --alone, the work folder of a run that was made before).
2. `together`: the same recipe with the extra shops: their photos and texts in pretrain, and in posttrain as replay.
   Where an extra shop has titles, `--asked` of its products (seeded, designs whole) are taken out of it first.
3. Image search on SHOP's test split with both, and the paired difference; title -> photo among the products taken
   out (photos alone in the gallery), with both: what the second encoder knows that the first does not.

Prints one table; the last line is the difference in recall@1 that sharing costs SHOP.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import polars as pl

from moonshelf import commands, pipeline, workspace
from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.evaluation.image_search import image_search, text_search
from moonshelf.evaluation.metrics import hits_at, paired_difference
from moonshelf.evaluation.result import OURS
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.shop.splits import product_disjoint

REPLAY = ["posttrain.replay=0.5", "pretrain.photos=6000"]


def take_out(shop: Path, asked: int, out: Path, seed: int) -> tuple[Path, Path | None]:
    """A raw Parquet shop without ``asked`` titled products, and a shop of these with their titles as searches."""
    products = pl.read_parquet(shop / "products.parquet") if (shop / "products.parquet").is_file() else None
    titled = products is not None and products["title"].str.len_chars().sum() > 0
    if products is None or not titled or "image_ids" not in products.columns:
        return shop, None
    named = products.filter(pl.col("title").str.len_chars() > 0)["product_id"].to_list()
    apart = product_disjoint(named, open_shop(shop).leak_groups(), asked / len(named), seed)
    held = products.filter(pl.col("product_id").is_in(list(apart)))
    rest = products.filter(~pl.col("product_id").is_in(held["product_id"].implode()))
    images = pl.read_parquet(shop / "images.parquet")
    taken = images.filter(pl.col("image_id").is_in(held["image_ids"].explode().implode()))
    searches = held.select(
        pl.col("product_id").alias("query_id"),
        pl.col("product_id"),
        pl.col("title").alias("query_text"),
        pl.lit("test").alias("split"),
    )
    for name, tables in {
        "kept": {
            "products": rest,
            "images": images.filter(~pl.col("image_id").is_in(taken["image_id"].implode())),
        },
        "asked": {"products": held, "images": taken, "searches": searches},
    }.items():
        if not (out / name / shop.name).is_dir():
            with workspace.atomic_folder(out / name / shop.name) as folder:
                for table, frame in tables.items():
                    frame.write_parquet(folder / f"{table}.parquet")
    return out / "kept" / shop.name, out / "asked" / shop.name


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--extra", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--alone", type=Path)
    parser.add_argument("--asked", type=int, default=500)
    parser.add_argument("--recipe", default="thorough")
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    config = commands.resolve(a.recipe, a.set, None)
    alone = a.alone or a.work / "alone"
    if a.alone is None:
        commands.run(a.shop, alone, config)
    lent, asked = zip(*(take_out(path, a.asked, a.work, config.seed) for path in a.extra), strict=True)
    shared = commands.resolve(a.recipe, [*REPLAY, *a.set], None)
    commands.run(a.shop, a.work / "together", shared, extra=lent)

    encoders: dict[str, CompactEncoder] = {
        "untrained": CompactEncoder.untrained(config.encoder),
        "alone": load_encoder(alone, pipeline.device()),
        "together": load_encoder(a.work / "together", pipeline.device()),
    }
    shop = open_shop(a.shop, cache=a.work / "together" / "shop")
    found = {name: image_search(shop, e, baselines=False) for name, e in encoders.items()}
    for name, result in found.items():
        print(f"== {shop.name}, photo -> product, {name}\n{result}\n")
    for path in [p for p in asked if p is not None]:
        other: Shop = open_shop(path, cache=a.work / f"asked-{path.name}")
        for name, encoder in encoders.items():
            result = text_search(other, encoder, gallery_use=("image",), baselines=False)
            print(
                f"== {other.name}, title -> photo of {a.asked} products never trained on, {name}\n{result}\n"
            )
    hits = {name: hits_at(result.ranks[OURS], 1) for name, result in found.items()}
    gap = paired_difference(hits["together"], hits["alone"], seed=0)
    print(
        f"recall@1 together minus alone on {shop.name}: {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]  n = {gap.n}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
