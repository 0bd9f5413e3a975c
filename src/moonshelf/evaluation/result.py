"""The result of a search evaluation: metrics with intervals, baselines beside them, every query's rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from moonshelf.evaluation.metrics import RESAMPLES, bootstrap_interval, hits_at, paired_difference, reciprocal
from moonshelf.types import Interval

CUTS = (1, 5, 10)
METRICS = ("recall@1", "recall@5", "recall@10", "mrr")
OURS = "ours"
NAMES = {
    OURS: "ours",
    "off_the_shelf": "off-the-shelf trunk",
    "colour_histogram": "colour histogram",
    "chance": "chance",
}
Metrics = dict[str, Interval]


def per_query(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """The value of every metric for every query, ``[Q]`` each."""
    return {**{f"recall@{k}": hits_at(ranks, k) for k in CUTS}, "mrr": reciprocal(ranks)}


def summarise(ranks: np.ndarray, *, seed: int = 0, groups: Sequence[object] | None = None) -> Metrics:
    """Recall@1/5/10 and MRR, each with its 95% interval."""
    values = per_query(ranks)
    return {name: bootstrap_interval(v, seed=seed, n=RESAMPLES, groups=groups) for name, v in values.items()}


def differences(
    a: np.ndarray, b: np.ndarray, *, seed: int = 0, groups: Sequence[object] | None = None
) -> Metrics:
    """Metrics of ranks ``a`` minus those of ``b`` on the same queries."""
    x, y = per_query(a), per_query(b)
    return {name: paired_difference(x[name], y[name], seed=seed, groups=groups) for name in x}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Everything one evaluation found out.

    Attributes:
        metrics: ours.
        baselines: metrics by name: ``off_the_shelf``, ``colour_histogram``, ``chance``.
        difference: ours minus off-the-shelf on the same queries; empty without baselines.
        by_category: ``{"top" | "leaf": {category path: {system: metrics}}}``.
        gallery_rows: ``[G, dim]`` float32, the vectors that were searched.
        ranks: ``{system: [Q] int64}``, rank of the first right product.
        top_ids: ``[Q, 10]`` product ids found by ours, best first.
        top_scores: ``[Q, 10]`` cosines.
        queries: photo ids or texts ``[Q]``.
        right: right product ids of every query.
        protocol: how it was measured. provenance: on what, with what.
    """

    metrics: Metrics
    baselines: dict[str, Metrics]
    difference: Metrics
    by_category: dict[str, dict[str, dict[str, Metrics]]]
    ranks: dict[str, np.ndarray]
    top_ids: tuple[tuple[str, ...], ...]
    top_scores: np.ndarray
    queries: tuple[str, ...]
    right: tuple[tuple[str, ...], ...]
    protocol: dict[str, Any]
    provenance: dict[str, Any]
    gallery_rows: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))

    def to_json(self, *, with_queries: bool = False) -> dict[str, Any]:
        """One object for ``--json``; the contract is its keys. ``with_queries`` adds every query's answer."""
        out: dict[str, Any] = {
            "metrics": _plain(self.metrics),
            "baselines": {name: _plain(m) for name, m in self.baselines.items()},
            "difference_to_off_the_shelf": _plain(self.difference),
            "by_category": {
                level: {
                    path: {name: _plain(m) for name, m in systems.items()} for path, systems in paths.items()
                }
                for level, paths in self.by_category.items()
            },
            "protocol": self.protocol,
            "provenance": self.provenance,
        }
        if with_queries:
            out["queries"] = [
                {
                    "query": query,
                    "right": list(self.right[i]),
                    "rank": int(self.ranks[OURS][i]),
                    "found": list(self.top_ids[i]),
                    "scores": [round(float(s), 4) for s in self.top_scores[i]],
                }
                for i, query in enumerate(self.queries)
            ]
        return out

    def format(self) -> str:
        """The table that a person reads: ours and the baselines, the difference, then the categories."""
        p = self.protocol
        lines = [
            f"{p['task']} search, split {p['split']}: {len(self.queries)} queries, {p['gallery']} products "
            f"({p['distractor_rows']} of them distractors), 95% intervals over {p['intervals_over']}"
        ]
        systems = {OURS: self.metrics, **self.baselines}
        rows = [["", *METRICS]]
        rows += [[NAMES.get(name, name), *(_cell(m[x]) for x in METRICS)] for name, m in systems.items()]
        if self.difference:
            rows.append(["ours - off-the-shelf", *(self.difference[x].signed() for x in METRICS)])
        lines += _table(rows)
        for level, title in (("top", "category"), ("leaf", "leaf category")):
            paths = self.by_category.get(level, {})
            if not paths or (level == "leaf" and paths.keys() == self.by_category.get("top", {}).keys()):
                continue
            others = [name for name in ("off_the_shelf",) if name in self.baselines]
            rows = [[title, "n", *METRICS, *(f"{NAMES[o]} recall@1" for o in others)]]
            for path, found in sorted(paths.items()):
                ours = found[OURS]
                cells = [_cell(ours[x]) for x in METRICS] + [_cell(found[o]["recall@1"]) for o in others]
                rows.append([path or "(none)", str(ours["mrr"].n), *cells])
            lines += ["", *_table(rows)]
        for reason, n in p["queries_dropped"].items():
            lines.append(f"note: {n} queries not asked: {reason}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.format()


def _plain(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float | int]]:
    return {name: interval.as_dict() for name, interval in metrics.items()}


def _cell(i: Interval) -> str:
    return f"{i.value:.3f}" if i.low == i.high == i.value else str(i)


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
