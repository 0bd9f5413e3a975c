"""Scales and ticks of the charts: from data to places on the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LOG_FROM = 20.0  # a largest value so many times the median is drawn on a logarithmic axis


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps ``low..high`` of the data to ``start..stop`` of the picture, evenly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place of a value; values outside are held at the ends."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.stop - self.start)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) that lie in ``low..high``."""
    if not high > low:
        return [low]
    rough = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten in ``low..high``; powers alone over more than three decades."""
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10.0**p for p in powers for f in factors if low * 0.999 <= f * 10.0**p <= high * 1.001]


def wants_log(values: Sequence[float]) -> bool:
    """Whether a few values are so large that the others would lie on one line."""
    return len(values) > 3 and min(values) > 0 and max(values) > LOG_FROM * float(np.median(values))


def spread(values: Iterable[float], *, zero: bool = False) -> tuple[float, float]:
    """A range with a little room around the values; from zero when asked for and nothing is below it."""
    held = list(values)
    low, high = min(held), max(held)
    if zero and low >= 0:
        low = 0.0
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (low if zero and low == 0 else low - room), high + room


def thin(x: Sequence[float], y: Sequence[float], most: int = 320) -> tuple[list[float], list[float]]:
    """At most about ``most`` points that keep every spike: the lowest and highest of each bin, in order."""
    if len(x) <= most:
        return list(x), list(y)
    keep: list[int] = []
    values = np.asarray(y)
    for part in np.array_split(np.arange(len(x)), most // 2):
        keep += sorted({int(part[values[part].argmin()]), int(part[values[part].argmax()])})
    return [x[i] for i in keep], [y[i] for i in keep]


def smooth(y: Sequence[float], window: int) -> list[float]:
    """Mean of the ``window`` values around each (fewer at the ends)."""
    if window <= 1 or len(y) < 2:
        return list(y)
    total = np.concatenate([[0.0], np.cumsum(np.asarray(y, dtype=np.float64))])
    at = np.arange(len(y))
    first, stop = np.maximum(at - window // 2, 0), np.minimum(at + (window + 1) // 2, len(y))
    return [float(v) for v in (total[stop] - total[first]) / (stop - first)]
