"""Bulk embedding, JPEG bytes to stored vector, against the bare forward pass of the same network.

    python benchmarks/embed_throughput.py [SHOP] [--images 960] [--memory 1000 20000] [--no-memory]

Both sides do the same batches in turn, five times; the medians are compared. With a SHOP its photos are
used (repeated under new ids when there are too few), else random JPEGs of 512 px are made. Peak memory is
that of a fresh process that embeds 1,000 and 20,000 photos: the whole process (which counts pages of the
photo file that the system may drop at any time) and its private memory alone.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from moonshelf.encoder import Item, load_encoder
from moonshelf.progress import quiet
from moonshelf.shelf.embed import BOTH, embed_shop, product_request
from moonshelf.shelf.shards import SHARD_ROWS
from moonshelf.shelf.stream import Request, plan_batches, run_batches
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.types import ProductBatch

ROUNDS = 5


def random_photos(count: int) -> Iterator[bytes]:
    """Smooth random JPEGs, 512 x 512, about 70 kB."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        small = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
        yield buffer.getvalue()


def make_shop(source: Path | None, count: int, folder: Path) -> Shop:
    """A shop of ``count`` products, each with one photo and a title."""
    if source is None:
        photos: Iterator[bytes] = cycle(list(random_photos(min(count, 256))))
    else:
        given = open_shop(source, require_products=False)
        photos = (given.images.read(image_id) for image_id in cycle(given.images.ids))
    raw = folder / f"raw-{count}"
    raw.mkdir()
    ids = [f"p{i:06d}" for i in range(count)]
    words = ["red", "blue", "cotton", "steel", "kettle", "jacket", "apple", "红色", "外套", "水壶", "苹果"]
    rng = np.random.default_rng(1)
    titles = [" ".join(rng.choice(words, int(rng.integers(3, 12)))) for _ in ids]
    frame = pl.DataFrame({"product_id": ids, "title": titles, "image_ids": [[i] for i in ids]})
    frame.write_parquet(raw / "products.parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("image_id", pa.string()), ("bytes", pa.binary())])
    with pq.ParquetWriter(raw / "images.parquet", schema) as writer:
        for start in range(0, count, 500):
            names = ids[start : start + 500]
            writer.write_table(pa.table([names, list(islice(photos, len(names)))], schema=schema))
    return open_shop(raw, cache=folder / f"shop-{count}")


def rate(seconds: float, count: int) -> float:
    return count / seconds


def throughput(shop: Shop, folder: Path) -> None:
    """Print both rates and their ratio."""
    encoder = load_encoder("compact")
    assert shop.products is not None
    ids = shop.products["product_id"].to_list()
    requests = [product_request(shop.product(i), BOTH, encoder.config.max_images) for i in ids]
    batches: list[ProductBatch] = []

    class Recorder:
        """The encoder, keeping what it is given."""

        version, width, widths = encoder.version, encoder.width, encoder.widths
        image_size, config, embed = encoder.image_size, encoder.config, encoder.embed

        def collate(self, items: Sequence[Item]) -> ProductBatch:
            batches.append(encoder.collate(items))
            return batches[-1]

    windows = (requests[i : i + SHARD_ROWS] for i in range(0, len(requests), SHARD_ROWS))
    plan: Iterator[list[tuple[int, Request]]] = (b for window in windows for b in plan_batches(window, 32))
    for _ in run_batches(plan, shop.images, Recorder()):
        pass  # also warms the tokenizer and the file cache for both sides
    bare: list[float] = []
    whole: list[float] = []
    work: list[float] = []  # CPU seconds, which other programs on the machine hardly change
    for i in range(ROUNDS):
        start, cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            encoder.embed(batch)
        bare.append(time.perf_counter() - start)
        middle_cpu = time.process_time()
        start = time.perf_counter()
        embed_shop(shop, encoder, folder / "shelf", resume=False)
        whole.append(time.perf_counter() - start)
        work.append((middle_cpu - cpu) / (time.process_time() - middle_cpu))
        print(
            f"round {i + 1}: bare {rate(bare[-1], len(ids)):.1f}/s ({middle_cpu - cpu:.1f} CPU-s), "
            f"bulk {rate(whole[-1], len(ids)):.1f}/s ({time.process_time() - middle_cpu:.1f} CPU-s)",
            flush=True,
        )
    a, b = rate(statistics.median(bare), len(ids)), rate(statistics.median(whole), len(ids))
    print(f"bare forward pass      {a:7.1f} images/s (median of {ROUNDS}, {len(ids)} images)")
    print(f"JPEG to stored vector  {b:7.1f} images/s")
    print(f"ratio of CPU seconds   {statistics.median(work):7.3f} (bare to bulk, decoding counted)")
    print(f"ratio {b / a:.3f}")


def private_bytes() -> int:
    """Memory of this process that is backed by no file (Linux); 0 elsewhere."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def measure_memory(prepared: Path) -> None:
    """Child process: embed the shop once and print peak memory."""
    peak, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.05):
            peak = max(peak, private_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    with tempfile.TemporaryDirectory() as out, quiet():
        shelf = embed_shop(open_shop(prepared), load_encoder("compact"), Path(out) / "shelf")
    stop.set()
    watcher.join()
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory, {len(shelf):6d} images: {whole / 1024:.0f} MB in all, {peak / 2**20:.0f} MB private")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", nargs="?", type=Path, help="shop folder whose photos are used")
    parser.add_argument("--images", type=int, default=960, help="images a round")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[1_000, 20_000], help="sizes for peak memory"
    )
    parser.add_argument("--no-memory", action="store_true", help="throughput only")
    parser.add_argument("--measure-memory", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure_memory:
        measure_memory(given.measure_memory)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for count in [] if given.no_memory else given.memory:
            with quiet():
                prepared = make_shop(given.shop, count, folder).path
            command = [sys.executable, __file__, "--measure-memory", str(prepared)]
            subprocess.run(command, check=True, env=dict(os.environ))
        with quiet():
            throughput(make_shop(given.shop, given.images, folder), folder)


if __name__ == "__main__":
    main()
