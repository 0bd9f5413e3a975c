"""Typed pairs: which modalities the query of a pair has and which ones its product shows, in a planned mix.

MOON trains on nine types (2511.11305, Table 2, weights in billions of samples). How they are interleaved is not known;
that every batch holds the planned mix is our design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.training.sampler import cycle

QUERIES = ("text", "image", "title+image", "rich+image")
ASKED_BY_PRODUCTS = frozenset(("title+image", "rich+image"))
SHOWS = ("rich", "image", "title+image", "rich+image")
MOON = (
    "text>rich:0.2",
    "text>image:0.2",
    "text>title+image:0.2",
    "text>rich+image:0.5",
    "image>image:0.2",
    "image>title+image:0.5",
    "image>rich+image:0.2",
    "title+image>title+image:0.5",
    "rich+image>rich+image:0.1",
)
"""Table 2 of MOON: ``query>product:weight``; rich = title, category, brand, attributes, description."""


@dataclass(frozen=True, slots=True)
class PairType:
    """One type: modality of the query, what the product shows, weight in the mix."""

    query: str
    show: str
    weight: float

    def __str__(self) -> str:
        return f"{self.query}>{self.show}"


def parse_types(texts: Sequence[str]) -> tuple[PairType, ...]:
    """``query>show:weight`` each; the one word ``moon`` stands for ``MOON``.

    Raises:
        InputError: unknown modality, a weight that is no number above 0, a type twice.
    """
    found: list[PairType] = []
    for text in MOON if tuple(texts) == ("moon",) else texts:
        pair, _, weight = text.partition(":")
        query, _, show = pair.partition(">")
        try:
            value = float(weight or 1)
        except ValueError:
            value = 0.0
        if query not in QUERIES or show not in SHOWS or not 0 < value < float("inf"):
            raise InputError(
                f"{text!r} is no type of pairs",
                mend=f"write query>product:weight with a query of {', '.join(QUERIES)} and a product that shows "
                f"{', '.join(SHOWS)}, or moon",
            )
        found.append(PairType(query, show, value))
    if len({str(t) for t in found}) < len(found):
        raise InputError("a type of pairs is given twice", mend="give each type once")
    return tuple(found)


def asks_products(types: Sequence[str]) -> bool:
    """Whether a mix has a type whose query may be a product."""
    return any(one.query in ASKED_BY_PRODUCTS for one in parse_types(types))


def modalities(image: str | None, text: str | None, source: str = "search") -> frozenset[str]:
    """What a query can ask as: photo and text together as ``title+image``, a product as that or ``rich+image``.

    One that lacks photo or text asks as what it has. One that asks for itself (``own``) can ask as anything it has.
    """
    if source == "product" and image and text:
        return ASKED_BY_PRODUCTS
    if source == "own":
        alone = [name for name, there in (("image", image), ("text", text)) if there]
        return frozenset(alone) | (ASKED_BY_PRODUCTS if len(alone) == 2 else frozenset())
    return frozenset(("title+image" if image and text else "image" if image else "text",))


def needed(show: str) -> frozenset[str]:
    """What a product must have to be shown so."""
    return frozenset(("image", "rich") if show not in ("image", "rich") else (show,))


class MixedSampler:
    """Batches of which a fixed share are products that ask for themselves: a function of (seed, step).

    So every batch has queries with both modalities, however few of its pairs are such (our design).

    Args:
        own: for each pair, whether a product asks for itself; both kinds occur.
        share: of a batch; at least one pair of either kind.
        batch: pairs a batch, at least 2.
        seed, name: of the shuffled passes, one for each kind.
    """

    def __init__(self, own: np.ndarray, share: float, batch: int, seed: int, name: str) -> None:
        self.seed, self.name = seed, name
        count = min(max(1, round(batch * share)), batch - 1)
        self._pools = (
            ("own", np.flatnonzero(own), count),
            ("searches", np.flatnonzero(~own), batch - count),
        )

    def rows(self, step: int) -> np.ndarray:
        """Pairs of a step."""
        parts = [
            pool[cycle(len(pool), step * count, count, self.seed, f"{self.name} {kind}")]
            for kind, pool, count in self._pools
        ]
        return np.concatenate(parts)


class TypedSampler:
    """Batches of pairs in the planned mix of types: a function of (seed, step).

    Every type goes through its pairs in shuffled passes of its own, so small pools come back more often. Types whose
    modality no pair has are left out, each with a line.

    Args:
        kinds: what the query of each pair can ask as (``modalities``).
        shows: for each pair, what its product can show (``image``: it has photos; ``rich``: it has text).
        types: the mix.
        batch: pairs a batch; each type gets its share of it, rounded by largest remainder.
        seed: of the passes.
        stage: whose settings an error names.

    Raises:
        InputError: no type is left, or the batch is too small to hold one pair of each.
    """

    def __init__(
        self,
        kinds: Sequence[frozenset[str]],
        shows: Sequence[frozenset[str]],
        types: Sequence[PairType],
        batch: int,
        seed: int,
        stage: str = "posttrain",
    ) -> None:
        self.seed = seed
        self.pools: list[tuple[PairType, np.ndarray]] = []
        for one in types:
            rows = [i for i, kind in enumerate(kinds) if one.query in kind and needed(one.show) <= shows[i]]
            if rows:
                self.pools.append((one, np.asarray(rows, dtype=np.int64)))
            else:
                say(f"pairs of type {one}: none in this data; the other types share its place")
        if not self.pools:
            raise InputError("no pair of any type that is asked for", mend=f"leave {stage}.types empty")
        if batch < len(self.pools):
            raise InputError(
                f"a batch of {batch} cannot hold {len(self.pools)} types", mend=f"raise {stage}.batch"
            )
        weights = np.array([one.weight for one, _ in self.pools])
        self.counts = planned(weights, batch)

    def rows(self, step: int) -> tuple[np.ndarray, list[PairType]]:
        """Pairs of a step and the type of each."""
        parts, types = [], list[PairType]()
        for (one, pool), count in zip(self.pools, self.counts.tolist(), strict=True):
            parts.append(pool[cycle(len(pool), step * count, count, self.seed, f"pairs {one}")])
            types += [one] * count
        return np.concatenate(parts), types


def planned(weights: np.ndarray, batch: int) -> np.ndarray:
    """``[types]`` int64 that sum to ``batch``: one each, the rest by weight, rounded by largest remainder."""
    exact = weights / weights.sum() * (batch - len(weights))
    counts = np.floor(exact).astype(np.int64)
    most = np.argsort(counts - exact, kind="stable")[: batch - len(weights) - int(counts.sum())]
    counts[most] += 1
    out: np.ndarray = counts + 1
    return out
