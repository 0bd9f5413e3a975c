"""Item-to-item pairs from events."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shop.follows import WITHIN, item_pairs, train_until
from moonshelf.types import ACTIONS

START = datetime(2024, 5, 1)


def events(rows: list[tuple[str, int, str, str]]) -> pl.DataFrame:
    """(user, minute, product, action)"""
    return pl.DataFrame(
        [(u, START + timedelta(minutes=m), p, a) for u, m, p, a in rows],
        schema={"user_id": pl.String, "time": pl.Datetime, "product_id": pl.String, "action": pl.String},
        orient="row",
    )


def test_neighbours_of_one_user_within_the_time() -> None:
    table = events(
        [
            ("u", 0, "a", "click"),
            ("v", 1, "z", "click"),
            ("u", 5, "b", "click"),
            ("u", 6, "b", "cart"),  # the same product again is no pair
            ("u", 7, "x", "view"),  # not an act to learn from
            ("u", 8, "c", "purchase"),
            ("u", 100, "d", "click"),  # another errand
            ("v", 101, "a", "click"),
            ("v", 102, "b", "purchase"),  # a, b again, with a stronger act
        ]
    )
    assert item_pairs(table).rows() == [("a", "b", "purchase"), ("b", "c", "purchase")]
    assert item_pairs(table, before=START + timedelta(minutes=50)).rows() == [
        ("a", "b", "click"),
        ("b", "c", "purchase"),
    ]
    assert item_pairs(table, within=timedelta(minutes=1)).rows() == [("a", "b", "purchase")]
    assert item_pairs(table[:0]).rows() == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from("uv"),
            st.integers(0, 90),
            st.sampled_from("abcd"),
            st.sampled_from([*ACTIONS, "view"]),
        ),
        max_size=30,
    )
)
def test_the_same_as_walking_each_user(rows: list[tuple[str, int, str, str]]) -> None:
    best: dict[tuple[str, str], int] = {}
    last: dict[str, tuple[int, str]] = {}
    for user, minute, product, action in sorted(rows, key=lambda r: r[1]):
        if action not in ACTIONS:
            continue
        before = last.get(user)
        if before and before[1] != product and minute - before[0] <= WITHIN.total_seconds() / 60:
            pair = (before[1], product)
            best[pair] = max(best.get(pair, 0), ACTIONS.index(action))  # type: ignore[arg-type]
        last[user] = (minute, product)
    found = {(a, b): ACTIONS.index(c) for a, b, c in item_pairs(events(rows)).rows()}
    assert found == best


def test_events_of_the_test_period_are_left_out() -> None:
    table = events([("u", minute, "a", "click") for minute in range(10)])
    assert train_until(table, None) == START + timedelta(minutes=8)
    searches = pl.DataFrame(
        {"split": ["train", "val", "test"], "time": [START + timedelta(minutes=m) for m in (1, 4, 6)]}
    )
    assert train_until(table, searches) == START + timedelta(minutes=4)
    undated = searches.with_columns(pl.lit(None, dtype=pl.Datetime).alias("time"))
    assert train_until(table, undated) == START + timedelta(minutes=8)
    assert train_until(table[:1], None) is None and train_until(table[:0], None) is None
