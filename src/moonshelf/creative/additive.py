"""A selector that reads nothing but measures, so that what each adds can be said: broken lines, few of them loud.

    f = sum_m g_m(x_m),   minimising  sum_i w_i (y_i - f_i)^2 + lambda sum_m |g_m|,   y and f within tests

``|g_m|`` is the weighted standard deviation of what measure m adds: the group lasso (Yuan & Lin 2006), solved by ridge
regressions that are each scaled by the last one's norms. Measures that say the same share one voice, and a reason is
not spread over twenty faint ones. What is not there (the size of a product that was not found) counts as the mean of
those that are: whether it is there has a measure of its own. Our design.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moonshelf.creative.fast import FastSelector
from moonshelf.creative.features import Standard, curves, filled, standards_of
from moonshelf.creative.fit import centred, error_of, evidence, scale_of, spread_of, spread_of_effects
from moonshelf.creative.logs import Logged
from moonshelf.creative.measures import NAMES, Seen
from moonshelf.errors import TooLittleData

PENALTIES = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
ROUNDS = 10
MIXED = (
    "image.clutter", "image.sharpness", "image.core_area", "image.core_off", "image.cut", "image.area",
    "image.off_centre", "image.apart",
)  # fmt: skip
"""What follows from product, letters and ground together, or guesses where the product is: left out where the product
itself is found in most pictures, or a reason would name an effect in place of its cause."""
FAINT = 0.01  # log click rate: a measure that adds less is held down as if it added this


def fit_additive(
    logged: Logged,
    seen: Seen,
    *,
    penalties: Sequence[float] = PENALTIES,
    seed: int = 0,
    encoder: str = "",
    refit: bool = True,
) -> FastSelector:
    """Fit on train, choose the penalty by the weighted squared error on val, scale on val's pairs.

    Args:
        logged: creatives of train and val (others are not looked at).
        seen: their measures, row by row as ``logged.frame``.
        seed: kept with it.
        refit: fit the chosen once more on train and val together; the scale stays.

    Raises:
        TooLittleData: train or val is empty.

    Cost: ``ROUNDS`` systems of 5 columns a measure for each penalty; about a second for 5,500 creatives.
    """
    split = logged.frame["split"].to_numpy()
    train, val = np.flatnonzero(split == "train"), np.flatnonzero(split == "val")
    if not len(train) or not len(val):
        raise TooLittleData(
            f"{len(train)} creatives of train and {len(val)} of val",
            mend="the selector learns on one, chooses on the other",
        )
    frame = logged.frame
    standards = standards_of(seen.take(train), [""] * len(train))
    columns, owner = design(seen.measures, standards)
    pictured = seen.measures[train, NAMES.index("image.there")] > 0
    if pictured.any() and (seen.measures[train, NAMES.index("image.found")] > 0)[pictured].mean() > 0.5:
        columns[:, np.isin(owner, [NAMES.index(name) for name in MIXED])] = 0.0
    known = frame[train]
    _, group = np.unique(known["group"].to_numpy(), return_inverse=True)
    tau2 = spread_of_effects(group, known["clicks"].to_numpy(), known["impressions"].to_numpy())
    ours, theirs = evidence(known, tau2), evidence(frame[val], tau2)
    tried = []
    for penalty in penalties:
        beta = solve(columns[train], owner, ours.target, ours.weight, ours.group, penalty)
        tried.append({"penalty": penalty, "val_error": error_of(columns[val] @ beta, theirs)})
    best = min(tried, key=lambda t: t["val_error"])
    penalty = best["penalty"]
    beta = solve(columns[train], owner, ours.target, ours.weight, ours.group, penalty)
    scores = columns[val] @ beta
    spread = spread_of(scores, theirs, 1 / (frame[val]["clicks"].to_numpy() + 0.5))
    scale = scale_of(logged.part("val"), scores, spread)
    if refit:
        whole = np.concatenate((train, val))
        rows = evidence(frame[whole], tau2)
        beta = solve(columns[whole], owner, rows.target, rows.weight, rows.group, penalty)
    about = {
        "blocks": ["measures", "curves"], "penalty": penalty, "tau": float(np.sqrt(tau2)), "train": len(train),
        "val": len(val), "refit": refit, "tried": tried,
    }  # fmt: skip
    weights = {"measures": beta[: len(NAMES)], "curves": beta[len(NAMES) :]}
    return FastSelector(weights, scale, spread, encoder, 0, seed, standards, about)


def design(measures: np.ndarray, standards: dict[str, Standard]) -> tuple[np.ndarray, np.ndarray]:
    """``[N, D]`` columns: every measure, then its bends; and ``[D]`` the measure that each belongs to."""
    whole = filled(measures, standards["present"][0])
    bent = curves(whole, standards["curves"][0])
    each = bent.shape[1] // len(NAMES)
    return np.concatenate((whole, bent), axis=1), np.concatenate(
        (np.arange(len(NAMES)), np.repeat(np.arange(len(NAMES)), each))
    )


def solve(
    columns: np.ndarray, owner: np.ndarray, target: np.ndarray, weight: np.ndarray, group: np.ndarray, penalty: float
) -> np.ndarray:  # fmt: skip
    """``[D]`` coefficients; 0 of columns that never differ within a test."""
    within = centred(columns, group, weight)
    share = weight / weight.sum()
    away = np.sqrt(share @ within**2)
    live = away > 1e-9
    unit = within[:, live] / away[live]
    gram, right = (unit * weight[:, None]).T @ unit, (unit * weight[:, None]).T @ target
    own = owner[live]
    scale, beta = np.ones(len(own)), np.zeros(len(own))
    for _ in range(ROUNDS):
        system = gram * scale[:, None] * scale[None, :]
        system[np.diag_indices(len(own))] += penalty
        beta = scale * np.linalg.solve(system, scale * right)
        norm = np.zeros(owner.max() + 1)
        for measure in np.unique(own):
            at = own == measure
            added = unit[:, at] @ beta[at]
            norm[measure] = np.sqrt(share @ added**2)
        scale = np.sqrt(np.maximum(norm[own], FAINT**2) / FAINT)
    out = np.zeros(len(owner))
    out[live] = beta / away[live]
    return out
