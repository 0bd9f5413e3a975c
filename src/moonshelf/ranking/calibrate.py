"""Calibration after training: probabilities that mean what they say, fitted on rows the model has not learned from.

A model that orders well can still say .30 where one in ten is clicked, most of all after training on sampled negatives.
Two maps mend that: Platt's has two numbers and keeps every order; the isotonic one follows any rising curve, needs
more rows for it, and makes scores equal where the curve is flat. Choose between them on val.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moonshelf.errors import InputError

Kind = Literal["platt", "isotonic"]
_EDGE = 1e-7  # logits are taken of scores so far from 0 and 1; the log loss of this package cuts there, too
_ROUNDS = 100  # Newton needs about ten; more means that there is no finite answer


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted map from scores to probabilities, plain numbers alone.

    Attributes:
        kind: which of the two.
        slope, intercept: of Platt's map, ``sigmoid(slope logit(p) + intercept)``; slope > 0.
        thresholds, values: of the isotonic map, ascending both, the ends of its flat pieces.
        n: rows it was fitted on.
    """

    kind: Kind
    n: int
    slope: float = 1.0
    intercept: float = 0.0
    thresholds: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64, of scores of any shape.

        Platt: a larger score gets a larger probability (scores within 1e-7 of 0 or 1 count as that far from it).
        Isotonic: linear between thresholds and level beyond the outermost ones, so never a smaller probability for a
        larger score, and no jump for scores that hardly differ, as steps would have; equal ones come about.

        Raises:
            InputError: NaN, or scores outside [0, 1].
        """
        p = _checked(scores)
        if self.kind == "platt":
            return _sigmoid(self.slope * _logit(p) + self.intercept)
        return np.asarray(np.interp(p, self.thresholds, self.values), dtype=np.float64)

    def as_dict(self) -> dict[str, object]:
        """For a JSON file; ``from_dict`` gives back an equal one (JSON keeps float64 exactly)."""
        if self.kind == "platt":
            return {"kind": self.kind, "n": self.n, "slope": self.slope, "intercept": self.intercept}
        return {
            "kind": self.kind, "n": self.n, "thresholds": list(self.thresholds), "values": list(self.values),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Calibration:
        """What ``as_dict`` wrote.

        Raises:
            InputError: it is not a calibration, or one that would turn the order round.
        """
        want = {
            "platt": {"kind", "n", "slope", "intercept"},
            "isotonic": {"kind", "n", "thresholds", "values"},
        }
        kind = data.get("kind")
        if kind not in want or set(data) != want[str(kind)]:
            raise _damaged(f"keys {', '.join(sorted(data))}")
        try:
            n = int(data["n"])  # type: ignore[call-overload]
            if kind == "platt":
                slope, intercept = float(data["slope"]), float(data["intercept"])  # type: ignore[arg-type]
                if not (np.isfinite([slope, intercept]).all() and slope > 0):
                    raise _damaged(f"slope {slope}, intercept {intercept}")
                return cls("platt", n, slope=slope, intercept=intercept)
            x = np.asarray(data["thresholds"], dtype=np.float64)
            y = np.asarray(data["values"], dtype=np.float64)
        except (TypeError, ValueError):
            raise _damaged("something that is no number") from None
        rising = x.ndim == 1 and x.shape == y.shape and len(x) > 0 and (np.diff(x) > 0).all()
        if not (rising and (np.diff(y) >= 0).all() and (y >= 0).all() and (y <= 1).all()):
            raise _damaged("thresholds and values that do not rise together")
        return cls("isotonic", n, thresholds=tuple(x.tolist()), values=tuple(y.tolist()))


def fit_calibration(
    kind: Kind, scores: np.ndarray, labels: np.ndarray, weight: np.ndarray | None = None
) -> Calibration:
    """The map under which the labels are most likely (Platt) or least squares away (isotonic).

    ``platt`` (Platt 1999, on the logit): ``p' = sigmoid(a logit(p) + b)``, a and b by Newton on the log loss, without
    the paper's smoothed targets: rows are many here. ``isotonic`` (Zadrozny & Elkan 2002): the rising function with the
    least ``sum w (label - f(score))^2``, by pooling adjacent violators. It says 0 below the first click and 1 above the
    last non-click where these are at the ends, which the log loss punishes without limit: cut it where that matters.

    Args:
        kind: ``platt`` or ``isotonic``.
        scores: ``[N]`` in [0, 1], of rows that the model was not trained on.
        labels: ``[N]`` bool or 0/1; both kinds occur.
        weight: ``[N]`` at least 0, e.g. 1 / keep rate of the negatives; default 1.

    Raises:
        InputError: lengths differ, NaN, scores outside [0, 1], labels of one kind; for Platt also scores that are all
            equal, that part the labels without overlap (no finite slope), or that fall where labels rise.

    Cost: a sort of the rows.
    """
    if kind not in ("platt", "isotonic"):
        raise InputError(f"no calibration named {kind!r}", mend="platt or isotonic")
    p = _checked(scores)
    y = np.asarray(labels, dtype=np.float64)
    w = np.ones(len(p)) if weight is None else np.asarray(weight, dtype=np.float64)
    if p.ndim != 1 or not (p.shape == y.shape == w.shape):
        raise InputError(
            f"scores {p.shape}, labels {y.shape} and weights {w.shape} differ in shape",
            where="calibration",
            mend="give one of each a row",
        )
    if not ((y == 0) | (y == 1)).all():
        raise InputError("labels other than 0 and 1", where="calibration", mend="give 0 or 1, or bool")
    if not np.isfinite(w).all() or (w < 0).any():
        raise InputError("a weight is negative or not finite", where="calibration", mend="give 0 or more")
    p, y, w = p[w > 0], y[w > 0], w[w > 0]
    if not len(y) or y.min() == y.max():
        kinds = "no row counts" if not len(y) else f"all {len(y)} labels are {int(y[0])}"
        raise InputError(kinds, where="calibration", mend="fit on rows with and without a click")
    return _platt(p, y, w) if kind == "platt" else _isotonic(p, y, w)


def undo_sampling(scores: np.ndarray, keep: float) -> np.ndarray:
    """Probabilities among all rows, of a model that saw only a share of the negatives: ``p / (p + (1 - p) / keep)``.

    He et al. 2014 (Practical lessons from predicting clicks on ads at Facebook, 6.3). Exact where negatives were left
    out by a coin that looks at nothing; the order stays. It undoes the sampling alone: what else is wrong with the
    scores is for ``fit_calibration``, afterwards, on rows without sampling.

    Args:
        scores: any shape, in [0, 1].
        keep: share of the negatives that were kept, in (0, 1].

    Raises:
        InputError: NaN, scores outside [0, 1], or such a share.
    """
    if not 0 < keep <= 1:
        raise InputError(
            f"{keep} of the negatives kept", where="undo_sampling", mend="give a share above 0, up to 1"
        )
    p = _checked(scores)
    return np.asarray(p / (p + (1 - p) / keep))


def _platt(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> Calibration:
    x = _logit(p)
    up, down = x[y == 1], x[y == 0]
    if x.min() == x.max():
        raise InputError(
            "all scores are equal", where="Platt calibration", mend="calibrate a model that tells rows apart"
        )
    if up.min() >= down.max() or down.min() >= up.max():
        raise InputError(
            "scores part the labels without overlap, so no slope is steep enough",
            where="Platt calibration",
            mend="fit on more rows, or isotonic",
        )
    middle, spread = np.average(x, weights=w), x.std()  # Newton on numbers near 1 is well conditioned
    design = np.stack([(x - middle) / spread, np.ones_like(x)], axis=1)
    share = np.average(y, weights=w)
    at = np.array([0.0, np.log(share / (1 - share))])

    def loss(at: np.ndarray) -> float:
        z = design @ at
        return float((w * (np.logaddexp(0, z) - y * z)).sum())

    now = loss(at)
    for _ in range(_ROUNDS):
        q = _sigmoid(design @ at)
        slope = design.T @ (w * (q - y))
        if np.abs(slope).max() <= 1e-10 * w.sum():
            break
        curve = (design * (w * q * (1 - q))[:, None]).T @ design
        if np.linalg.cond(curve) > 1e14:  # so steep that no row is in doubt any more
            raise _no_slope()
        step = np.linalg.solve(curve, slope)
        while (then := loss(at - step)) > now + 1e-12 * abs(
            now
        ):  # too far: the loss is convex, half of it will do
            step = step / 2
        at, now = at - step, then
    else:
        raise _no_slope()
    a = float(at[0] / spread)
    if a <= 0:
        raise InputError(
            f"labels fall where scores rise (slope {a:.3g})",
            where="Platt calibration",
            mend="check which way the scores point; no calibration mends such an order",
        )
    return Calibration("platt", len(p), slope=a, intercept=float(at[1] - a * middle))


def _isotonic(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> Calibration:
    x, own = np.unique(p, return_inverse=True)  # equal scores are one point: the map cannot tell them apart
    mass = np.bincount(own, w)
    mean = np.bincount(own, w * y) / mass
    value: list[float] = []
    weight: list[float] = []
    points: list[int] = []
    for v, m in zip(mean.tolist(), mass.tolist(), strict=True):
        value.append(v)
        weight.append(m)
        points.append(1)
        while len(value) > 1 and value[-2] >= value[-1]:  # pool adjacent violators
            both = weight[-2] + weight[-1]
            value[-2:] = [(value[-2] * weight[-2] + value[-1] * weight[-1]) / both]
            weight[-2:] = [both]
            points[-2:] = [points[-2] + points[-1]]
    last = np.cumsum(points) - 1
    first = last - np.array(points) + 1
    ends = np.unique(np.concatenate([first, last]))  # of each flat piece its two ends say all
    level = np.clip(np.maximum.accumulate(np.repeat(value, points)[ends]), 0.0, 1.0)
    return Calibration("isotonic", len(p), thresholds=tuple(x[ends].tolist()), values=tuple(level.tolist()))


def _checked(scores: np.ndarray) -> np.ndarray:
    p = np.asarray(scores, dtype=np.float64)
    if np.isnan(p).any():
        raise InputError(
            "a score is NaN", where="calibration", mend="look for the row that the model cannot score"
        )
    if ((p < 0) | (p > 1)).any():
        raise InputError(
            f"scores from {p.min():.3g} to {p.max():.3g}", where="calibration",
            mend="give probabilities between 0 and 1 (the sigmoid of logits)",
        )  # fmt: skip
    return p


def _no_slope() -> InputError:
    return InputError(
        "no finite slope was found", where="Platt calibration", mend="fit on more rows, or isotonic"
    )


def _damaged(what: str) -> InputError:
    return InputError(f"this is no calibration: {what}", where="calibration", mend="fit it again")


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(p) - np.log1p(-p))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0, -z)))
