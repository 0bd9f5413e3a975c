"""Click models on the demo shop, where the true probability of every click is known (made data).

    python benchmarks/clicks_demo.py SHOP --shelf NAME=DIR [NAME=DIR ...] --encoder PATH --work DIR [--seeds 3]

Test: the newest tenth of the pages. Each line is the mean prediction of its seeds, beside the AUC of the true model on
the same rows. For lines with content: how far impressions can be foretold from the vectors (R2), how far often shown
products lie from seldom shown ones, before and after the network in the model, and GAUC on the seldom shown half.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.evaluation.clicks import Scored, auc_by_users, auc_difference, gauc, gauc_difference
from moonshelf.evaluation.leakage import head_tail_distance, popularity_leakage
from moonshelf.ranking.apply import Ranker, train_ranker
from moonshelf.ranking.apply import open_ranker as opened
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.content import Content, query_vectors
from moonshelf.ranking.debias import DebiasConfig, categories, find_ends, impressions
from moonshelf.ranking.history import build_history
from moonshelf.ranking.parts import parts_of
from moonshelf.ranking.rows import from_impressions
from moonshelf.ranking.train import ClickTrainConfig
from moonshelf.shelf import Shelf
from moonshelf.shop.shop import open_shop

BASE = RankConfig().model
LINES = {
    "ID-only": replace(BASE, interest="none", mode="id"),
    "DIN, ids": replace(BASE, interest="din", mode="id"),
    "CUBE": BASE,
    "CUBE + debiasing, pull": replace(BASE, debias=64),
    "CUBE + debiasing, push": replace(BASE, debias=64),
    "CUBE + adapter": replace(BASE, adapter=64),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--shelf", nargs="+", required=True, metavar="NAME=DIR[,ENCODER]")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--weight", type=float, default=0.3, help="of the contrast")
    parser.add_argument("--only", nargs="+", default=[*LINES], choices=[*LINES])
    parser.add_argument("--tune", action="store_true", help="report on val")
    a = parser.parse_args()
    shop = open_shop(a.shop, cache=a.work / "shop")
    history = build_history(shop)
    part = "val" if a.tune else "test"
    parts = parts_of(shop, history, RankConfig())
    rows, label = parts[part], parts[part].clicked()
    truth = true_probability(a.shop, shop, history, rows.page)
    shown = impressions(parts["train"], len(history.items))
    seldom = shown[rows.item] <= np.median(shown[rows.item])
    found = {"the true model": truth}
    told: list[str] = []
    for name, place in (pair.split("=", 1) for pair in a.shelf):
        path, _, encoder = place.partition(",")
        shelf = Shelf.open(Path(path))
        model = CompactEncoder.untrained() if encoder == "compact" else load_encoder(encoder or path)
        if model.version != shelf.encoder_version:
            raise SystemExit(
                f"{path} is of encoder {shelf.encoder_version}, and {encoder or path} is {model.version}"
            )
        queries = query_vectors(history, model, shop, a.work / f"queries-{name}", shelf.dim)
        content = Content(shelf, history, queries)
        for line in a.only:
            config = LINES[line]
            title = line if config.mode == "id" else f"{line}, {name}"
            if title in found:
                continue
            scores = []
            for seed in range(a.seeds):
                direction = "push" if "push" in line else "pull"
                train = ClickTrainConfig(
                    epochs=a.epochs,
                    batch=a.batch,
                    decay=RankConfig().train.decay,
                    debias=DebiasConfig(weight=a.weight, direction=direction),
                )
                work = a.work / f"{title} {seed}".replace(" ", "-").replace(",", "")
                own = None if config.mode == "id" else content
                folder = train_ranker(
                    shop,
                    history,
                    own,
                    work,
                    RankConfig(model=config, train=train, calibrate="none"),
                    seed=seed,
                )
                ranker = opened(folder, shop, history, own)
                scores.append(ranker.raw(rows, placed=True))
            found[title] = np.mean(scores, axis=0)
            if config.mode != "id":
                told.append(f"{title:<40}{leaks(ranker, shown)}")
    scored = {name: Scored(s.astype(np.float64), label, rows.units()) for name, s in found.items()}
    print(f"\n{part}: {len(rows):,} impressions (made), {int(label.sum())} clicks, {a.seeds} seeds")
    print(f"{'':<40}{'AUC':<24}{'true AUC minus it':<26}{'GAUC':<24}{'GAUC, seldom shown half':<24}")
    for name, one in scored.items():
        gap = auc_difference(scored["the true model"], one)
        tail = gauc(one.take(seldom))
        print(f"{name:<40}{auc_by_users(one)!s:<24}{gap.signed():<26}{gauc(one)!s:<24}{tail!s:<24}")
    for first in ("CUBE, " + a.shelf[0].partition("=")[0], "DIN, ids"):
        if first in scored:
            print(f"\n{first!r} minus the line, paired by user")
            for name, one in scored.items():
                if name not in (first, "the true model"):
                    auc, ga = auc_difference(scored[first], one), gauc_difference(scored[first], one)
                    print(f"{name:<40}AUC {auc.signed():<28}GAUC {ga.signed()}")
    print(f"\n{'last seed':<40}{'R2 of impressions from vectors, shelf -> model':<58}head-tail distance")
    print("\n".join(told))
    return 0


def leaks(ranker: Ranker, shown: np.ndarray) -> str:
    """Leakage and head-tail distance of the shelf's vectors and of those that the model sees."""
    assert ranker.content is not None
    products = np.arange(len(ranker.history.items))
    vectors, there = ranker.content.fetch(products)
    with torch.no_grad():
        moved = ranker.model.debiased(torch.from_numpy(vectors)).numpy()
    group = categories(ranker.features, len(products))
    ends = find_ends(shown, group, there)
    out = []
    for v in (vectors, moved):
        distance = head_tail_distance(v, ends.head, ends.tail, ends.group_head, ends.group_tail)
        out.append((popularity_leakage(v[there], shown[there]), distance))
    (a, d), (b, e) = out
    return f"{f'{a} -> {b}':<58}{d:.3f} -> {e:.3f}"


def true_probability(folder: Path, shop: object, history: object, pages: np.ndarray) -> np.ndarray:
    """The generator's own click probability of the rows of some pages, in the order of the rows."""
    rows = from_impressions(shop, history)  # type: ignore[arg-type]
    shown = shop.impressions.with_row_index("seen")  # type: ignore[attr-defined]
    truth = pl.read_parquet(folder / "truth" / "impressions.parquet")
    keys = ["query_id", "position", "product_id"]
    joined = shown.join(truth.select(*keys, "click_probability"), on=keys, how="left", maintain_order="left")
    p = joined.sort("time", "seen")["click_probability"].to_numpy()
    assert len(p) == len(rows)
    return np.asarray(p[np.isin(rows.page, pages)])


if __name__ == "__main__":
    sys.exit(main())
