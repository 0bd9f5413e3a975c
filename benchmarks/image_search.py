"""Image-search recall of trained encoders on one shop: alone, with distractors, and on products never trained on.

    python benchmarks/image_search.py SHOP --work DIR [--alone DIR] [--distractors SHOP ...] [--held-out 21]

1. `moonshelf run` on the shop (resumes, skips what is done), test split; with --alone, the work folder of a run
   that was made before, as it is.
2. The same encoder with the distractor shops' products and photos in the gallery.
3. Product-disjoint: `--held-out` random products (seeded) leave the shop with their texts, their photos and
   every photo that was ever searched for them; an encoder is trained on what is left, and is asked for them alone,
   in the whole shop's gallery: once with photos and texts in it, once with photos alone, as the baseline sees it.

Prints one table; the last line is the ratio of our recall@1 to the off-the-shelf network's.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import polars as pl

from moonshelf import commands, pipeline, workspace
from moonshelf.encoder import load_encoder
from moonshelf.evaluation.image_search import image_search
from moonshelf.shop.shop import open_shop
from moonshelf.shop.splits import product_disjoint


def without(shop: Path, gone: frozenset[str], out: Path) -> Path:
    """A copy of a raw Parquet shop (products, searches, images) in which nothing of these products is left."""
    products, searches, images = (
        pl.read_parquet(shop / f"{n}.parquet") for n in ("products", "searches", "images")
    )
    apart = pl.col("product_id").is_in(list(gone))
    photos = {i for ids in products.filter(apart)["image_ids"] for i in ids}
    photos |= set(searches.filter(apart)["query_image_id"].drop_nulls())
    photos -= {i for ids in products.filter(~apart)["image_ids"] for i in ids}
    with workspace.atomic_folder(out) as folder:
        products.filter(~apart).write_parquet(folder / "products.parquet")
        searches.filter(~apart).write_parquet(folder / "searches.parquet")
        images.filter(~pl.col("image_id").is_in(list(photos))).write_parquet(folder / "images.parquet")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--alone", type=Path)
    parser.add_argument("--distractors", type=Path, nargs="*", default=[])
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--recipe", default="thorough")
    parser.add_argument("--set", action="append", default=[])
    a = parser.parse_args()
    config = commands.resolve(a.recipe, a.set, None)

    trained = a.alone or a.work / "all"
    if a.alone is None:
        begun = time.monotonic()
        commands.run(a.shop, trained, config)
        print(f"run: {(time.monotonic() - begun) / 60:.1f} minutes (0 when it was done before)")
    shop = open_shop(a.shop, cache=trained / "shop")
    encoder = load_encoder(trained, pipeline.device())
    alone = image_search(shop, encoder)
    print(f"== {shop.name} alone\n{alone}\n")
    if a.distractors:
        noise = pipeline.open_extra(a.distractors, shop)
        print(f"== with distractors\n{image_search(shop, encoder, distractors=noise)}\n")
    if a.held_out:
        assert shop.products is not None
        ids = shop.products["product_id"].to_list()
        held = product_disjoint(ids, shop.leak_groups(), a.held_out / len(ids), config.seed)
        raw = without(a.shop, held, a.work / "disjoint-shop")
        commands.run(raw, a.work / "disjoint", config)
        unseen = load_encoder(a.work / "disjoint", pipeline.device())
        whole = image_search(shop, unseen, products=held)
        photos = image_search(shop, unseen, products=held, gallery_use=("image",))
        print(f"== {len(held)} products never trained on\n{whole}\n")
        print(f"== {len(held)} products never trained on, photos alone in the gallery\n{photos}\n")
    ours, theirs = alone.metrics["recall@1"].value, alone.baselines["off_the_shelf"]["recall@1"].value
    print(f"recall@1 ours / off the shelf: {ours:.3f} / {theirs:.3f} = {ours / theirs:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
