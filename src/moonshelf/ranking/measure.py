"""How good a click model is on rows that it has not seen, beside popularity, and for which rows it is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from moonshelf.evaluation.clicks import (
    Scored,
    auc_by_users,
    by_bucket,
    calibration_curve,
    calibration_error,
    gauc,
    gauc_difference,
    hit_rate,
    log_loss,
    ndcg,
)
from moonshelf.ranking.apply import Ranker
from moonshelf.ranking.features import AGES, age, fame
from moonshelf.ranking.rows import Rows
from moonshelf.types import Interval

DECILES = 10
LEAST = 10  # users of a bucket


@dataclass(frozen=True, slots=True)
class RankResult:
    """Everything one evaluation found out.

    Attributes:
        metrics: GAUC, AUC, log loss, NDCG@10, hit rate@10 (@3 where lists are shorter) of the model; ``gauc without
            places`` orders as a ranker would, wherever rows were shown.
        popularity: GAUC and NDCG@10 of ordering by how many acts a product had had by then. difference: ours minus
            that.
        error: expected calibration error; curve: predicted, seen, rows a bin.
        buckets: GAUC by decile of popularity, by age of the product, by category, on products seen in training or not.
        protocol: rows, users, labels, whether negatives were drawn.
    """

    metrics: dict[str, Interval]
    popularity: dict[str, Interval]
    difference: Interval
    error: float
    curve: tuple[np.ndarray, np.ndarray, np.ndarray]
    buckets: dict[str, Mapping[object, Interval]]
    protocol: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        told, seen, n = self.curve
        return {
            "metrics": {name: i.as_dict() for name, i in self.metrics.items()},
            "popularity": {name: i.as_dict() for name, i in self.popularity.items()},
            "gauc_minus_popularity": self.difference.as_dict(),
            "calibration_error": self.error,
            "calibration_curve": [
                {"predicted": float(a), "seen": float(b), "rows": int(c)}
                for a, b, c in zip(told, seen, n, strict=True)
            ],
            "gauc_by": {
                name: {str(key): i.as_dict() for key, i in found.items()}
                for name, found in self.buckets.items()
            },
            "protocol": self.protocol,
        }

    def __str__(self) -> str:
        p = self.protocol
        what = "positives beside drawn negatives (made)" if p["made"] else "impressions"
        lines = [
            f"{p['rows']:,} {what} of {p['users']:,} users, {p['positives']:,} positives, 95% intervals over users",
            *(f"{name:<24}{found}" for name, found in self.metrics.items()),
            f"{'calibration error':<24}{self.error:.4f}",
            *(f"{'popularity, ' + name:<24}{found}" for name, found in self.popularity.items()),
            f"{'gauc minus popularity':<24}{self.difference.signed()}",
        ]
        for name, buckets in self.buckets.items():
            lines += ["", f"gauc by {name}", *(f"  {key!s:<34}{i}" for key, i in buckets.items())]
        return "\n".join(lines)


def measure(ranker: Ranker, train: Rows, rows: Rows, *, seed: int = 0) -> RankResult:
    """Score rows and say how well clicks were foreseen.

    Args:
        train: what the model learned from: which products it has seen there.
        rows: to report on.

    Raises:
        ValueError: no user has rows of both labels.
    """
    label, name = rows.clicked(ranker.model.config.labels[0]), ranker.model.config.labels[0]
    own = np.where(
        rows.user >= 0, rows.user, -1 - np.arange(len(rows.user))
    )  # nobody known: each row its own user
    placed = Scored(ranker.score(rows, placed=True).astype(np.float64), label, own)
    free = Scored(ranker.score(rows, placed=False).astype(np.float64), label, own)
    acts = np.bincount(ranker.history.what[ranker.history.kind < 3], minlength=len(ranker.history.items))
    popular = Scored(fame(ranker.history, rows).astype(np.float64), label, own)
    longest = int(np.unique(rows.page, return_counts=True)[1].max())
    k = 10 if longest > 10 else 3  # of ten shown, ten are always hit
    metrics = {
        "gauc": gauc(placed, seed=seed),
        "auc": auc_by_users(placed, seed=seed),
        "log loss": log_loss(placed, seed=seed),
        "gauc without places": gauc(free, seed=seed),
        "ndcg@10": ndcg(free, rows.page, seed=seed),
        f"hit rate@{k}": hit_rate(free, rows.page, k, seed=seed),
    }
    known = np.isin(rows.item, train.item[train.clicked(name)])
    columns = [c for c in ranker.features.item if c.name.startswith("item.category") and c.known]
    category = np.array(["(none)", *(columns[0].known if columns else ())])
    days = np.array(["unknown", *(f"under {d:>3} days" for d in AGES), f"{AGES[-1]} days and more"])
    order = np.argsort(np.argsort(acts[rows.item], kind="stable"), kind="stable")
    buckets = {
        "popularity, tenths of the rows": by_bucket(free, 1 + order * DECILES // max(1, len(order)), gauc),
        "product": by_bucket(free, np.where(known, "clicked in training", "never clicked in training"), gauc),
        "age of the product": by_bucket(free, days[age(ranker.shop, rows)], gauc),
        "category": by_bucket(free, category[columns[0].values[rows.item]], gauc) if columns else {},
    }
    protocol = {
        "rows": len(rows), "users": len(np.unique(own)), "positives": int(label.sum()), "label": name,
        "made": rows.made, "shop": ranker.shop.name, "told": rows.told,
        "encoder": None if ranker.content is None else ranker.content.version,
    }  # fmt: skip
    return RankResult(
        metrics,
        {"gauc": gauc(popular, seed=seed), "ndcg@10": ndcg(popular, rows.page, seed=seed)},
        gauc_difference(free, popular, seed=seed),
        calibration_error(placed),
        calibration_curve(placed),
        {name: found for name, found in ((n, _told(b)) for n, b in buckets.items()) if len(found) > 1},
        protocol,
    )


def _told(found: Mapping[object, Interval]) -> dict[object, Interval]:
    """Buckets of enough users to say something."""
    return {name: i for name, i in found.items() if i.n >= LEAST}
