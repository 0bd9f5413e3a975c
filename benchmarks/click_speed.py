"""DIN of ours against FuxiCTR's own, the same made rows, sizes, batch and optimiser; and a longer past.

    python benchmarks/click_speed.py --peer PEER_PYTHON --work DIR [--rows 500000] [--rounds 5] [--seeds 3]
    python benchmarks/click_speed.py --history

PEER_PYTHON is a Python with ``fuxictr==2.3.10``. The rows are made (click_made.py): 100,000 products in 500
categories, 50,000 users, a past of 50, and ``--shown`` rows a moment (real logs of impressions have about ten; a past
is then shared by them, which is what we make use of, so ``--shown 1`` is measured as well). Both: embeddings of 16,
attention [64, 32], tower [256, 128, 64], batch 2048, Adam 1e-3, one epoch, float32. Each run is a process of its own,
in turn. Rows a second of wall clock and of CPU time, medians; AUC on the last tenth, seed by seed; the ratio last.

``--history``: time a row of a training step with a past of 1,000 over one of 50, for several interest models.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from click_made import make

SIZES = {"past": 50, "users": 50_000, "products": 100_000, "categories": 500}
Told = dict[str, float]


def child(a: argparse.Namespace) -> Told:
    """Our side: the loader, step and scoring that train_clicks uses."""
    import torch

    from moonshelf.evaluation.clicks import Scored, user_aucs
    from moonshelf.ranking.batches import ClickBatches
    from moonshelf.ranking.features import Column, Features
    from moonshelf.ranking.history import History
    from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, Sizes
    from moonshelf.ranking.rows import Rows
    from moonshelf.ranking.train import ClickTrainConfig, _ahead, _step, score

    torch.set_num_threads(a.threads)
    made = np.load(a.child, allow_pickle=False)
    category, start, test = made["category"], made["start"], made["test"]
    n, users = len(test), len(start) - 1
    history = History(
        tuple(map(str, range(len(category)))), (), tuple(map(str, range(users))),
        made["what"], made["time"], np.zeros(len(made["what"]), np.uint8), start,
    )  # fmt: skip
    label = np.zeros((n, 3), bool)
    label[:, 0] = made["label"]
    rows = Rows(
        made["user"], made["item"], np.full(n, -1, np.int32), made["when"], made["until"], label,
        np.zeros(n, np.int16), np.full(n, np.nan, np.float32), made["page"], np.ones(n, np.float32),
    )  # fmt: skip
    del made
    features = Features((Column("item.category", int(category.max()) + 1, category),), ())
    train, held = (
        ClickBatches(rows.take(np.flatnonzero(part)[: a.most or None]), history, features, longest=a.longest)
        for part in (~test, test)
    )
    sizes = Sizes(len(category), users, item=(int(category.max()) + 1,))
    model = ClickModel(
        ClickConfig(interest="din", mode="id", unknown=a.unknown, taste=a.taste), sizes, a.seed
    ).train()
    config = ClickTrainConfig(batch=a.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=0.0, fused=True)
    parts = train.epoch(a.batch, np.random.default_rng(a.seed))
    g = torch.Generator().manual_seed(a.seed)
    _step(
        model, optimiser, train.make(parts[0]), config, g
    )  # everything loaded and allocated before the clock
    wall, cpu = time.perf_counter(), time.process_time()
    losses = [_step(model, optimiser, batch, config, g) for batch in _ahead(train, parts)]
    train_wall, train_cpu = time.perf_counter() - wall, time.process_time() - cpu
    wall, cpu = time.perf_counter(), time.process_time()
    scores = score(model, held)[:, 0]
    told = {
        "score": len(held) / (time.perf_counter() - wall), "score_cpu": len(held) / (time.process_time() - cpu)
    }  # fmt: skip
    everybody = Scored(scores, held.rows.clicked(), np.zeros(len(held), np.int64))
    tables = sum(table.weight.numel() for table in model.tables())
    return told | {
        "train": len(train) / train_wall, "train_cpu": len(train) / train_cpu,
        "auc": float(user_aucs(everybody)[1][0]), "loss": float(np.mean(losses[-20:])),
        "parameters": sum(p.numel() for p in model.parameters()) + tables,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def history(a: argparse.Namespace) -> None:
    """Milliseconds a row of a training step, every model with a past of 50 and of 1,000; vectors are random."""
    import torch

    from moonshelf.ranking.batches import ClickBatches
    from moonshelf.ranking.features import Features
    from moonshelf.ranking.history import History
    from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, InterestName, Sizes
    from moonshelf.ranking.rows import Rows
    from moonshelf.ranking.train import ClickTrainConfig, _step

    torch.set_num_threads(a.threads)
    products, users, dim = 20_000, 256, 64
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(products, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    class Vectors:
        """Content of products from memory: what is timed is the model."""

        dim, version = 64, "made"

        def fetch(self, what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            there = what >= 0
            return np.where(there[:, None], vectors[np.maximum(what, 0)], 0), there

    def seconds(interest: InterestName, longest: int, shown: int) -> tuple[float, float]:
        log = History(
            tuple(map(str, range(products))), (), tuple(map(str, range(users))),
            rng.integers(0, products, users * longest).astype(np.int32), np.arange(users * longest),
            np.zeros(users * longest, np.uint8), np.arange(users + 1) * longest,
        )  # fmt: skip
        n = 256
        user = np.repeat(np.arange(-(-n // shown)), shown)[:n].astype(np.int32)
        rows = Rows(
            user, rng.integers(0, products, n).astype(np.int32), np.full(n, -1, np.int32),
            np.full(n, users * longest + 1), (user.astype(np.int64) + 1) * longest, rng.random((n, 3)) < 0.5,
            np.zeros(n, np.int16), np.full(n, np.nan, np.float32), np.arange(n), np.ones(n, np.float32),
        )  # fmt: skip
        content = None if interest == "din" else Vectors()
        batches = ClickBatches(rows, log, Features((), ()), content, longest=longest)  # type: ignore[arg-type]
        config = ClickConfig(interest=interest, mode="id" if content is None else "both", longest=longest)
        model = ClickModel(config, Sizes(products, users, dim=0 if content is None else dim)).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        g = torch.Generator().manual_seed(0)
        walls, cpus = [], []
        for turn in range(a.rounds + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            _step(model, optimiser, batches.make(np.arange(n)), ClickTrainConfig(), g)
            if turn:
                walls.append((time.perf_counter() - wall) / n)
                cpus.append((time.process_time() - cpu) / n)
        return statistics.median(walls), statistics.median(cpus)

    for shown in (10, 1):
        for interest in ("din", "sim-content", "muse", "cube"):
            short, long = (seconds(interest, longest, shown) for longest in (50, 1000))  # type: ignore[arg-type]
            print(
                f"{shown:>2} rows a moment, {interest:<11} past 50: {short[1] * 1e6:6.0f} us of CPU a row, 1,000: "
                f"{long[1] * 1e6:6.0f}; wall {short[0] * 1e6:6.0f} and {long[0] * 1e6:6.0f}; "
                f"ratio of CPU time {long[1] / short[1]:.1f}"
            )


def compare(a: argparse.Namespace) -> None:
    """Both sides in turn, on the same file; the ratio last."""
    a.work.mkdir(parents=True, exist_ok=True)
    rows = a.work / f"rows-{a.rows}-{a.shown}.npz"
    if not rows.exists():
        make(rows, rows=a.rows, shown=a.shown, **SIZES)
    here = Path(__file__).parent
    sides = {
        "ours": [sys.executable, str(here / "click_speed.py"), "--child", str(rows)],
        "theirs": [a.peer, str(here / "click_fuxictr.py"), str(rows)],
    }
    told: dict[str, list[Told]] = {side: [] for side in sides}
    for turn in range(a.rounds):
        for side, command in sides.items():
            more = ["--seed", str(turn % a.seeds), "--threads", str(a.threads), "--batch", str(a.batch)]
            if side == "ours" and a.taste:
                more.append("--taste")
            done = subprocess.run(
                [*command, *more, "--most", str(a.most)], check=True, capture_output=True, text=True
            )
            told[side].append(json.loads(done.stdout.splitlines()[-1]))
            print(turn % a.seeds, side, done.stdout.splitlines()[-1], flush=True)
    middle = {
        side: {key: statistics.median(t[key] for t in found) for key in found[0]}
        for side, found in told.items()
    }
    print(f"{a.rows:,} made rows, {a.shown} a moment, {a.threads} threads, medians of {a.rounds}")
    for side, m in middle.items():
        aucs = ", ".join(f"{t['auc']:.4f}" for t in told[side][: a.seeds])
        print(
            f"{side:<6} {int(m['parameters']):,} parameters; rows a second of wall (CPU) time: training "
            f"{m['train']:,.0f} ({m['train_cpu']:,.0f}), scoring {m['score']:,.0f} ({m['score_cpu']:,.0f}); test AUC "
            f"by seed {aucs}; {m['rss']:,.0f} MB at most"
        )
    pairs = list(zip(told["ours"][: a.seeds], told["theirs"][: a.seeds], strict=True))
    print("AUC, ours minus theirs, by seed: " + ", ".join(f"{x['auc'] - y['auc']:+.4f}" for x, y in pairs))
    ratio = {key: middle["ours"][key] / middle["theirs"][key] for key in middle["ours"]}
    print(
        f"ours over theirs: training {ratio['train']:.2f} of wall, {ratio['train_cpu']:.2f} of CPU time; scoring "
        f"{ratio['score']:.2f}, {ratio['score_cpu']:.2f}; memory {ratio['rss']:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", default="", help="a Python with fuxictr")
    parser.add_argument("--work", type=Path, default=Path("click_speed"))
    parser.add_argument("--history", action="store_true")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--shown", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--longest", type=int, default=50)
    parser.add_argument("--most", type=int, default=0, help="rows to learn from and to score; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unknown", type=float, default=0.0)
    parser.add_argument(
        "--taste", action="store_true", help="ours with what it has beyond DIN (models/taste.py)"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        print(json.dumps(child(a)))
    elif a.history:
        history(a)
    elif a.peer:
        compare(a)
    else:
        parser.error("give --peer or --history")
    return 0


if __name__ == "__main__":
    sys.exit(main())
