"""Splits: the user's own wins, time comes next, and nothing leaks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shop.schema import TIME
from moonshelf.shop.splits import (
    assign_splits,
    count_leaks,
    creative_keys,
    drop_leaks,
    hash_split,
    product_disjoint,
    query_keys,
)

START = datetime(2024, 1, 1, tzinfo=UTC)


def searches(rows: Sequence[tuple[str, str | None, str | None]]) -> pl.DataFrame:
    """(query_id, query_image_id, split)."""
    return pl.DataFrame(
        {
            "query_id": [r[0] for r in rows],
            "query_text": pl.Series([None] * len(rows), dtype=pl.String),
            "query_image_id": pl.Series([r[1] for r in rows], dtype=pl.String),
            "split": pl.Series([r[2] for r in rows], dtype=pl.String),
        }
    )


def timed(days: Sequence[int | None], keys: list[str] | None = None) -> tuple[pl.DataFrame, pl.Series]:
    keys = keys or [str(i) for i in range(len(days))]
    times = pl.Series([None if d is None else START + timedelta(days=d) for d in days], dtype=TIME)
    frame = pl.DataFrame(
        {"key": keys, "time": times, "split": pl.Series([None] * len(days), dtype=pl.String)}
    )
    return frame, frame["key"]


def test_an_explicit_split_is_left_alone() -> None:
    frame = searches([("a", None, "test"), ("b", None, "train")])
    assigned = assign_splits(frame, frame["query_id"])
    assert assigned.how == "explicit" and assigned.frame.equals(frame)


def test_time_is_cut_at_80_and_90_percent() -> None:
    frame, key = timed(list(range(100))[::-1])
    assigned = assign_splits(frame, key)
    assert assigned.how == "time"
    assert assigned.frame["split"].to_list() == ["test"] * 10 + ["val"] * 10 + ["train"] * 80


def test_equal_times_stay_together() -> None:
    frame, key = timed([0] * 5 + [1] * 5)
    assert assign_splits(frame, key).frame["split"].to_list() == ["train"] * 5 + ["test"] * 5


def test_a_query_counts_at_its_first_time() -> None:
    frame, key = timed([*range(10), 99], [*map(str, range(10)), "0"])
    split = assign_splits(frame, key).frame["split"].to_list()
    assert split[0] == split[10] == "train"


def test_undated_rows_go_to_train_with_a_note() -> None:
    frame, key = timed([None, *range(10)])
    assigned = assign_splits(frame, key)
    assert assigned.frame["split"][0] == "train" and "1 rows without a time" in assigned.notes[0]


def test_one_time_for_all_is_no_time() -> None:
    frame, key = timed([3] * 50)
    assert assign_splits(frame, key).how == "hash"


def test_without_split_and_time_the_hash_decides_by_key_and_seed() -> None:
    frame = searches([(str(i), None, None) for i in range(2000)])
    one, two = (assign_splits(frame, frame["query_id"], seed=s).frame["split"] for s in (0, 1))
    assert one.equals(assign_splits(frame.reverse(), frame["query_id"].reverse()).frame["split"].reverse())
    assert not one.equals(two)
    shares = dict(one.value_counts().iter_rows())
    assert 1500 < shares["train"] < 1700 and 150 < shares["val"] < 250 and 150 < shares["test"] < 250


def test_the_hash_is_the_documented_one() -> None:
    assert [hash_split(k) for k in ("a", "b", "c", "q17")] == [
        hash_split(k, 0) for k in ("a", "b", "c", "q17")
    ]
    assert hash_split("a", 0, (0.0, 0.0)) == "test" and hash_split("a", 0, (1.0, 1.0)) == "train"


def test_an_empty_frame_has_no_split() -> None:
    frame = searches([])
    assert assign_splits(frame, frame["query_id"]).how == "none"
    assert len(drop_leaks(frame, {})[0]) == 0


def test_keys_are_photo_groups_or_queries() -> None:
    frame = searches([("a", "x", None), ("b", "y", None), ("c", None, None)])
    assert query_keys(frame, {"x": 7, "y": 7}).to_list() == ["g:7", "g:7", "q:c"]


def test_equal_texts_are_one_query_and_never_straddle() -> None:
    texts = ["Red  Shoe", "red shoe", "ＲＥＤ shoe ", "blue shoe", " "]
    frame = searches([(str(i), None, s) for i, s in enumerate(["train", "val", "test", "train", "train"])])
    frame = frame.with_columns(pl.Series("query_text", texts))
    assert query_keys(frame, {}).to_list() == ["t:red shoe"] * 3 + ["t:blue shoe", "q:4"]
    kept, dropped = drop_leaks(frame, {})
    assert kept["query_id"].to_list() == ["2", "3", "4"]
    assert dropped["reason"].to_list() == ["duplicate of a test query"] * 2
    split = assign_splits(frame.with_columns(split=None), query_keys(frame, {})).frame["split"].to_list()
    assert split[0] == split[1] == split[2]


LEAKY = [
    ("a", "x1", "train"),  # same picture as a test query
    ("b", "x2", "test"),
    ("c", "y1", "train"),  # same picture as a val query
    ("d", "y2", "val"),
    ("e", "z1", "val"),  # same picture as a test query
    ("f", "z2", "test"),
    ("g", None, "train"),  # the query itself is in test
    ("g", None, "test"),
    ("j", "v1", "train"),  # the query is in test with another photo
    ("j", "v2", "test"),
    ("h", "w1", "train"),  # harmless: only in train
    ("i", "w1", "train"),
]
GROUPS = {"x1": 0, "x2": 0, "y1": 1, "y2": 1, "z1": 2, "z2": 2, "w1": 3}


def test_leaks_are_counted_and_taken_out_of_the_less_protected_side() -> None:
    frame = searches(LEAKY)
    assert count_leaks(frame, GROUPS) == {"train in val": 1, "train in test": 3, "val in test": 1}
    kept, dropped = drop_leaks(frame, GROUPS)
    assert [q for q, s in kept.select("query_id", "split").rows() if s == "test"] == ["b", "f", "g", "j"]
    assert kept["query_id"].to_list() == ["b", "d", "f", "g", "j", "h", "i"]
    assert dropped.select("query_id", "reason").rows() == [
        ("a", "duplicate of a test query"),
        ("c", "duplicate of a val query"),
        ("e", "duplicate of a test query"),
        ("g", "duplicate of a test query"),
        ("j", "duplicate of a test query"),
    ]


_ROW = st.tuples(
    st.sampled_from("abcdef"),
    st.one_of(st.none(), st.sampled_from("uvwxyz")),
    st.sampled_from(["train", "val", "test"]),
)


@given(st.lists(_ROW, max_size=30), st.dictionaries(st.sampled_from("uvwxyz"), st.integers(0, 3)))
def test_nothing_leaks_after_the_repair_and_no_test_row_is_lost(
    rows: list[Any], groups: dict[str, int]
) -> None:
    frame = searches(rows)
    kept, dropped = drop_leaks(frame, groups)
    assert set(count_leaks(kept, groups).values()) <= {0}
    for name in ("query_id", "photo"):
        photos = [groups.get(i) if i is not None else None for i in kept["query_image_id"].to_list()]
        labelled = kept.with_columns(pl.Series("photo", photos, dtype=pl.Int64)).drop_nulls(name)
        assert labelled.group_by(name).agg(pl.col("split").n_unique())["split"].max() in (None, 1)
    assert len(kept) + len(dropped) == len(frame)
    assert len(kept.filter(split="test")) == len(frame.filter(split="test"))


@given(
    st.dictionaries(st.text("abc", min_size=1), st.integers(0, 5), min_size=1),
    st.floats(0.05, 0.95),
    st.integers(0, 99),
)
def test_product_disjoint_takes_whole_groups(groups: dict[str, int], fraction: float, seed: int) -> None:
    held = product_disjoint(list(groups), groups, fraction, seed)
    rest = set(groups) - held
    assert held and not {groups[p] for p in held} & {groups[p] for p in rest}
    assert held == product_disjoint(sorted(groups, reverse=True), groups, fraction, seed)


def test_product_disjoint_reaches_its_share_and_follows_the_seed() -> None:
    ids = [str(i) for i in range(81)]
    assert len(product_disjoint(ids, {}, 0.26, 0)) == 21
    assert product_disjoint(ids, {}, 0.26, 0) != product_disjoint(ids, {}, 0.26, 1)
    with pytest.raises(ValueError, match="fraction"):
        product_disjoint(ids, {}, 1.0)


def test_creatives_of_one_design_have_one_key() -> None:
    """Tests 2 and 3 share design d, 3 and 4 product y; a creative of that product without a test follows them."""
    creatives = pl.DataFrame(
        {
            "creative_id": list("abcdefghi"),
            "test_id": ["1", "2", "3", "3", "4", None, None, None, "5"],
            "product_id": [None, "x", "z", "y", "y", "y", "w", None, "v"],
        }
    )
    products = pl.DataFrame({"product_id": ["x", "y", "z"], "spu_id": ["d", None, "d"]})
    assert creative_keys(creatives.vstack(apart := more_tests()), products)[:9].to_list() == [
        "t1", "t2", "t2", "t2", "t2", "t2", "pw", "ch", "t5",
    ]  # fmt: skip
    assert creative_keys(apart, None).to_list() == [f"tm{i}" for i in range(9)]
    site = creatives.with_columns(product_id=pl.lit("site"))
    assert creative_keys(site, None)[:4].to_list() == ["t1", "t2", "t3", "t3"]


def more_tests() -> pl.DataFrame:
    """Nine tests that share nothing."""
    return pl.DataFrame(
        {
            "creative_id": [f"m{i}" for i in range(9)],
            "test_id": [f"m{i}" for i in range(9)],
            "product_id": pl.Series([None] * 9, dtype=pl.String),
        }
    )
