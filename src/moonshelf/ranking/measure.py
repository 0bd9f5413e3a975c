"""How good a click model is on rows that it has not seen, beside popularity, and for which rows it is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from moonshelf.errors import TooLittleData
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
    user_aucs,
)
from moonshelf.ranking.apply import Ranker
from moonshelf.ranking.features import AGES, age
from moonshelf.ranking.rows import Rows
from moonshelf.types import Interval

DECILES = 10
LEAST = 10  # users of a bucket


@dataclass(frozen=True, slots=True)
class RankResult:
    """Everything one evaluation found out.

    Attributes:
        metrics: GAUC, AUC, log loss, NDCG@10, hit rate@10 (@3 where lists are shorter) of the model; ``gauc without
            places`` orders as a ranker would, wherever rows were shown. Log loss only of what was shown: with drawn
            negatives a score is no probability. NDCG over lists of at least two, hit rate over those longer than k.
        popularity: GAUC and NDCG@10 of ordering by how many acts a product had had by then. difference: ours minus
            that.
        error: expected calibration error, None with drawn negatives. curve: predicted, seen, rows a bin, or None.
        buckets: GAUC by tenth of popularity, by age of the product, by category, on products seen in training or not.
        protocol: rows, users, labels, whether negatives were drawn.
    """

    metrics: dict[str, Interval]
    popularity: dict[str, Interval]
    difference: Interval
    error: float | None
    curve: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    buckets: dict[str, Mapping[object, Interval]]
    protocol: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        told, seen, n = self.curve or ((), (), ())
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
            *(() if self.error is None else (f"{'calibration error':<24}{self.error:.4f}",)),
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
        TooLittleData: no user (or page of nobody known) has rows of both labels.
    """
    name = ranker.model.config.labels[0]
    label, own = rows.clicked(name), rows.units()
    raw = ranker.raw(rows, placed=True)
    placed = Scored(raw.astype(np.float64), label, own)
    free = Scored(ranker.raw(rows, placed=False).astype(np.float64), label, own)
    before = ranker.popularity.before(rows)
    popular = Scored(before.astype(np.float64), label, own)
    if not len(user_aucs(free)[0]):
        raise TooLittleData(
            f"nobody has rows with and without a {name} among the {len(rows):,} rows to report on",
            where=ranker.shop.name,
            mend="choose an earlier ranking.cut, or add rows",
        )
    _, page, size = np.unique(rows.page, return_inverse=True, return_counts=True)
    listed = size[page]
    metrics = {"gauc": gauc(placed, seed=seed), "auc": auc_by_users(placed, seed=seed)}
    error = curve = None
    if not rows.made:
        told = Scored(ranker.calibrated(raw).astype(np.float64), label, own)
        metrics["log loss"] = log_loss(told, seed=seed)
        error, curve = calibration_error(told), calibration_curve(told)
    metrics["gauc without places"] = gauc(free, seed=seed)
    baseline = {"gauc": gauc(popular, seed=seed)}
    if label[lists := listed >= 2].any():
        metrics["ndcg@10"] = ndcg(free.take(lists), rows.page[lists], seed=seed)
        baseline["ndcg@10"] = ndcg(popular.take(lists), rows.page[lists], seed=seed)
    k = 10 if (listed > 10).mean() > 0.5 else 3  # of ten shown, ten are always hit
    if label[lists := listed > k].any():
        metrics[f"hit rate@{k}"] = hit_rate(free.take(lists), rows.page[lists], k, seed=seed)
    known = np.isin(rows.item, train.item[train.clicked(name)])
    columns = [c for c in ranker.features.item if c.name.startswith("item.category") and c.known]
    category = np.array(["(none)", *(columns[0].known if columns else ())])
    days = np.array(["unknown", *(f"under {d:>3} days" for d in AGES), f"{AGES[-1]} days and more"])
    fame, names = _tenths(before)
    found = by_bucket(free, fame, gauc)
    buckets: dict[str, Mapping[object, Interval]] = {
        "acts on the product before, tenths of the rows": {names[int(str(at))]: i for at, i in found.items()},
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
        metrics, baseline, gauc_difference(free, popular, seed=seed), error, curve,
        {name: found for name, found in ((n, _told(b)) for n, b in buckets.items()) if len(found) > 1},
        protocol,
    )  # fmt: skip


def _tenths(counts: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Tenths of the rows by a count, equal ones together, and what each holds."""
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, DECILES + 1)[1:-1], method="higher"))
    edges = edges[edges < counts.max(initial=0)]
    tenth = np.searchsorted(edges, counts, side="left")
    names = []
    for at in range(len(edges) + 1):
        held = counts[tenth == at]
        low, high = (int(held.min()), int(held.max())) if len(held) else (0, 0)
        names.append(f"{low:,}" if low == high else f"{low:,} to {high:,}")
    return tenth, names


def _told(found: Mapping[object, Interval]) -> dict[object, Interval]:
    """Buckets of enough users to say something."""
    return {name: i for name, i in found.items() if i.n >= LEAST}
