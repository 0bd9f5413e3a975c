"""Five million events into the pasts that click models read: seconds and peak memory.

    python benchmarks/click_history.py [--work DIR] [--events 5000000] [--rounds 3]

A process makes a shop (made data: 200,000 users, 300,000 products, Zipf popularity, four in five events a click) and
prepares it, which is not counted. Fresh processes then open the prepared shop and run ``build_history`` and
``save_history``; reading the event table counts, as it happens in there. Peak memory is that of the whole process
(``ru_maxrss``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf.progress import quiet
from moonshelf.ranking.history import build_history, load_history, save_history
from moonshelf.shop.shop import open_shop

USERS, PRODUCTS = 200_000, 300_000


def make_shop(folder: Path, events: int) -> None:
    """A raw shop, then the prepared one."""
    rng = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir(parents=True)
    ids = pl.Series("product_id", np.arange(PRODUCTS)).cast(pl.String)
    pl.DataFrame({"product_id": "p" + ids, "title": "product " + ids}).write_parquet(raw / "products.parquet")
    share = np.cumsum(1 / np.arange(1, PRODUCTS + 1))
    item = rng.permutation(PRODUCTS)[
        np.searchsorted(share / share[-1], rng.random(events)).clip(0, PRODUCTS - 1)
    ]
    seconds = rng.integers(0, 90 * 86_400, events) + 1_700_000_000
    pl.DataFrame(
        {
            "user_id": "u" + pl.Series(rng.integers(0, USERS, events)).cast(pl.String),
            "time": pl.from_epoch(pl.Series(seconds), time_unit="s").dt.replace_time_zone("UTC"),
            "product_id": "p" + pl.Series(item).cast(pl.String),
            "action": pl.Series(
                np.array(["click", "cart", "purchase"])[rng.choice(3, events, p=[0.8, 0.15, 0.05])]
            ),
        }
    ).write_parquet(raw / "events.parquet")
    with quiet():
        open_shop(raw, cache=folder / "shop")


def child(folder: Path) -> None:
    with quiet():
        shop = open_shop(folder / "shop")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    wall, cpu = time.perf_counter(), time.process_time()
    history = build_history(shop)
    built = time.perf_counter() - wall
    with tempfile.TemporaryDirectory(dir=folder) as out:
        save_history(history, Path(out) / "history", shop)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        loaded = load_history(Path(out) / "history", shop)
        assert np.array_equal(loaded.what, history.what)
    told = {"wall": wall, "build": built, "cpu": cpu, "peak": peak / 1e9, "before": before / 1e9}
    print(json.dumps({**told, "entries": len(history.what), "users": len(history.users)}))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.make:
        make_shop(a.make, a.events)
        return 0
    if a.child:
        child(a.child)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = (a.work or Path(temporary)).absolute() / f"events-{a.events}"
        start = [sys.executable, __file__, "--events", str(a.events)]
        if not folder.exists():
            subprocess.run([*start, "--make", str(folder)], check=True)
        told = []
        for _ in range(a.rounds):
            done = subprocess.run(
                [*start, "--child", str(folder)], check=True, capture_output=True, text=True
            )
            told.append(json.loads(done.stdout.splitlines()[-1]))
        m = {key: statistics.median(t[key] for t in told) for key in told[0]}
        print(
            f"{a.events:,} made events, {m['users']:,.0f} users, {m['entries']:,.0f} entries, {os.cpu_count()} cores: "
            f"{m['wall']:.1f} s ({m['build']:.1f} to build; {m['cpu']:.1f} s of CPU), peak memory {m['peak']:.2f} GB "
            f"({m['before']:.2f} before); medians of {a.rounds}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
