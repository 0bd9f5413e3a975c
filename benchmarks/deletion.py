"""Are heatmaps faithful? The deletion test on a shop's products: photo against title, and photo against photo and text.

    python benchmarks/deletion.py SHOP --encoder PATH [--n 100] [--side 256]

A fifth of the cells of each map's grid is blurred away, the most important ones or random ones; the ratio of the two
falls of the similarity is what counts (1: the map says nothing). Take a shop that the encoder was not trained on.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from moonshelf.encoder import Item, load_encoder, prepare_image, product_text
from moonshelf.encoder.saliency import METHODS
from moonshelf.evaluation.faithful import deletion_test
from moonshelf.shop.shop import open_shop


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--side", type=int, default=256)
    a = parser.parse_args()
    shop = open_shop(a.shop)
    assert shop.products is not None
    encoder = load_encoder(a.encoder)
    encoder.config = replace(encoder.config, image_size=a.side)
    products = [shop.product(p) for p in shop.products["product_id"].to_list()]
    products = [p for p in products if p.image_ids and p.title]
    chosen = np.random.default_rng(0).permutation(len(products))[: a.n]
    products = [products[i] for i in np.sort(chosen)]
    photos = [prepare_image(shop.images.decode(p.image_ids[0]), a.side) for p in products]
    items = [Item(None, (photo,)) for photo in photos]
    titles = encoder.encode([Item(p.title) for p in products])
    whole = encoder.encode(
        [Item(product_text(p), (photo,)) for p, photo in zip(products, photos, strict=True)]
    )
    for method in METHODS:
        for name, targets in (("photo against title", titles), ("photo against product", whole)):
            print(
                f"{method:<9} {name:<22} n = {len(items)}  {deletion_test(encoder, items, targets, method=method)}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
