"""Zero-shot labels: names of categories or of values of an attribute are embedded, the nearest one is the answer.

As MBE does it (2508.11999). Products are shown by photo, by title, and by both; never with the text of the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moonshelf.evaluation.benchmark.inputs import Source
from moonshelf.evaluation.metrics import RESAMPLES
from moonshelf.shop.shop import Shop
from moonshelf.types import Interval, Product

MOST_ATTRIBUTES = 10
LEAST_ITEMS = 50  # labelled products that an attribute or a level of categories needs
LEAST_SHARE = 0.01  # of those, for a value to be an answer
SHOWN = ("image", "title", "joint")


@dataclass(frozen=True, slots=True)
class LabelTask:
    """Products to be labelled, and the names to choose from.

    Attributes:
        name: ``category`` or ``attribute colour``.
        labels: the answers, and how each is written for the encoder.
        prompts: what stands for each label.
        products: ids.
        items: what is embedded, by how products are shown.
        right: ``[n]`` label of each product.
    """

    name: str
    labels: tuple[str, ...]
    prompts: tuple[Source, ...]
    products: tuple[str, ...]
    items: dict[str, tuple[Source, ...]]
    right: np.ndarray


def build_label_tasks(shop: Shop, products: Sequence[str]) -> list[LabelTask]:
    """Categories (whole paths), and the attributes that most products have; those with two values or more."""
    items = [p for p in (shop.product(product_id) for product_id in products) if p.image_ids and p.title]
    tasks = [_task("category", items, [p.category for p in items], lambda name: name.replace(" > ", ", "))]
    counts: dict[str, int] = {}
    for item in items:
        for key, value in item.attributes.items():
            counts[key] = counts.get(key, 0) + bool(value)
    for key in sorted(counts, key=lambda k: (-counts[k], k))[:MOST_ATTRIBUTES]:
        values = [item.attributes.get(key, "") for item in items]
        tasks.append(_task(f"attribute {key}", items, values, lambda name, key=key: f"{key} {name}"))
    return [task for task in tasks if task is not None]


def _task(name: str, items: Sequence[Product], values: Sequence[str], written) -> LabelTask | None:  # type: ignore[no-untyped-def]
    counts: dict[str, int] = {}
    for value in values:
        if value:
            counts[value] = counts.get(value, 0) + 1
    least = max(2, LEAST_SHARE * sum(counts.values()))
    labels = sorted(value for value, n in counts.items() if n >= least)
    number = {value: i for i, value in enumerate(labels)}
    chosen = [(item, number[value]) for item, value in zip(items, values, strict=True) if value in number]
    if len(labels) < 2 or len(chosen) < LEAST_ITEMS:
        return None
    shown = {
        "image": tuple(Source(None, p.image_ids[0]) for p, _ in chosen),
        "title": tuple(Source(p.title) for p, _ in chosen),
        "joint": tuple(Source(p.title, p.image_ids[0]) for p, _ in chosen),
    }
    return LabelTask(
        name,
        tuple(labels),
        tuple(Source(written(label)) for label in labels),
        tuple(p.product_id for p, _ in chosen),
        shown,
        np.array([label for _, label in chosen]),
    )


def answers(items: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """``[n]`` the nearest prompt of each item by dot product; on a tie the first."""
    return np.asarray((items @ prompts.T).argmax(1))


def label_metrics(right: np.ndarray, found: np.ndarray, labels: int, *, seed: int = 0) -> dict[str, Interval]:
    """Accuracy, and precision, recall and F1 as means over the labels that occur, each with its 95% interval.

    A label that is never answered has precision 0. Intervals: percentile bootstrap over items, as in ``metrics``.

    Args:
        right, found: ``[n]`` label numbers.
        labels: how many there are.
    """
    cells = right * labels + found
    once = _rates(np.bincount(cells, minlength=labels * labels)[None].reshape(1, labels, labels))
    rng, n = np.random.default_rng(seed), len(right)
    drawn = np.empty((RESAMPLES, 4))
    for i in range(RESAMPLES):
        counts = np.bincount(cells[rng.integers(0, n, n)], minlength=labels * labels)
        drawn[i] = _rates(counts.reshape(1, labels, labels))[0]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    names = ("accuracy", "precision", "recall", "f1")
    return {
        name: Interval(float(once[0, i]), float(low[i]), float(high[i]), n) for i, name in enumerate(names)
    }


def _rates(confusion: np.ndarray) -> np.ndarray:
    """``[m, L, L]`` counts (right, found) to ``[m, 4]``."""
    hits = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
    there, said = confusion.sum(2), confusion.sum(1)
    occurs = there > 0
    recall = hits / np.maximum(there, 1)
    precision = hits / np.maximum(said, 1)
    f1 = 2 * hits / np.maximum(there + said, 1)
    number = np.maximum(occurs.sum(1), 1)
    means = [(rate * occurs).sum(1) / number for rate in (precision, recall, f1)]
    return np.stack([hits.sum(1) / np.maximum(confusion.sum((1, 2)), 1), *means], axis=1)
