"""Fitting the fast selector: ridge regression with an intercept a test, chosen on val (see ``fast``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.special import log_ndtr

from moonshelf.creative.fast import FastSelector
from moonshelf.creative.features import block, standards_of
from moonshelf.creative.logs import Logged
from moonshelf.creative.looks import GRID, LAYOUT
from moonshelf.creative.measures import Seen
from moonshelf.encoder.efficientnet import CHANNELS
from moonshelf.errors import TooLittleData
from moonshelf.progress import say

TEXT_MIXES: tuple[tuple[str, ...], ...] = (
    ("measures",),
    ("sentence", "measures"),
    ("sentence", "ngrams", "measures"),
    ("tokens", "waves", "ngrams", "measures"),
    ("sentence", "tokens", "waves", "ngrams", "measures"),
    ("sentence", "tokens", "waves", "ngrams", "measures", "measure_waves"),
)
IMAGE_MIXES: tuple[tuple[str, ...], ...] = (
    ("measures",),
    ("picture", "measures"),
    ("picture", "measures", "sentence", "ngrams"),
    ("picture", "grid", "layout", "measures", "measure_waves"),
    ("picture", "grid", "layout", "layout_waves", "measures", "measure_waves"),
    ("picture", "grid", "layout", "layout_waves", "measures", "measure_waves", "sentence", "ngrams"),
    ("grid", "layout", "layout_waves", "found_waves", "measures", "measure_waves"),
    ("grid", "layout", "layout_waves", "found_waves", "measures", "measure_waves", "match_waves", "ngrams"),
)
LANGUAGE_MIXES: tuple[tuple[str, ...], ...] = (
    ("language", "measures"),
    ("language", "ngrams", "measures"),
    ("language", "tokens", "waves", "ngrams", "measures"),
    ("language", "sentence", "tokens", "waves", "ngrams", "measures"),
)
MOST = 10_000  # creatives of train that a selector is fitted on, a quarter as many of val: some 6 GB
TEXT_PENALTIES, IMAGE_PENALTIES = (30.0, 100.0, 300.0), (1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Creatives as the fit sees them.

    Attributes:
        group: ``[N]`` int64 numbers of tests.
        level: ``[N]`` log click rate less the mean over tests.
        target: ``[N]`` the same, centred within tests.
        weight: ``[N]`` one over the variance of e.
    """

    group: np.ndarray
    level: np.ndarray
    target: np.ndarray
    weight: np.ndarray


def spread_of_effects(group: np.ndarray, clicks: np.ndarray, impressions: np.ndarray) -> float:
    """``tau^2``, the variance of true log click rates inside tests (moments, DerSimonian & Laird 1986).

    ``tau^2 = (sum_i v_i yc_i^2 - (N - G)) / (sum v - sum_g sum v^2 / sum v)`` with ``v = k + 1/2``; at least 0.001.
    """
    v = clicks + 0.5
    y = centred(np.log(v / (impressions + 1.0)), group, v)
    inside = np.bincount(group, v)
    c = float((inside - np.bincount(group, v * v) / np.maximum(inside, 1e-9)).sum())
    excess = float((v * y * y).sum()) - (len(v) - np.count_nonzero(inside))
    return max(0.001, excess / max(c, 1e-9))


def evidence(frame: pl.DataFrame, tau2: float) -> Evidence:
    """Targets and weights of the creatives of some tests."""
    k, n = (frame[c].to_numpy().astype(np.float64) for c in ("clicks", "impressions"))
    _, group = np.unique(frame["group"].to_numpy(), return_inverse=True)
    weight = 1 / (1 / (k + 0.5) + tau2)
    y = np.log((k + 0.5) / (n + 1))
    means = np.bincount(group, weight * y) / np.bincount(group, weight)
    return Evidence(group, y - means.mean(), centred(y, group, weight), weight)


def spread_of_tests(rows: Evidence) -> float:
    """``sigma^2``: variance of the tests' means, less what chance and tau add to it; at least 0.01."""
    total = np.bincount(rows.group, rows.weight)
    means = np.bincount(rows.group, rows.weight * rows.level) / total
    return max(0.01, float(means.var() - (1 / total).mean()))


def centred(values: np.ndarray, group: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (``[N]`` or ``[N, D]``) less the weighted mean of their group."""
    order = np.argsort(group, kind="stable")
    begin = np.flatnonzero(np.diff(group[order], prepend=-1))
    total = np.add.reduceat(weight[order], begin)
    scaled = values * (weight if values.ndim == 1 else weight[:, None].astype(values.dtype))
    mean = np.add.reduceat(scaled[order], begin, axis=0)
    mean = mean / (total if values.ndim == 1 else total[:, None].astype(values.dtype))
    number = np.unique(group, return_inverse=True)[1]
    out: np.ndarray = values - mean[number]
    return out


def fit_fast(
    logged: Logged,
    seen: Seen,
    *,
    mixes: Sequence[Sequence[str]] | None = None,
    penalties: Sequence[float] | None = None,
    seed: int = 0,
    encoder: str = "",
    refit: bool = True,
) -> FastSelector:
    """Fit on train, choose blocks and penalty by the weighted squared error on val, scale on val's pairs.

    Args:
        logged: creatives of train and val (others are not looked at).
        seen: their vectors and measures, row by row as ``logged.frame``.
        mixes, penalties: what to choose from; the defaults depend on whether there are pictures. Inside a set of blocks
            each weighs the same: it is scaled to a mean squared length of 1 within tests.
        seed: of the waves.
        refit: fit the chosen once more on train and val together; the scale stays.

    Raises:
        TooLittleData: train or val is empty.

    Cost: for N creatives of train a kernel a block (``N^2 D``) and a Cholesky factorisation (``N^3 / 3``) a choice;
    about a minute for 5,500 headlines and the default choices on one core. The kernels lie in memory together, up to a
    dozen of ``4 N^2`` bytes each; of more than ``MOST`` creatives whole tests are drawn by lot.
    """
    split = logged.frame["split"].to_numpy()
    train, val = np.flatnonzero(split == "train"), np.flatnonzero(split == "val")
    if not len(train) or not len(val):
        raise TooLittleData(
            f"{len(train)} creatives of train and {len(val)} of val",
            mend="the selector learns on one, chooses on the other",
        )
    frame = logged.frame
    tests = frame["group"].to_numpy()
    train, val = _some_tests(train, tests, MOST, seed), _some_tests(val, tests, MOST // 4, seed)
    texts = [t or "" for t in frame["text"].to_list()]
    pictured = bool(seen.image.shape[1])
    mixes = mixes or (IMAGE_MIXES if pictured else TEXT_MIXES)
    if seen.language is not None and mixes is TEXT_MIXES:
        mixes = TEXT_MIXES + LANGUAGE_MIXES
    penalties = penalties or (IMAGE_PENALTIES if pictured else TEXT_PENALTIES)
    standards = standards_of(seen.take(train), [texts[i] for i in train])
    width = max(0, seen.image.shape[1] - CHANNELS - LAYOUT - GRID)
    known = frame[train]
    _, group = np.unique(known["group"].to_numpy(), return_inverse=True)
    tau2 = spread_of_effects(group, known["clicks"].to_numpy(), known["impressions"].to_numpy())
    ours, theirs = evidence(known, tau2), evidence(frame[val], tau2)
    names = sorted({name for mix in mixes for name in mix})
    kernels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in names:
        part = block(name, seen, texts, seed, standards)
        own, factors = _scaled(part[train], ours, name)
        kernels[name] = own @ own.T, (part[val] * factors) @ own.T
    sigma2 = spread_of_tests(ours)
    tried: list[dict[str, Any]] = []
    for mix in mixes:
        inner, outer = (_mean([kernels[name][side] for name in mix]) for side in (0, 1))
        for penalty in penalties:
            alpha = _solve(inner, ours, penalty, sigma2, np.float32)
            tried.append(
                {"blocks": list(mix), "penalty": penalty, "val_error": error_of(outer @ alpha, theirs)}
            )
    best = min(tried, key=lambda t: t["val_error"])
    mix, penalty = tuple(best["blocks"]), float(best["penalty"])

    def blocks(at: np.ndarray) -> Callable[[str], np.ndarray]:
        return lambda name: block(name, seen.take(at), [texts[i] for i in at], seed, standards)

    weights = _weights(blocks(train), ours, mix, penalty, sigma2)
    model = FastSelector(weights, 1.0, 0.2, encoder, width, seed, standards)
    scores = model.score(seen.take(val), [texts[i] for i in val])
    spread = spread_of(scores, theirs, 1 / (frame[val]["clicks"].to_numpy() + 0.5))
    scale = scale_of(replace(logged, frame=frame[val]), scores, spread)
    if refit:
        whole = np.concatenate((train, val))
        weights = _weights(blocks(whole), evidence(frame[whole], tau2), mix, penalty, sigma2)
    about = {
        "blocks": list(mix), "penalty": penalty, "tau": float(np.sqrt(tau2)), "sigma": float(np.sqrt(sigma2)),
        "train": len(train), "val": len(val), "refit": refit, "tried": tried,
    }  # fmt: skip
    return FastSelector(weights, scale, spread, encoder, width, seed, standards, about)


def _some_tests(at: np.ndarray, group: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Rows ``at``, or those of tests drawn by lot until there are ``most``."""
    if len(at) <= most:
        return at
    _, of, size = np.unique(group[at], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(size))
    kept = np.zeros(len(size), dtype=bool)
    kept[order] = np.cumsum(size[order]) <= most
    say(
        f"creative: the selector is fitted on {kept[of].sum():,} of {len(at):,} creatives, whole tests drawn by lot: "
        "more need too much memory"
    )
    return at[kept[of]]


def _mean(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Of arrays of one shape, without holding them all together."""
    total, count = np.zeros(()), 0
    for part in parts:
        total = part.copy() if not count else np.add(total, part, out=total)
        count += 1
    return total / np.asarray(count, dtype=total.dtype)


def _scaled(part: np.ndarray, rows: Evidence, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A block less its mean, scaled to a mean squared length of 1 within tests, and the factors ``[D]`` of its columns.

    Measures differ in unit, and states of a language model in size, so each is first brought to a standard deviation
    of 1 within tests; columns that never differ there get the factor 0.
    """
    own = centred(part.astype(np.float32), rows.group, rows.weight)
    factor = np.ones(own.shape[1], dtype=np.float32)
    if name in ("measures", "language"):
        away = np.sqrt((own.astype(np.float64) ** 2).mean(0))
        factor = np.where(away > 1e-6, 1 / np.maximum(away, 1e-6), 0.0).astype(np.float32)
        own = own * factor
    square = np.einsum("nd,nd->n", own, own, dtype=np.float64)
    compared = np.bincount(rows.group)[rows.group] > 1
    factor = factor / np.float32(
        np.sqrt(max(float(square[compared].mean()) if compared.any() else 1.0, 1e-12))
    )
    scaled = part.astype(np.float32) * factor
    return scaled - scaled.mean(0), factor


def _solve(
    kernel: np.ndarray, rows: Evidence, penalty: float, sigma2: float, kind: type[np.floating] = np.float64
) -> np.ndarray:
    """``alpha`` of ``(K + lambda (diag(1 / weight) + sigma^2 same test)) alpha = level``."""
    from torch import from_numpy, linalg

    matrix = np.array(kernel, dtype=kind)
    matrix[np.diag_indices(len(matrix))] += penalty / rows.weight
    order = np.argsort(rows.group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(rows.group[order])) + 1):
        matrix[np.ix_(members, members)] += penalty * sigma2
    factor = linalg.cholesky(from_numpy(matrix))
    found: np.ndarray = from_numpy(rows.level.astype(kind))[:, None].cholesky_solve(factor)[:, 0].numpy()
    return found


def _weights(
    part: Callable[[str], np.ndarray], rows: Evidence, mix: Sequence[str], penalty: float, sigma2: float
) -> dict[str, np.ndarray]:
    scaled = {name: _scaled(part(name), rows, name) for name in mix}
    kernel = _mean(own @ own.T for own, _ in scaled.values())
    alpha = _solve(kernel, rows, penalty, sigma2)
    return {
        name: (own.T.astype(np.float64) @ alpha) * factor.astype(np.float64) / len(mix)
        for name, (own, factor) in scaled.items()
    }


def error_of(told: np.ndarray, rows: Evidence) -> float:
    """Weighted squared error as a share of that of telling nothing."""
    told = centred(told, rows.group, rows.weight)
    return float((rows.weight * (rows.target - told) ** 2).sum() / (rows.weight * rows.target**2).sum())


def spread_of(scores: np.ndarray, rows: Evidence, noise: np.ndarray) -> float:
    """Standard deviation, inside tests, of true log rates around the scores: squares left, less the clicks' chance."""
    left = rows.target - centred(scores, rows.group, rows.weight)
    free = max(1e-9, 1 - len(np.unique(rows.group)) / len(left))
    excess = np.average(left**2, weights=rows.weight) / free - np.average(noise, weights=rows.weight)
    return float(np.sqrt(max(0.001, excess)))


def scale_of(val: Logged, scores: np.ndarray, spread: float) -> float:
    """``s`` by which ``sigmoid(s (f_A - f_B))`` is the probability that A's *true* click rate is the higher one.

    With true log rates ``b f + N(0, spread^2)`` and clicks k, A's logged rate is the higher one with probability
    ``Phi(b x / sqrt(2 spread^2 + 1/(k_A + 1/2) + 1/(k_B + 1/2)))``, x the difference of the scores. b is of the highest
    posterior over all pairs of val, whether they came out significant or not (those alone would promise too much), each
    test counting as its creatives less one, under ``log b ~ N(0, 1/4)``: few pairs say little. ``s = 1.702 b /
    (sqrt(2) spread)``, 1.702 being what makes a normal curve of a logistic one.
    """
    k, n = (val.frame[c].to_numpy().astype(np.float64) for c in ("clicks", "impressions"))
    rate, noise = np.log((k + 0.5) / (n + 1)), 1 / (k + 0.5)
    _, group = np.unique(val.frame["group"].to_numpy(), return_inverse=True)
    steps = np.linspace(-2.0, 2.0, 201)
    score = -2.0 * steps**2
    for members in np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1]):
        i, j = (members[side] for side in np.triu_indices(len(members), 1))
        x, sign = scores[i] - scores[j], np.sign(rate[i] - rate[j])
        away = sign * x / np.sqrt(2 * spread**2 + noise[i] + noise[j])
        score += log_ndtr(np.exp(steps)[:, None] * away).sum(1) * 2 / max(len(members), 1)
    return float(1.702 * np.exp(steps[int(score.argmax())]) / (np.sqrt(2) * spread))
