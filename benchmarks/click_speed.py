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
    model = ClickModel(ClickConfig(interest="din", mode="id", unknown=a.unknown), sizes, a.seed).train()
    config = ClickTrainConfig(batch=a.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.rate, weight_decay=0.0, fused=True)
    parts = train.epoch(a.batch, np.random.default_rng(a.seed))
    g = torch.Generator().manual_seed(a.seed)
    _step(model, optimiser, train.make(parts[0]), config, g)  # everything loaded and allocated before the clock
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--longest", type=int, default=50)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unknown", type=float, default=0.0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.child:
        print(json.dumps(child(a)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
