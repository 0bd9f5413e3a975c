"""Click models on real purchases: which products will people who bought before buy next?

    python benchmarks/purchases.py SHOP --shelf NAME=DIR [NAME=DIR ...] --work DIR [--cut 2020-07-01] [--seeds 3]

Test: purchases from the cut on of users who bought before it, each beside 20 products drawn by their popularity from
the cut on (seed 0, the list is written to WORK/test.parquet). Pasts end at the cut. Models learn from purchases before
the cut, each beside negatives drawn from what was bought within 30 days of it; the last tenth of those is val.
Purchases are not clicks, and negatives are drawn, not shown: GAUC says how well purchases are told from popular
products, and nothing about an online test.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from moonshelf.evaluation.clicks import Scored, gauc, gauc_difference
from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.content import Content
from moonshelf.ranking.features import FAMES, Features, Popularity, build_features, fame
from moonshelf.ranking.history import QUERY, History, build_history
from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, Sizes
from moonshelf.ranking.rows import DAY, Rows, from_acts
from moonshelf.ranking.train import ClickTrainConfig, score, train_clicks
from moonshelf.shelf import Shelf
from moonshelf.shop.shop import open_shop

LINES: dict[str, tuple[str, str]] = {
    "ids alone, tower": ("none", "id"),
    "ids alone, DIN": ("din", "id"),
    "ids and features, DIN": ("din", "id"),
    "MUSE": ("muse", "both"),
    "CUBE, content": ("cube", "content"),
    "CUBE": ("cube", "both"),
}
LONGEST = 50


def parts_of(history: History, cut: int, negatives: int) -> tuple[Rows, Rows, Rows]:
    """Rows to learn from, to choose on, and to report: see the module."""
    early = from_acts(
        history, actions=("purchase",), negatives=negatives, seed=1, popular_before=cut, around=30 * DAY
    )
    early = early.take(early.time < cut)
    begin = np.quantile(np.unique(early.time), 0.9)
    late = from_acts(history, actions=("purchase",), negatives=20, seed=0, since=cut, popular_since=cut)
    before = history.until(late.user, np.full(len(late), cut, dtype=np.int64))
    bought = before > history.start[late.user]
    late = late.take(bought)
    until = before[bought]
    return early.take(early.time < begin), early.take(early.time >= begin), replace(late, until=until)


def crafted(rows: Rows, history: History, features: Features, content: Content) -> np.ndarray:
    """A dozen features of a row for gradient boosting: similarities to the past, categories and prices shared, fame."""
    vectors, there = content.fetch(np.arange(len(history.items)))
    famous = fame(Popularity.of(history), rows)
    columns = [c for c in features.item]
    out = np.full((len(rows), 6 + 2 * len(columns) + 2), np.nan)
    for i in range(len(rows)):
        past = history.what[max(history.start[rows.user[i]], rows.until[i] - LONGEST) : rows.until[i]]
        past = past[past < len(history.items)]
        item = rows.item[i]
        out[i, 0] = famous[i]
        out[i, 1] = len(past)
        known = past[there[past]]
        if len(known) and there[item]:
            s = np.sort(vectors[known] @ vectors[item])[::-1]
            out[i, 2:6] = s.mean(), s[0], s[:3].mean(), s[: max(1, len(s) // 4)].mean()
        for at, column in enumerate(columns):
            if len(past) and column.values[item]:
                out[i, 6 + 2 * at] = (column.values[past] == column.values[item]).mean()
                out[i, 7 + 2 * at] = column.values[item]
    return np.nan_to_num(out, nan=-1.0)  # no past, no vector, no category


def learned(
    line: str,
    parts: tuple[Rows, Rows, Rows],
    history: History,
    features: Features,
    content: Content,
    counts: Popularity,
    folder: Path,
    seed: int,
    a: argparse.Namespace,
) -> np.ndarray:
    """Scores of the rows to report by one model of one seed."""
    interest, mode = LINES[line]
    config = ClickConfig(
        interest=interest, mode=mode, labels=("purchase",), hidden=(64, 32), dropout=a.dropout, longest=LONGEST,
    )  # type: ignore[arg-type]  # fmt: skip
    own = None if mode == "id" else content
    bare = line.startswith("ids alone")  # who and what: no category, price, age, popularity
    read = Features((), ()) if bare else features
    columns = [None if bare else fame(counts, rows)[:, None] for rows in parts]
    train, val, test = (
        ClickBatches(rows, history, read, own, longest=LONGEST, row_columns=column)
        for rows, column in zip(parts, columns, strict=True)
    )
    sizes = Sizes(
        len(history.items) + len(history.queries), len(history.users), tuple(c.size for c in read.item),
        tuple(c.size for c in read.user), () if bare else (len(FAMES) + 1,), 0 if own is None else content.dim,
        len(history.items), read.group,
    )  # fmt: skip
    model = ClickModel(config, sizes, seed)
    if model.taste is not None:
        acts = history.what[(history.kind < QUERY) & (history.time < parts[1].time.min())]
        model.taste.fit(read.item_table, acts, None if own is None else own.fetch)
    learn = ClickTrainConfig(batch=a.batch, epochs=a.epochs, patience=2, decay=a.decay)
    train_clicks(
        model, train, val, learn, folder / str(seed), seed=seed, mark=f"{a.cut} {content.version} {a.decay}"
    )
    return score(model, test)[:, 0]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--shelf", nargs="+", required=True, metavar="NAME=DIR")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cut", default="2020-07-01")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--decay", type=float, default=0.3)
    parser.add_argument("--only", nargs="+", default=[*LINES], choices=[*LINES])
    a = parser.parse_args()
    shop = open_shop(a.shop)
    history = build_history(shop)
    features = build_features(shop, history)
    cut = int(datetime.fromisoformat(a.cut).replace(tzinfo=UTC).timestamp() * 1_000_000)
    train, val, test = parts_of(history, cut, a.negatives)
    a.work.mkdir(parents=True, exist_ok=True)
    ids = pl.Series(history.items)
    pl.DataFrame(
        {
            "user": pl.Series(history.users)[test.user],
            "product": ids[test.item],
            "bought": test.clicked("purchase"),
        }
    ).write_parquet(a.work / "test.parquet")
    label, user = test.clicked("purchase"), test.user
    seen = np.isin(test.item, train.item[train.clicked("purchase")])
    print(
        f"{len(train):,} rows to learn from, {len(val):,} to choose on, {len(test):,} to report,"
        f" of {len(np.unique(user))} users"
    )
    counts = Popularity.of(history)
    found: dict[str, np.ndarray] = {}
    popular = np.bincount(history.what[history.time < cut], minlength=len(history.items))
    found["popularity before the cut"] = popular[test.item].astype(float)
    shelves = dict(pair.split("=", 1) for pair in a.shelf)
    for name, path in shelves.items():
        content = Content(Shelf.open(path), history)
        x = crafted(test, history, features, content)
        found[f"mean similarity, {name}"] = x[:, 2]
        boosted = []
        fit = crafted(train, history, features, content)
        for seed in range(a.seeds):
            model = HistGradientBoostingClassifier(
                max_iter=150, learning_rate=0.05, max_leaf_nodes=15, random_state=seed, early_stopping=False
            )
            model.fit(fit, train.clicked("purchase"))
            boosted.append(model.predict_proba(x)[:, 1])
        found[f"gradient boosting, {name}"] = np.mean(boosted, axis=0)
        for line in a.only:
            mode = LINES[line][1]
            if mode == "id" and f"{line}" in found:
                continue
            folder = a.work / f"{line} {name}".replace(" ", "-").replace(",", "")
            scores = [
                learned(line, (train, val, test), history, features, content, counts, folder, seed, a)
                for seed in range(a.seeds)
            ]
            found[line if mode == "id" else f"{line}, {name}"] = np.mean(scores, axis=0)
    rows = {name: Scored(np.asarray(s, dtype=np.float64), label, user) for name, s in found.items()}
    print(f"\n{'':<34}{'GAUC':<24}{'on products unseen in training':<32}")
    for name, own in rows.items():
        print(f"{name:<34}{gauc(own)!s:<24}{_unseen(own, seen)!s:<32}")
    for first in [name for name in rows if name.startswith("CUBE") and name.endswith([*shelves][-1])]:
        print(f"\n{first!r} minus the line, paired by user")
        for name in rows:
            if name != first:
                print(f"  {name:<34}{gauc_difference(rows[first], rows[name]).signed()}")
    return 0


def _unseen(own: Scored, seen: np.ndarray) -> str:
    part = own.take(~seen)
    try:
        return str(gauc(part))
    except ValueError:
        return "-"


if __name__ == "__main__":
    sys.exit(main())
