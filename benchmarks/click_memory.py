"""Resident memory while click training looks up vectors in a memory-mapped shelf of a million rows.

    python benchmarks/click_memory.py --work DIR [--rows 1000000] [--dim 128] [--batches 200] [--distinct 2000]

The vectors are random (made data), written by the shelf's own writer. A fresh process opens the shelf and fetches
batches of distinct products, drawn evenly from all rows (the worst case: neighbours share a page by chance alone) or by
Zipf over a random order. Counted from ``/proc/self/smaps_rollup`` and ``smaps`` (Linux): *anonymous* is memory of the
process alone; *mapped* is the part of the vectors' file that is mapped into it at the moment, pages of the system's
file cache that it may take back at any time, counted as resident all the same. A row of 512 bytes brings a page of
4,096, and the kernel maps cached pages around it: both are told. The peak is ``VmHWM``, counted from the first batch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from moonshelf.arrays import unit
from moonshelf.ranking.content import Content
from moonshelf.ranking.history import History
from moonshelf.shelf import Shelf
from moonshelf.shelf.shards import SHARD_ROWS, Shard, Unfinished

MB = 1_000_000


def write(folder: Path, rows: int, dim: int) -> None:
    """A shelf of random unit rows."""
    rng = np.random.default_rng(0)
    unfinished = Unfinished(folder, "made", resume=False)
    count = -(-rows // SHARD_ROWS)
    for number in range(count):
        begin = number * SHARD_ROWS
        n = min(SHARD_ROWS, rows - begin)
        ids = [
            {
                "product_id": f"p{begin + i}", "title": f"product {begin + i}", "category": None, "price": None,
                "image_id": None, "content": "",
            }
            for i in range(n)
        ]  # fmt: skip
        vectors = unit(rng.normal(size=(n, dim)).astype(np.float32))
        unfinished.write(number, Shard(vectors, np.ones(n, np.float32), ids, [], 0))
    info = {"key": "made", "dim": dim, "dtype": "f32", "encoder_version": "made", "use": [], "shop": "made"}
    unfinished.finish(count, info, {"stage": "shelf"})


def resident(file: Path) -> dict[str, float]:
    """MB now: of the process alone, and of the mapped file."""
    rollup = dict(
        line.split(":")
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
        if "kB" in line
    )
    mapped, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            mapped += int(line.split()[1])
    kib = {name: int(value.split()[0]) for name, value in rollup.items()}
    return {
        "all": kib["Rss"] * 1024 / MB,
        "anonymous": kib["Anonymous"] * 1024 / MB,
        "mapped": mapped * 1024 / MB,
    }


def child(folder: Path, batches: int, distinct: int, zipf: bool) -> None:
    """Fetch, and tell what was resident before and after."""
    shelf = Shelf.open(folder)
    n = len(shelf)
    none = np.zeros(0, np.int64)
    history = History(
        tuple(f"p{i}" for i in range(n)), (), (), none.astype(np.int32), none, none.astype(np.uint8), none
    )
    content = Content(shelf, history)
    rng = np.random.default_rng(1)
    order = rng.permutation(n)
    share = np.cumsum(1 / np.arange(1, n + 1))
    share /= share[-1]
    touched = np.zeros(n, bool)
    file = shelf.path / "vectors.bin"
    content.fetch(order[:1])
    shelf.let_go()
    before = resident(file)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    mapped = anonymous = 0.0
    for _ in range(batches):
        what = order[np.searchsorted(share, rng.random(distinct))] if zipf else rng.integers(0, n, distinct)
        what = np.unique(what)
        content.fetch(what)
        touched[what] = True
        now = resident(file)
        mapped, anonymous = max(mapped, now["mapped"]), max(anonymous, now["anonymous"])
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / MB
    row = shelf.dim * 4
    rows = np.flatnonzero(touched)
    pages = np.unique(np.concatenate((rows * row // 4096, (rows * row + row - 1) // 4096)))
    print(
        json.dumps(
            {
                "touched": len(rows) * row / MB, "pages": len(pages) * 4096 / MB,
                "mapped": mapped, "all": peak - before["all"], "anonymous": anonymous - before["anonymous"],
                "at_start": before["all"],
            }
        )
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--distinct", type=int, default=2000)
    parser.add_argument("--zipf", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        child(a.child, a.batches, a.distinct, a.zipf)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = (a.work or Path(temporary)).absolute() / f"shelf-{a.rows}-{a.dim}"
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            write(folder, a.rows, a.dim)
        size = (folder / "vectors.bin").stat().st_size / MB
        print(
            f"{a.rows:,} x {a.dim} random vectors, {size:,.0f} MB; {a.batches} batches of up to {a.distinct:,} rows"
        )
        for name, more in (("evenly", []), ("by Zipf", ["--zipf"])):
            command = [sys.executable, __file__, "--child", str(folder), *more]
            command += ["--batches", str(a.batches), "--distinct", str(a.distinct)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            told = json.loads(done.stdout.splitlines()[-1])
            print(
                f"drawn {name:<8} rows touched {told['touched']:6.1f} MB, their pages {told['pages']:6.1f} MB; "
                f"resident memory grew by {told['all']:6.1f} MB at its peak; mapped between batches at most "
                f"{told['mapped']:6.1f} MB, anonymous memory {told['anonymous']:5.1f} MB more "
                f"(the process had {told['at_start']:,.0f} MB before, with ids)"
            )
            print(
                f"    beyond the rows touched: {told['all'] - told['touched']:.1f} MB, beyond their pages: "
                f"{told['all'] - told['pages']:.1f} MB, of the process alone: {told['anonymous']:.1f} MB"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
