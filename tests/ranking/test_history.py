"""The log of what users did: order, no future, duplicates, queries, the memory map."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking.history import QUERY, History, build_history, load_history, save_history
from moonshelf.shop.shop import Shop, open_shop

DAY = datetime(2025, 3, 1, tzinfo=UTC)
Make = Callable[[list[tuple[str, float, str, str, str | None]]], Shop]


@pytest.fixture
def make(shop_with: Callable[..., Path], tmp_path: Path) -> Make:
    """A shop with these events: user, day, product, action, query."""

    def build(rows: list[tuple[str, float, str, str, str | None]]) -> Shop:
        table = pl.DataFrame(
            {
                "user_id": [r[0] for r in rows],
                "time": [DAY + timedelta(days=r[1]) for r in rows],
                "product_id": [r[2] for r in rows],
                "action": [r[3] for r in rows],
                "query_text": pl.Series([r[4] for r in rows], dtype=pl.String),
            }
        )
        return open_shop(shop_with(events=table, searches=None), cache=tmp_path / "read")

    return build


def moments(*days: float) -> np.ndarray:
    return np.array([int((DAY + timedelta(days=d)).timestamp() * 1e6) for d in days], dtype=np.int64)


def test_users_lie_one_after_another_in_order_of_time(make: Make) -> None:
    history = build_history(
        make([("b", 2, "3", "click", None), ("a", 5, "1", "click", None), ("b", 1, "2", "cart", "red mug")])
    )
    assert history.users == ("a", "b") and history.start.tolist() == [0, 1, 4]
    names = [(*history.items, *history.queries)[w] for w in history.what]
    assert names == ["1", "red mug", "2", "3"]  # the query comes before what it led to
    assert history.kind.tolist() == [0, QUERY, 1, 0]
    assert history.time.tolist() == moments(5, 1, 1, 2).tolist()


def test_the_future_is_never_seen(make: Make) -> None:
    """An act at the very moment of a row, and one a microsecond later, are not in its past."""
    history = build_history(
        make([("a", 1, "1", "click", None), ("a", 2, "2", "click", None), ("a", 3, "3", "click", None),
              ("b", 0, "4", "click", None)])
    )  # fmt: skip
    a, at = history.users.index("a"), moments(2)
    for shift, seen in ((-1, ["1"]), (0, ["1"]), (1, ["1", "2"])):
        until = history.until(np.array([a]), at + shift)
        positions, there = history.slices(np.array([a]), until, 10)
        assert [history.items[history.what[p]] for p in positions[0][there[0]]] == seen
    assert history.until(np.array([a, -1]), moments(99, 99)).tolist() == [3, 0]
    positions, there = history.slices(np.array([a, -1]), np.array([3, 0]), 2)
    assert there.tolist() == [[True, True], [False, False]] and positions[0].tolist() == [1, 2]
    assert not history.slices(np.array([-1]), np.array([0]), 5)[1].any()


@given(
    acts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40),
    asked=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 11)), min_size=1, max_size=20),
)
def test_until_equals_counting(acts: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    acts = sorted(acts)
    users = np.array([u for u, _ in acts])
    start = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=4))))
    time = np.array([t for _, t in acts], dtype=np.int64)
    zeros = np.zeros(len(acts), dtype=np.int32)
    history = History(("x",), (), ("a", "b", "c", "d"), zeros, time, zeros.astype(np.uint8), start)
    who, when = (np.array(column, dtype=np.int64) for column in zip(*asked, strict=True))
    want = [0 if u < 0 else start[u] + sum(a == u and t < moment for a, t in acts) for u, moment in asked]
    assert history.until(who, when).tolist() == want


def test_what_cannot_be_used_is_counted(make: Make) -> None:
    shop = make([("a", 1, "1", "click", None), ("a", 1, "1", "click", None), ("a", 1, "1", "cart", None),
                 ("a", 2, "nothing", "click", None), ("a", 3, "2", "view", None)])  # fmt: skip
    history = build_history(shop)
    assert history.told == {"of another action": 1, "twice": 1}
    assert shop.rejects["reason"].str.contains("product").any()  # not in the catalogue
    assert len(history.what) == 2


def test_queries_come_from_searches_where_no_event_names_one(
    shop_with: Callable[..., Path], shop_folder: Path, tmp_path: Path
) -> None:
    searches = pl.read_parquet(shop_folder / "searches.parquet").with_columns(
        user_id=pl.lit("a"), time=pl.lit(DAY)
    )
    events = pl.DataFrame(
        {"user_id": ["a"], "time": [DAY + timedelta(days=1)], "product_id": ["1"], "action": ["click"]}
    )
    shop = open_shop(shop_with(events=events, searches=searches), cache=tmp_path / "read")
    history = build_history(shop)
    assert history.kind.tolist() == [QUERY] * len(history.queries) + [0]
    assert any(q.startswith("photo:") for q in history.queries) and any(":" not in q for q in history.queries)


def test_being_known_does_not_hang_on_a_click(shop_with: Callable[..., Path], tmp_path: Path) -> None:
    """Everybody and every text in any table has a number: were it those with acts alone, it would tell the label."""
    shown = pl.DataFrame(
        {
            "user_id": ["a", "b", "c"], "time": [DAY] * 3, "product_id": ["1", "2", "3"], "clicked": [1, 0, 0],
            "query_text": ["mug", " cup ", "mug"],
        }
    )  # fmt: skip
    acts = pl.DataFrame(
        {"user_id": ["a"], "time": [DAY], "product_id": ["1"], "action": ["click"], "query_text": ["mug"]}
    )
    users = pl.DataFrame({"user_id": ["d"], "age": [3]})
    raw = shop_with(impressions=shown, events=acts, users=users, searches=None)
    history = build_history(open_shop(raw, cache=tmp_path / "read"))
    assert history.users == ("a", "b", "c", "d") and history.queries == ("cup", "mug")
    assert np.diff(history.start).tolist() == [2, 0, 0, 0]
    # without events what was clicked is what was done
    (tmp_path / "raw").rename(tmp_path / "before")
    raw = shop_with(impressions=shown, events=None, searches=None)
    history = build_history(open_shop(raw, cache=tmp_path / "again"))
    names = [(*history.items, *history.queries)[w] for w in history.what]
    assert history.users == ("a", "b", "c") and names == ["mug", "1"]


def test_it_is_written_and_mapped(make: Make, shop: Shop, tmp_path: Path) -> None:
    raw = make([("a", 1, "1", "click", "mug"), ("b", 2, "2", "purchase", None)])
    history = build_history(raw)
    folder = save_history(history, tmp_path / "history", raw)
    again = load_history(folder, raw)
    for name in ("what", "time", "kind", "start"):
        assert np.array_equal(getattr(again, name), getattr(history, name))
        assert isinstance(getattr(again, name), np.memmap)
    assert (again.items, again.queries, again.users) == (history.items, history.queries, history.users)
    with pytest.raises(InputError, match="of another shop"):
        load_history(folder, shop)
    with pytest.raises(InputError, match="no history here"):
        load_history(tmp_path)
    with pytest.raises(TooLittleData, match="no events"):
        build_history(shop)
