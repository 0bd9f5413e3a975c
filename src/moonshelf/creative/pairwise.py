"""The baseline of the field: logistic regression on vector differences of significant pairs.

    minimise over w   sum log(1 + exp(-c w . (v_A - v_B))) + (penalty / 2) |w|^2,   c = 1 where A won, else -1

v is one block of ``features``, scaled to a mean squared difference of 1. No intercept, so both orders agree. Newton's
method; the penalty is chosen on val's pairs. It stands beside the fast selector, which also learns from pairs that are
not significant and between tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moonshelf.creative.fast import FastSelector, sigmoid
from moonshelf.creative.features import block
from moonshelf.creative.logs import Logged
from moonshelf.creative.looks import GRID, LAYOUT
from moonshelf.creative.measures import Seen
from moonshelf.creative.pairs import PairRules, build_pairs
from moonshelf.encoder.efficientnet import CHANNELS

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0)


def fit_pairwise(
    logged: Logged,
    seen: Seen,
    *,
    of: str = "sentence",
    rules: PairRules | None = None,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    encoder: str = "",
) -> FastSelector:
    """Fit on the significant pairs of train, choose the penalty by the log loss of val's.

    Args:
        logged, seen: creatives of train and val, row by row.
        of: the block.

    Raises:
        TooLittleData: a split has no pairs.

    Cost: a few Newton steps of ``pairs x D^2 + D^3``; a second for 3,000 pairs of 512 numbers.
    """
    texts = [t or "" for t in logged.frame["text"].to_list()]
    rows = block(of, seen, texts, seed).astype(np.float64)
    place = {name: i for i, name in enumerate(logged.frame["creative_id"].to_list())}
    sides: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split in ("train", "val"):
        pairs = build_pairs(logged.part(split), rules, seed=seed).frame
        a, b = (np.array([place[i] for i in pairs[f"creative_id_{s}"].to_list()]) for s in "ab")
        sides[split] = rows[a] - rows[b], np.where((pairs["winner"] == "A").to_numpy(), 1.0, -1.0)
    x, c = sides["train"]
    length = float(np.sqrt(max((x**2).sum(1).mean(), 1e-12)))
    tried: list[tuple[float, float, np.ndarray]] = []
    for penalty in penalties:
        w = _newton(x / length, c, penalty) / length
        other, sign = sides["val"]
        tried.append((float(np.logaddexp(0, -sign * (other @ w)).mean()), penalty, w))
    loss, penalty, w = min(tried, key=lambda t: t[0])
    width = max(0, seen.image.shape[1] - CHANNELS - LAYOUT - GRID)
    about = {"block": of, "penalty": penalty, "val_log_loss": loss, "pairs": len(c)}
    return FastSelector({of: w}, 1.0, 0.2, encoder, width, seed, about=about)


def _newton(x: np.ndarray, c: np.ndarray, penalty: float) -> np.ndarray:
    w = np.zeros(x.shape[1])
    for _ in range(30):
        p = sigmoid(c * (x @ w))
        slope = x.T @ (c * (1 - p)) - penalty * w
        bend = x.T @ ((p * (1 - p))[:, None] * x) + penalty * np.eye(len(w))
        step = np.linalg.solve(bend, slope)
        w = w + step
        if np.abs(step).max() < 1e-8:
            break
    return w
