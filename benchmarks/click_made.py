"""Made click rows with a known truth, for the benchmarks of click models (numpy alone: peers read them too).

Every product has a category and a hidden vector near its category's; every user has a hidden taste. What users did
before is drawn by taste and popularity (Zipf over categories, and within each). At a moment of a user several products
are shown: half by taste, half by popularity; a click's log-odds are linear in taste times product, and that is all
there is to learn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

HIDDEN = 8
HOUR = 3_600_000_000  # microseconds


def _zipf(n: int, power: float = 1.0) -> np.ndarray:
    share = 1 / np.arange(1, n + 1) ** power
    return share / share.sum()


def _drawn(cumulative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One column of each row of cumulative shares ``[n, m]``, a hundred thousand rows at a time no more."""
    return np.minimum((cumulative < rng.random((len(cumulative), 1))).sum(1), cumulative.shape[1] - 1)


def make(
    path: Path, *, rows: int, shown: int, past: int, users: int, products: int, categories: int, seed: int = 0
) -> None:
    """Write one ``.npz``.

    Args:
        rows: altogether; the last tenth by time is for the test.
        shown: rows of one user and moment.
        past: acts of every user before the first moment.
        users, products, categories: how many there are; products are shared out evenly among categories.

    Arrays: ``category [P]`` from 1; the log ``what, time [E]`` with ``start [U + 1]``; of the rows ``user, item, time,
    label, page [N]``, ``until [N]``, and ``test [N]`` bool; ``truth [N]``, the true log-odds.
    """
    rng = np.random.default_rng(seed)
    each = products // categories
    centre = rng.normal(size=(categories, HIDDEN)) / HIDDEN**0.5
    vector = (
        np.repeat(centre, each, axis=0) + 0.5 * rng.normal(size=(categories * each, HIDDEN)) / HIDDEN**0.5
    )
    taste = rng.normal(size=(users, HIDDEN))
    popular, inside = _zipf(categories, 0.7), np.cumsum(_zipf(each))
    category = rng.permutation(
        categories
    )  # which categories are popular has nothing to do with what they are

    def by_taste(user: np.ndarray) -> np.ndarray:
        out = np.empty(len(user), dtype=np.int64)
        for at in range(0, len(user), 20_000):
            part = slice(at, at + 20_000)
            share = popular * np.exp(2 * (taste[user[part]] @ centre[category].T)).astype(np.float32)
            share = np.cumsum(share, axis=1)
            out[part] = _drawn(share / share[:, -1:], rng)
        return out

    def product(place: np.ndarray) -> np.ndarray:
        return category[place] * each + np.searchsorted(inside, rng.random(len(place))).clip(0, each - 1)

    moments = -(-rows // shown)
    who = rng.integers(0, users, moments)
    when = np.sort(rng.integers(30 * 24 * HOUR, 60 * 24 * HOUR, moments))
    # categories of the past: drawn again and again from the 20 that each user came by, as people do
    habit = by_taste(np.repeat(np.arange(users), 20)).reshape(users, 20)
    what = product(habit[np.repeat(np.arange(users), past), rng.integers(0, 20, users * past)])
    time = np.sort(rng.integers(0, 30 * 24 * HOUR, (users, past)), axis=1).ravel()

    user = np.repeat(who, shown)[:rows]
    place = by_taste(user)
    at_random = rng.random(rows) < 0.5
    place[at_random] = np.searchsorted(np.cumsum(popular), rng.random(int(at_random.sum()))).clip(
        0, categories - 1
    )
    item = product(place)
    truth = 1.5 * np.einsum("nh,nh->n", taste[user], vector[item]) - 1.5
    page = np.repeat(np.arange(moments), shown)[:rows]
    np.savez(
        path, category=(np.arange(products) // each % categories + 1).astype(np.int32),
        what=what.astype(np.int32), time=time, start=np.arange(users + 1) * past,
        user=user.astype(np.int32), item=item.astype(np.int32), when=when[page],
        until=((user + 1) * past).astype(np.int64), page=page, truth=truth.astype(np.float32),
        label=rng.random(rows) < 1 / (1 + np.exp(-truth)), test=page >= int(moments * 0.9),
    )  # fmt: skip
