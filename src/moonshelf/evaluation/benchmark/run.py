"""Build the benchmark of a shop, score vectors on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from moonshelf.evaluation.benchmark.directions import DIRECTIONS, Direction, build_directions
from moonshelf.evaluation.benchmark.embedders import Embed, embed_sources, read_vectors
from moonshelf.evaluation.benchmark.inputs import Source
from moonshelf.evaluation.benchmark.zero_shot import (
    SHOWN,
    LabelTask,
    answers,
    build_label_tasks,
    label_metrics,
)
from moonshelf.evaluation.metrics import (
    RESAMPLES,
    bootstrap_interval,
    chance_recall,
    first_hit_ranks,
    hits_at,
    paired_difference,
)
from moonshelf.evaluation.result import CUTS
from moonshelf.shop.shop import Shop
from moonshelf.types import Interval
from moonshelf.workspace import code_version, machine


@dataclass(frozen=True, slots=True)
class Tasks:
    """What is asked: retrieval directions and labels, of one shop."""

    directions: tuple[Direction, ...]
    labels: tuple[LabelTask, ...]
    protocol: dict[str, Any]

    def sources(self) -> list[Source]:
        """Everything that must be embedded, with repeats."""
        out = [s for d in self.directions for s in (*d.queries, *d.gallery)]
        for task in self.labels:
            out += [*task.prompts, *(s for shown in SHOWN for s in task.items[shown])]
        return out


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """Metrics by name: ``text>image recall@10``, ``category image accuracy``, ``mean recall@10``, ``spread recall@10``.

    Attributes:
        chance: the same names for a random order, and for the answer that is right most often.
        ranks: rank of the first right product, by direction.
        protocol: what was asked, how, of whom.
    """

    metrics: dict[str, Interval]
    chance: dict[str, float]
    protocol: dict[str, Any]
    ranks: dict[str, np.ndarray] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        return {
            "metrics": {name: interval.as_dict() for name, interval in self.metrics.items()},
            "chance": self.chance,
            "protocol": self.protocol,
            "provenance": {"code": code_version(), "machine": machine()},
        }

    def format(self) -> str:
        """The table that a person reads."""
        lines = [
            f"{self.protocol['shop']}: asked by {self.protocol['asked_by']}, 95% intervals over queries",
            "",
        ]
        lines.append(
            f"{'direction':<14} {'n':>6} {'gallery':>8}  "
            + "".join(f"{f'recall@{k}':<22}" for k in CUTS)
            + "chance@10"
        )
        for name, facts in self.protocol["directions"].items():
            cells = "".join(f"{self.metrics[f'{name} recall@{k}']!s:<22}" for k in CUTS)
            made = "  (made queries)" if facts["made"] else ""
            lines.append(
                f"{name:<14} {facts['queries']:>6} {facts['gallery']:>8}  {cells}"
                f"{self.chance[f'{name} recall@10']:.3f}{made}"
            )
        for what in ("mean", "spread"):
            if f"{what} recall@10" in self.metrics:
                cells = "".join(f"{self.metrics[f'{what} recall@{k}']!s:<22}" for k in CUTS)
                lines.append(f"{what:<30}  {cells}")
        others = [
            name for name in self.protocol["directions"] if f"difference {name} recall@10" in self.metrics
        ]
        if others:
            lines += ["", "difference to the other one, paired over queries"]
        for direction in others:
            apart = [self.metrics[f"difference {direction} recall@{k}"].signed() for k in CUTS]
            lines.append(f"{direction:<30}  " + "".join(f"{cell:<25}" for cell in apart))
        if self.protocol["labels"]:
            names = ("accuracy", "precision", "recall", "f1")
            lines += [
                "",
                f"{'zero-shot':<30} {'n':>6} {'labels':>6}  "
                + "".join(f"{n:<22}" for n in names)
                + "most frequent",
            ]
        for name, facts in self.protocol["labels"].items():
            for shown in SHOWN:
                cells = "".join(f"{self.metrics[f'{name} {shown} {n}']!s:<22}" for n in names)
                lines.append(
                    f"{name + ' by ' + shown:<30} {facts['products']:>6} {facts['labels']:>6}  {cells}"
                    f"{self.chance[f'{name} {shown} accuracy']:.3f}"
                )
        for name, facts in self.protocol["directions"].items():
            lines += [f"note: {name}: {n} queries not asked: {why}" for why, n in facts["left_out"].items()]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.format()


def build_tasks(
    shop: Shop,
    *,
    split: str = "test",
    products: Set[str] | None = None,
    ask: Literal["searches", "products"] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Tasks:
    """Everything that this shop can be asked; arguments as in ``build_directions``.

    Raises:
        TooLittleData: nothing can be asked.
    """
    directions = build_directions(shop, split=split, products=products, ask=ask, limit=limit, seed=seed)
    assert shop.products is not None
    labelled = [p for p in shop.products["product_id"].to_list() if products is None or p in products]
    if limit is not None and len(labelled) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(labelled), limit, replace=False))
        labelled = [labelled[i] for i in chosen]
    labels = build_label_tasks(shop, labelled)
    own = directions[0].own
    protocol = {
        "shop": shop.name,
        "fingerprint": shop.fingerprint,
        "split": split,
        "asked_by": "products for themselves (made queries)" if own else f"searches of split {split}",
        "limit": limit,
        "seed": seed,
        "directions": {
            d.name: {
                "queries": len(d.queries),
                "gallery": len(d.gallery),
                "made": d.made,
                "left_out": d.left_out,
            }
            for d in directions
        },
        "labels": {t.name: {"products": len(t.products), "labels": len(t.labels)} for t in labels},
        "recall": "share of queries with a right product among the first k; ties count against; rows that look just "
        "like a right one, and other SKUs of its design, are set aside",
    }
    return Tasks(tuple(directions), tuple(labels), protocol)


def score(tasks: Tasks, vectors: Mapping[Source, np.ndarray], *, seed: int = 0) -> BenchmarkResult:
    """All metrics of some vectors.

    Args:
        vectors: unit rows of ``tasks.sources()``.
        seed: of the bootstrap.

    Cost: the products of all queries with their galleries, and of items with labels.
    """
    metrics: dict[str, Interval] = {}
    chance: dict[str, float] = {}
    ranks: dict[str, np.ndarray] = {}
    for d in tasks.directions:
        q, g = _rows(d.queries, vectors), _rows(d.gallery, vectors)
        ranks[d.name] = first_hit_ranks(q, g, d.positives, masked=d.masked)
        rows = [(len(d.gallery) - len(m), len(p)) for p, m in zip(d.positives, d.masked, strict=True)]
        for k in CUTS:
            metrics[f"{d.name} recall@{k}"] = bootstrap_interval(hits_at(ranks[d.name], k), seed=seed)
            chance[f"{d.name} recall@{k}"] = float(np.mean([chance_recall(g, p, k) for g, p in rows]))
    if len(tasks.directions) == len(DIRECTIONS):
        for k in CUTS:
            mean, spread = over_directions([hits_at(r, k) for r in ranks.values()], seed=seed)
            metrics |= {f"mean recall@{k}": mean, f"spread recall@{k}": spread}
    for task in tasks.labels:
        prompts = _rows(task.prompts, vectors)
        frequent = float(np.bincount(task.right).max() / len(task.right))
        for shown in SHOWN:
            found = answers(_rows(task.items[shown], vectors), prompts)
            for name, value in label_metrics(task.right, found, len(task.labels), seed=seed).items():
                metrics[f"{task.name} {shown} {name}"] = value
            chance[f"{task.name} {shown} accuracy"] = frequent
    return BenchmarkResult(metrics, chance, tasks.protocol, ranks)


def measure(
    shop: Shop,
    embed: Embed | Path,
    *,
    against: Embed | Path | None = None,
    tasks: Tasks | None = None,
    seed: int = 0,
    **asked: Any,
) -> BenchmarkResult:
    """Build, embed and score in one go.

    Args:
        embed: an embedding function, or a file of vectors (``read_vectors``).
        against: another one, for differences on the same queries: ``difference text>image recall@10`` and so on.
        tasks: built before; else by ``build_tasks(shop, seed=seed, **asked)``.
    """
    tasks = tasks or build_tasks(shop, seed=seed, **asked)
    results = []
    for number, one in enumerate((embed, against)):
        if one is not None:
            sources = tasks.sources()
            label = "benchmark, the other one" if number else "benchmark"
            vectors = (
                read_vectors(one, sources)
                if isinstance(one, Path)
                else embed_sources(sources, shop, one, label)
            )
            results.append(score(tasks, vectors, seed=seed))
    if len(results) == 2:
        for name, ranks in results[0].ranks.items():
            for k in CUTS:
                ours, theirs = (hits_at(r, k) for r in (ranks, results[1].ranks[name]))
                results[0].metrics[f"difference {name} recall@{k}"] = paired_difference(
                    ours, theirs, seed=seed
                )
    return results[0]


def over_directions(hits: Sequence[np.ndarray], *, seed: int = 0) -> tuple[Interval, Interval]:
    """Mean over directions, and the best direction minus the worst: how far modalities are from balance.

    Intervals: queries are drawn within each direction.
    """
    rng = np.random.default_rng(seed)
    drawn = np.stack(
        [rng.binomial(len(h), h.mean(), RESAMPLES) / len(h) for h in hits]  # hits are 0 or 1: their bootstrap
    )
    once, n = np.array([h.mean() for h in hits]), sum(len(h) for h in hits)
    pairs = ((once.mean(), drawn.mean(0)), (float(np.ptp(once)), np.ptp(drawn, axis=0)))
    found = []
    for value, draws in pairs:
        low, high = np.percentile(draws, [2.5, 97.5])
        found.append(Interval(float(value), float(low), float(high), n))
    return found[0], found[1]


def _rows(sources: Sequence[Source], vectors: Mapping[Source, np.ndarray]) -> np.ndarray:
    return np.stack([vectors[source] for source in sources]).astype(np.float32)
