"""The deletion test: are the regions that a heatmap points at those that the similarity comes from?

The cells of the grid that a map holds for the most important are taken out of the photo (blurred away), and as many
random ones; a faithful map lowers the similarity by more (Samek et al. 2017). Our design: share .2, blur, 10 draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moonshelf.encoder import CompactEncoder, Item
from moonshelf.encoder.saliency import Method, saliency, without
from moonshelf.evaluation.metrics import RESAMPLES, bootstrap_interval
from moonshelf.types import Interval

SHARE, DRAWS = 0.2, 10


@dataclass(frozen=True, slots=True)
class Deletion:
    """How far the similarity falls when regions are taken out; ``ratio`` = top / random, of the means."""

    top: Interval
    random: Interval
    ratio: Interval

    def __str__(self) -> str:
        return f"top regions {self.top}, random ones {self.random}, ratio {self.ratio}"


def deletion_test(
    encoder: CompactEncoder,
    items: Sequence[Item],
    targets: np.ndarray,
    *,
    method: Method = "gradient",
    share: float = SHARE,
    seed: int = 0,
) -> Deletion:
    """Run the test over pairs of an item with one photo and the vector that it is compared with.

    Args:
        items: each with exactly one prepared photo; texts stay as they are.
        targets: ``[len(items), width]``.
        method: of the maps.
        share: of the cells that are taken out.
        seed: of the random cells.

    Cost: ``DRAWS + 2`` forward passes and one backward pass an item.
    """
    if not items or any(len(item.images) != 1 for item in items):
        raise ValueError("the deletion test takes items with one photo each")
    rng = np.random.default_rng(seed)
    top, random = np.empty(len(items)), np.empty(len(items))
    for i, (item, target) in enumerate(zip(items, targets, strict=True)):
        found = saliency(encoder, item, target, method)
        cells = found.regions[0].size
        number = max(1, round(share * cells))
        chosen = [np.argsort(-found.regions[0].ravel(), kind="stable")[:number]]
        chosen += [rng.choice(cells, number, replace=False) for _ in range(DRAWS)]
        cut = [Item(item.text, (without(item.images[0], at, found.regions[0].shape),)) for at in chosen]
        unit = target / max(float(np.linalg.norm(target)), 1e-12)
        falls = found.similarity - encoder.encode(cut) @ unit
        top[i], random[i] = falls[0], falls[1:].mean()
    return Deletion(bootstrap_interval(top), bootstrap_interval(random), _ratio(top, random))


def _ratio(top: np.ndarray, random: np.ndarray) -> Interval:
    """Mean of ``top`` over mean of ``random``, with an interval over items drawn together."""
    rng, n = np.random.default_rng(0), len(top)
    rows = rng.integers(0, n, (RESAMPLES, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = top[rows].mean(1) / random[rows].mean(1)
        once = float(top.mean() / random.mean())
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(once, float(low), float(high), n)
