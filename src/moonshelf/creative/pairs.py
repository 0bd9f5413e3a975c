"""Pairs of creatives with a known winner, from logged counts (CreativePair of Creative4U 2508.12628, our reading).

For creatives A and B of one test with impressions n, clicks k, rates p = k / n and pooled rate q:

    z   = (p_A - p_B) / sqrt(q (1 - q) (1 / n_A + 1 / n_B))      two-proportion z
    gap = max(p_A, p_B) / min(p_A, p_B) - 1                      relative gap; 0.6 is the paper's 60%

The paper keeps pairs by gap alone, so that with few clicks chance decides many labels; ``z`` is our design. The winner
stands first in half of the pairs, whatever order the log has.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from moonshelf.creative.logs import Logged
from moonshelf.errors import InputError, TooLittleData
from moonshelf.types import Creative
from moonshelf.workspace import atomic_folder, read_manifest, write_frame, write_manifest

STAGE = "creative-pairs"
LEAST_CLICKS = 5  # to be expected of each creative, or z is far from normal (Cochran 1954)
Side = Literal["A", "B"]
_SIDES: dict[str, type[pl.DataType]] = {
    "creative_id": pl.String, "image_id": pl.String, "text": pl.String, "impressions": pl.Int64, "clicks": pl.Int64
}  # fmt: skip
COLUMNS = (
    *(f"{name}_{side}" for side in "ab" for name in _SIDES),
    "group", "split", "title", "category", "queries", "z", "gap", "winner",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRules:
    """Which pairs are kept.

    Attributes:
        by: ``z`` keeps ``|z| >= z``; ``gap`` keeps ``gap >= gap`` (the paper); ``both`` asks for both.
        impressions: each creative was shown at least so often (the paper: more than 1,000).
        alone: keep only pairs that differ in this alone: ``text`` or ``image``; "" takes any difference. A headline
            cannot answer for the picture beside it.
    """

    by: Literal["z", "gap", "both"] = "z"
    z: float = 1.96
    gap: float = 0.6
    impressions: int = 1000
    alone: Literal["", "text", "image"] = ""


@dataclass(frozen=True, slots=True)
class CreativePair:
    """Two creatives of one test. ``z`` is signed: above 0 where A did better; ``winner`` is its sign."""

    a: Creative
    b: Creative
    group: str
    split: str
    title: str
    category: str
    queries: tuple[str, ...]
    z: float
    gap: float
    winner: Side

    def swapped(self) -> CreativePair:
        """The same pair in the other order."""
        other: Side = "B" if self.winner == "A" else "A"
        return dataclasses.replace(self, a=self.b, b=self.a, z=-self.z, winner=other)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs as columns (``COLUMNS``: every field of a creative with ``_a`` and ``_b``), and what was left out.

    Attributes:
        report: ``kept`` and pairs left out, by reason; creatives left out before that under ``creatives``.
    """

    frame: pl.DataFrame
    rules: PairRules = PairRules()
    report: Mapping[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[CreativePair]:
        for row in self.frame.iter_rows(named=True):
            a, b = (
                Creative(
                    **{name: row[f"{name}_{side}"] for name in _SIDES},
                    queries=tuple(row["queries"]), split=row["split"],
                )
                for side in "ab"
            )  # fmt: skip
            yield CreativePair(
                a, b, row["group"], row["split"], row["title"], row["category"], tuple(row["queries"]),
                row["z"], row["gap"], row["winner"],
            )  # fmt: skip

    def part(self, split: str) -> Pairs:
        """The pairs of one split."""
        return dataclasses.replace(self, frame=self.frame.filter(pl.col("split") == split))

    def swapped(self) -> Pairs:
        """All pairs in the other order."""
        turned = {f"{name}_{x}": f"{name}_{y}" for name in _SIDES for x, y in ("ab", "ba")}
        frame = self.frame.rename(turned).with_columns(
            -pl.col("z"),
            pl.when(pl.col("winner") == "A").then(pl.lit("B")).otherwise(pl.lit("A")).alias("winner"),
        )
        return dataclasses.replace(self, frame=frame.select(COLUMNS))

    def save(self, folder: Path) -> None:
        """``pairs.parquet`` and a manifest with the rules and the report; the folder appears whole."""
        with atomic_folder(folder, marks=("manifest.json",)) as out:
            write_frame(self.frame, out / "pairs.parquet")
            write_manifest(out, stage=STAGE, config=dataclasses.asdict(self.rules), metrics=dict(self.report))


def load_pairs(folder: Path) -> Pairs:
    """Read what :meth:`Pairs.save` wrote.

    Raises:
        InputError: there are no pairs, or the file is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None or manifest.get("stage") != STAGE:
        raise InputError("there are no pairs of creatives here", where=str(folder), mend="build them first")
    try:
        frame = pl.read_parquet(folder / "pairs.parquet", memory_map=False).select(COLUMNS)
        return Pairs(frame, PairRules(**manifest["config"]), manifest["metrics"])
    except (OSError, TypeError, KeyError, pl.exceptions.PolarsError) as error:
        raise InputError("the pairs cannot be read", where=str(folder), mend="build them again") from error


def build_pairs(logged: Logged, rules: PairRules | None = None, *, seed: int = 0) -> Pairs:
    """All pairs of one test that the rules keep.

    Args:
        logged: creatives that may be compared.
        seed: of the order in which pairs stand and of who stands first; in every split the winner stands first in
            half of the pairs (one more or less).

    Raises:
        TooLittleData: no pair is left.

    Cost: ``sum over tests of creatives^2 / 2`` rows.
    """
    rules, start = rules or PairRules(), time.monotonic()
    columns = [*_SIDES, "group", "split", "title", "category", "queries", "look", "picture", "words"]
    rows = logged.frame.select(columns).with_row_index("at")
    both = rows.join(rows, on="group", suffix="_b").filter(pl.col("at") < pl.col("at_b"))
    both = both.rename({name: f"{name}_a" for name in (*_SIDES, "picture", "words", "look")})
    left: dict[str, int] = {}
    total = len(both)

    def leave(bad: pl.Expr, why: str) -> None:
        nonlocal both
        found = both.select(bad.fill_null(False).alias("bad"))["bad"]
        if found.any():
            left[why] = int(found.sum())
            both = both.filter(~found)

    leave(pl.col("look_a") == pl.col("look_b"), "near-identical")
    other = pl.col("picture_a").is_null() != pl.col("picture_b").is_null()
    leave(other, "one is a picture, the other is none")
    if rules.alone:
        kept = {"text": "picture", "image": "words"}[rules.alone]
        leave(
            pl.col(f"{kept}_a").ne_missing(pl.col(f"{kept}_b")), f"they differ in more than the {rules.alone}"
        )
    few = pl.min_horizontal("impressions_a", "impressions_b") < rules.impressions
    leave(few, f"fewer than {rules.impressions:,} impressions")
    both = both.with_columns(*_evidence())
    leave(pl.col("z").is_nan() | (pl.col("z") == 0), "equally good")
    if rules.by in ("z", "both"):
        leave(pl.col("z").abs() < rules.z, f"|z| below {rules.z}")
        if rules.z > 0:
            few = pl.col("expected") < LEAST_CLICKS
            leave(few, f"fewer than {LEAST_CLICKS} clicks to be expected, too few for z")
    if rules.by in ("gap", "both"):
        leave(pl.col("gap") < rules.gap, f"gap below {rules.gap:.0%}")
    if not len(both):
        raise TooLittleData(
            f"none of {total:,} pairs of creatives is left",
            mend="log more impressions, or ask for less evidence; left out: "
            + (", ".join(f"{n} {why}" for why, n in left.items()) or "none"),
        )
    winner = pl.when(pl.col("z") > 0).then(pl.lit("A")).otherwise(pl.lit("B")).alias("winner")
    pairs = Pairs(both.with_columns(winner).select(COLUMNS), rules)
    frame = _balanced(pairs, seed)
    report: dict[str, object] = {
        "pairs": total, "kept": len(frame), "left_out": left, "groups": frame["group"].n_unique(),
        "by_split": dict(sorted(frame["split"].value_counts().iter_rows())),
        "creatives": {"taken": len(logged), "left_out": dict(logged.left), "split": logged.how},
        "seed": seed, "seconds": round(time.monotonic() - start, 3),
    }  # fmt: skip
    return Pairs(frame, rules, report)


def _evidence() -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """z, relative gap, and the clicks of the less shown one that are to be expected where both are equally good."""
    ka, kb, na, nb = (pl.col(f"{c}_{s}").cast(pl.Float64) for c in ("clicks", "impressions") for s in "ab")
    pa, pb, q = ka / na, kb / nb, (ka + kb) / (na + nb)
    z = (pa - pb) / (q * (1 - q) * (1 / na + 1 / nb)).sqrt()
    gap = pl.max_horizontal(pa, pb) / pl.min_horizontal(pa, pb) - 1
    return z.alias("z"), gap.alias("gap"), (q * pl.min_horizontal(na, nb)).alias("expected")


def _balanced(pairs: Pairs, seed: int) -> pl.DataFrame:
    """The pairs in a seeded order, winners first in turn within each split; then as they came."""
    n, rng = len(pairs), np.random.default_rng(seed)
    drawn = pl.Series("drawn", rng.permutation(n))
    frame = pairs.frame.with_columns(drawn, pl.Series("place", np.arange(n)))
    turn = (pl.col("drawn").rank("ordinal").over("split") % 2 == int(rng.integers(2))).alias("first")
    frame = frame.with_columns(turn)
    wrong = pl.col("first") != (pl.col("winner") == "A")
    stay, swap = frame.filter(~wrong), frame.filter(wrong)
    turned = Pairs(swap.select(COLUMNS)).swapped().frame.with_columns(swap["place"])
    return pl.concat([stay.select(*COLUMNS, "place"), turned]).sort("place").drop("place")


def one_line(report: Mapping[str, object]) -> str:
    """``"kept 554 of 2,100 pairs of 156 tests; left out: 300 near-identical, ..."``."""
    left = report["left_out"]
    assert isinstance(left, Mapping)
    why = ", ".join(f"{n:,} {reason}" for reason, n in left.items()) or "none"
    return (
        f"kept {report['kept']:,} of {report['pairs']:,} pairs of {report['groups']:,} tests; left out: {why}"
    )
