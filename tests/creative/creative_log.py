"""A made log of headline tests in which one thing is known to be worth clicks."""

from __future__ import annotations

import numpy as np
import polars as pl

NOUNS = ("dog", "river", "school", "doctor", "garden", "bridge", "letter", "train", "window", "kitchen")
ENDS = ("at home", "in the rain", "with a friend", "on a Sunday", "after work", "by the sea")


def make_log(
    tests: int, *, seed: int = 0, worth: float = 0.5, shown: int = 6000, per_test: int = 4
) -> pl.DataFrame:
    """Headlines; a number in one multiplies its click rate by ``exp(worth)``, a test has a rate of its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(tests):
        noun, base = NOUNS[t % len(NOUNS)], float(np.exp(rng.normal(-3.5, 0.4)))
        for i in range(per_test):
            number = rng.random() < 0.5
            count = f"{int(rng.integers(2, 99))} things" if number else "things"
            text = f"The {noun} {t} story: {count} to know {ENDS[int(rng.integers(len(ENDS)))]}"
            rate = base * np.exp(worth * number + rng.normal(0, 0.05))
            n = int(shown * rng.uniform(0.8, 1.2))
            rows.append(
                {
                    "creative_id": f"c{t}-{i}", "test_id": f"t{t}", "text": text, "impressions": n,
                    "clicks": int(rng.binomial(n, rate)), "number": bool(number),
                    "split": "train" if t % 10 < 6 else "val" if t % 10 < 8 else "test",
                }
            )  # fmt: skip
    return pl.DataFrame(rows)
