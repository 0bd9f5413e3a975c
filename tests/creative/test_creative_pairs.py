"""Pairs from logs: evidence as computed by hand, rules, order, the file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from creative_log import make_log
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshelf.creative.logs import from_log
from moonshelf.creative.pairs import COLUMNS, PairRules, build_pairs, load_pairs, one_line
from moonshelf.errors import InputError, TooLittleData


def log(*rows: tuple[str, str | None, str | None, int, int], split: str = "train") -> pl.DataFrame:
    names = ("creative_id", "text", "image_id", "impressions", "clicks")
    frame = pl.DataFrame([dict(zip(names, r, strict=True)) for r in rows], infer_schema_length=None)
    return frame.with_columns(pl.lit("1").alias("test_id"), pl.lit(split).alias("split"))


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1000, 9000), st.integers(1000, 9000))
@settings(max_examples=50, deadline=None)
def test_z_gap_and_winner_by_hand(ka: int, kb: int, na: int, nb: int) -> None:
    if ka * nb == kb * na:
        return
    pair = next(
        iter(build_pairs(from_log(log(("a", "x", None, na, ka), ("b", "y", None, nb, kb))), PairRules(z=0.0)))
    )
    k = {"a": (ka, na), "b": (kb, nb)}
    (k1, n1), (k2, n2) = k[pair.a.creative_id], k[pair.b.creative_id]
    q = (k1 + k2) / (n1 + n2)
    z = (k1 / n1 - k2 / n2) / math.sqrt(q * (1 - q) * (1 / n1 + 1 / n2))
    assert pair.z == pytest.approx(z, rel=1e-9)
    rates = sorted((k1 / n1, k2 / n2))
    assert pair.gap == pytest.approx(rates[1] / rates[0] - 1)
    assert pair.winner == ("A" if z > 0 else "B") and pair.swapped().swapped() == pair
    assert pair.swapped().winner != pair.winner and pair.swapped().z == -pair.z


def test_rules_leave_out_and_count() -> None:
    frame = log(
        ("a", "one", "x", 2000, 100), ("b", "two", "x", 2000, 40), ("c", "One!", "x", 2000, 10),
        ("d", "three", "y", 2000, 90), ("e", "four", "x", 500, 1), ("f", "five", None, 2000, 50),
    )  # fmt: skip
    pairs = build_pairs(from_log(frame), PairRules(alone="text"))
    left = pairs.report["left_out"]
    assert left == {
        "near-identical": 1, "one is a picture, the other is none": 5, "they differ in more than the text": 4,
        "fewer than 1,000 impressions": 3,
    }  # fmt: skip
    assert len(pairs) == 2 and pairs.report["pairs"] == 15
    assert "kept 2 of 15 pairs of 1 tests" in one_line(pairs.report)
    paper = build_pairs(from_log(frame), PairRules(by="gap"))
    assert all(p.gap >= 0.6 and min(p.a.impressions, p.b.impressions) >= 1000 for p in paper)
    with pytest.raises(TooLittleData, match="left out"):
        build_pairs(from_log(frame), PairRules(z=50))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_order_is_balanced_in_every_split_and_seeded(seed: int) -> None:
    logged = from_log(make_log(80))
    pairs = build_pairs(logged, seed=seed)
    for split in ("train", "val", "test"):
        first = (pairs.part(split).frame["winner"] == "A").to_numpy()
        assert abs(first.sum() * 2 - len(first)) <= 1
    assert pairs.frame.equals(build_pairs(logged, seed=seed).frame)
    other = build_pairs(logged, seed=seed + 10).frame
    assert other["winner"].to_list() != pairs.frame["winner"].to_list()
    assert set(pairs.frame["split"]) == {"train", "val", "test"}
    assert (pairs.frame.group_by("group").agg(pl.col("split").n_unique())["split"] == 1).all()


def test_swapping_all_keeps_columns_and_turns_signs() -> None:
    pairs = build_pairs(from_log(make_log(30)))
    turned = pairs.swapped()
    assert tuple(turned.frame.columns) == COLUMNS
    assert turned.frame["text_a"].to_list() == pairs.frame["text_b"].to_list()
    assert np.allclose(turned.frame["z"], -pairs.frame["z"].to_numpy())
    assert turned.swapped().frame.equals(pairs.frame)
    assert [p.swapped() for p in pairs] == list(turned)


def test_pairs_come_back_from_disk(tmp_path: Path) -> None:
    pairs = build_pairs(from_log(make_log(30)), PairRules(z=2.5))
    pairs.save(tmp_path / "pairs")
    back = load_pairs(tmp_path / "pairs")
    assert back.frame.equals(pairs.frame) and back.rules == pairs.rules and back.report == pairs.report
    (tmp_path / "pairs" / "pairs.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read"):
        load_pairs(tmp_path / "pairs")
    with pytest.raises(InputError, match="no pairs"):
        load_pairs(tmp_path)


def test_a_few_clicks_are_no_evidence() -> None:
    """4 of 1,000 against none has z = 2.0 and, exactly, p = .125."""
    few = from_log(log(("a", "x", None, 1000, 4), ("b", "y", None, 1000, 0)))
    with pytest.raises(TooLittleData, match="too few for z"):
        build_pairs(few, PairRules(impressions=0))
    assert len(build_pairs(few, PairRules(impressions=0, z=0.0))) == 1
    many = from_log(log(("a", "x", None, 1000, 20), ("b", "y", None, 1000, 6)))
    assert len(build_pairs(many, PairRules(impressions=0))) == 1
