"""What calibration does to a click model that was trained on a tenth of the non-clicks. Made data: the demo shop.

    python benchmarks/calibration.py DEMO_SHOP [--keep 0.1]

By time: features from the first 40% of the log, gradient boosting learns on the next 30% (all clicks, a share of the
rest), the maps are fitted on the next 15%, figures are of the last 15%. Intervals draw users.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from moonshelf.evaluation.clicks import Scored, calibration_error, gauc, log_loss
from moonshelf.evaluation.metrics import paired_difference
from moonshelf.ranking.calibrate import fit_calibration, undo_sampling
from moonshelf.shop.demo.pages import read_pages
from moonshelf.types import Interval
from off_policy_demo import features


def by_users(rows: Scored, metric: Callable[[Scored], float], draws: int = 200) -> Interval:
    """Any metric with users drawn anew."""
    rng = np.random.default_rng(0)
    order = np.argsort(rows.user, kind="stable")
    own = np.split(order, np.flatnonzero(np.diff(rows.user[order])) + 1)
    found = [
        metric(rows.take(np.concatenate([own[i] for i in rng.integers(0, len(own), len(own))])))
        for _ in range(draws)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(metric(rows), float(low), float(high), len(own))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--keep", type=float, default=0.1)
    a = parser.parse_args()
    pages = read_pages(a.shop)
    log = pl.read_parquet(a.shop / "impressions.parquet")
    page = {q: g for g, q in enumerate(pages.ids)}
    row = {p: n for n, p in enumerate(pl.read_parquet(a.shop / "products.parquet")["product_id"])}
    at = np.array([page[q] for q in log["query_id"]])
    item = np.array([row[p] for p in log["product_id"]])
    clicked, time = log["clicked"].to_numpy().astype(bool), pages.time[at]
    cuts = [np.sort(time)[int(len(time) * share)] for share in (0.4, 0.7, 0.85)]
    x = np.column_stack([features(a.shop, pages, at, item, cuts[0]), log["position"].to_numpy()])
    part = np.searchsorted(np.array(cuts), time, side="right")
    kept = (part == 1) & (clicked | (np.random.default_rng(0).random(len(at)) < a.keep))
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, random_state=0, early_stopping=False
    ).fit(x[kept], clicked[kept])
    val, test = part == 2, part == 3
    raw = model.predict_proba(x)[:, 1]
    found = {"as trained": raw[test], "sampling undone": undo_sampling(raw[test], a.keep)}
    for kind in ("platt", "isotonic"):
        found[kind] = fit_calibration(kind, raw[val], clicked[val]).apply(raw[test])  # type: ignore[arg-type]
    label, user = clicked[test], pages.user[at[test]]
    print(
        f"learns on {kept.sum():,} rows, maps on {val.sum():,} ({clicked[val].sum():,} clicks), figures of"
        f" {test.sum():,} rows ({label.sum():,} clicks, {len(np.unique(user))} users); 95% over users\n"
        f"{'':<17}{'log loss':<24}{'minus sampling undone':<27}{'ECE':<24}{'said / clicked':<24}{'GAUC':<24}"
    )

    def loss(p: np.ndarray) -> np.ndarray:
        p = np.clip(p, 1e-7, 1 - 1e-7)
        return -np.log(np.where(label, p, 1 - p))

    for name, score in found.items():
        rows = Scored(score, label, user)
        gap = paired_difference(loss(score), loss(found["sampling undone"]), groups=user.tolist())
        said = by_users(rows, lambda r: float(r.score.mean() / r.label.mean()))
        error = by_users(rows, calibration_error)
        print(f"{name:<17}{log_loss(rows)!s:<24}{f'{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]':<27}"
              f"{error!s:<24}{said!s:<24}{gauc(rows)!s:<24}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
