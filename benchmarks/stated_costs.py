"""The figures that docstrings state, measured again: times of small pieces, the index, the picture hash.

    python benchmarks/stated_costs.py SHOP [--rows 100000]

Times are medians of five, on as many threads as torch takes; the index is built on made vectors (clusters with noise).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from moonshelf.encoder import prepare_image
from moonshelf.encoder.efficientnet import EfficientNetLite0
from moonshelf.encoder.sentence import tokenizer
from moonshelf.encoder.weights import ALL, locate
from moonshelf.shelf.index import ExactIndex
from moonshelf.shelf.ivf import IvfIndex
from moonshelf.shelf.store import Shelf
from moonshelf.shop.duplicates import MAX_DISTANCE, signature
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.views import ViewConfig, random_views


def milliseconds(call: Callable[[], object], of: int = 1) -> float:
    """Median of five, for one of ``of`` things."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e3 / of)
    return statistics.median(times)


def pieces(shop: Shop) -> None:
    """Photos, views, tokens, weights."""
    begun = time.perf_counter()
    tokenizer()
    print(f"tokenizer, loaded once: {time.perf_counter() - begun:.2f} s")
    for file in ALL:
        begun = time.perf_counter()
        locate(file)
        print(f"weights, found and hashed once: {file.package} {(time.perf_counter() - begun) * 1e3:.0f} ms")
    names = shop.images.table.filter(pl.col("status") == "ok")["image_id"].to_list()[:64]
    small = [shop.images.decode(name, short_side=192) for name in names]
    each = milliseconds(lambda: [prepare_image(photo, 160) for photo in small], len(small))
    print(f"prepare_image to 160 px: {each:.2f} ms")
    pixels = torch.from_numpy(np.stack([prepare_image(photo, 160) for photo in small]))
    generator = torch.Generator().manual_seed(0)
    each = milliseconds(lambda: random_views(pixels, 160, ViewConfig(), generator), len(small))
    print(f"random_views at 160 px: {each:.2f} ms a photo")
    trunk, views = EfficientNetLite0().eval(), random_views(pixels[:16], 160, ViewConfig(), generator)
    with torch.no_grad():
        plain = milliseconds(lambda: trunk(views), 16)
        last = trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        turned = views.to(memory_format=torch.channels_last)
        quick = milliseconds(lambda: last(turned), 16)
    print(
        f"trunk at 160 px: {plain:.1f} ms, channels last {quick:.1f} ms ({plain / quick:.2f} times as fast)"
    )


def picture_hash(shop: Shop) -> None:
    """How many photos keep their hash (up to the distance that counts) when scaled by 0.75."""
    names = shop.images.table.filter(pl.col("status") == "ok")["image_id"].to_list()[:500]
    near = 0
    for name in names:
        photo = shop.images.decode(name)
        scaled = photo.resize(
            (round(photo.width * 0.75), round(photo.height * 0.75)), Image.Resampling.BICUBIC
        )
        a, b = (signature(p)[0] for p in (photo, scaled))
        near += (a ^ b).bit_count() <= MAX_DISTANCE
    print(
        f"picture hash: {near / len(names):.3f} of {len(names)} photos stay within {MAX_DISTANCE} bits at 0.75"
    )


def index(rows: int) -> None:
    """Build time of the inverted lists, and recall@10 of a filter that keeps a share of the rows."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(rows // 100, 256)).astype(np.float32)
    vectors = centres[rng.integers(len(centres), size=rows)] + 0.7 * rng.normal(size=(rows, 256)).astype(
        np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    info = {"rows": rows, "dim": 256, "dtype": "f32", "encoder_version": "made"}
    shelf = Shelf(Path("memory"), info, vectors, None)
    begun = time.process_time()
    found = IvfIndex(shelf)
    print(f"IVF over {rows:,} x 256: {time.process_time() - begun:.1f} CPU seconds, {found.probes} probes")
    queries, exact = vectors[:: rows // 200], ExactIndex(shelf)
    place = rng.permutation(rows)
    for share in (1.0, 0.5, 0.2, 0.06):
        allowed = place < share * rows
        want = exact.search(queries, 10, allowed)[1]
        got = found.search(queries, 10, allowed)[1]
        plain = np.where(allowed[(wide := found.search(queries, 10)[1])], wide, -1)
        recall, naive = (
            float(np.mean([len(np.intersect1d(a, b[b >= 0])) / 10 for a, b in zip(want, r, strict=True)]))
            for r in (got, plain)
        )
        print(
            f"filter keeps {share:.0%}: recall@10 {recall:.3f}; of the first ten without a filter {naive:.3f} remain"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    a = parser.parse_args()
    shop = open_shop(a.shop)
    pieces(shop)
    picture_hash(shop)
    index(a.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
