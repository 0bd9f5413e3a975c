"""Rows of click models: impressions with what followed, acts with drawn negatives, cuts in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking.history import History, build_history
from moonshelf.ranking.rows import from_acts, from_impressions, split_by_time
from moonshelf.shop.shop import Shop, open_shop

START = datetime(2025, 3, 1, tzinfo=UTC)


def day(days: float) -> datetime:
    return START + timedelta(days=days)


@pytest.fixture
def logged(shop_with: Callable[..., Path], tmp_path: Path) -> Shop:
    """Two pages for user a, one for somebody unknown; a puts 1 into the cart later, and 2 before it was shown."""
    impressions = pl.DataFrame(
        {
            "query_id": ["p2", "p2", "p1", "p1", "p1", "p3"],
            "query_text": ["mug", "mug", "cup", "cup", "cup", "cup"],
            "user_id": ["a", "a", "a", "a", "a", None],
            "time": [day(3), day(3), day(1), day(1), day(1), day(5)],
            "product_id": ["1", "2", "1", "3", "4", "5"],
            "position": [1, 2, 1, 2, 3, 1],
            "clicked": [1, 0, 0, 1, 0, 0],
            "propensity": [None, None, 0.1, 0.1, 0.1, None],
        }
    )
    events = pl.DataFrame(
        {
            "user_id": ["a", "a", "a", "a"],
            "time": [day(2.5), day(3.001), day(3.5), day(0.5)],
            "product_id": ["2", "1", "1", "9"],
            "action": ["cart", "click", "cart", "click"],
            "query_text": [None, "mug", None, "cup"],
        }
    )
    raw = shop_with(impressions=impressions, events=events, searches=None)
    return open_shop(raw, cache=tmp_path / "read")


def test_impressions_with_what_followed(logged: Shop) -> None:
    history = build_history(logged)
    rows = from_impressions(logged, history)
    names = [history.items[i] for i in rows.item]
    assert names == ["1", "3", "4", "1", "2", "5"]  # in order of time, pages as they were shown
    assert rows.clicked().tolist() == [False, True, False, True, False, False]
    # the cart of 1 follows its second impression; that of 2 came before it was ever shown
    assert rows.clicked("cart").tolist() == [False, False, False, True, False, False]
    assert rows.told == {"without a user": 1, "cart before any impression of it": 1}
    assert rows.user.tolist() == [0] * 5 + [-1] and not rows.made
    assert [history.queries[q] for q in rows.query] == ["cup"] * 3 + ["mug"] * 2 + ["cup"]
    assert len(set(rows.page[:3].tolist())) == 1 and len(set(rows.page.tolist())) == 3
    assert rows.position.tolist() == [1, 2, 3, 1, 2, 1]
    assert np.isnan(rows.propensity[3]) and rows.propensity[0] == pytest.approx(0.1)
    # the past of page p1 is the act of day 0.5 with its query; of p2 also the cart of day 2.5
    assert (rows.until - history.start[0]).tolist()[:5] == [2, 2, 2, 3, 3] and rows.until[5] == 0


def test_a_list_has_one_past_and_its_own_query_is_not_in_it(
    shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    moment = 1 / 86_400_000  # of a day: a millisecond
    impressions = pl.DataFrame(
        {
            "query_id": ["p1"] * 3 + [None] * 2,
            "query_text": ["mug"] * 3 + [None] * 2,
            "user_id": ["a"] * 5,
            "time": [day(1), day(1 + moment), day(1 + 2 * moment), day(2), day(2 + moment)],
            "product_id": ["1", "2", "3", "4", "5"],
            "position": [0, 1, 2, None, 40_000],
            "clicked": [1, 0, 0, 1, 0],
        }
    )
    searches = pl.DataFrame(
        {
            "query_id": ["s0", "s1"],
            "query_text": ["cup", "mug"],
            "user_id": ["a", "a"],
            "time": [day(1 - 2 * moment), day(1 - moment)],
            "product_id": ["7", "1"],
        }
    )
    events = pl.DataFrame(
        {
            "user_id": ["a", "a"],
            "time": [day(1), day(2)],
            "product_id": ["1", "4"],
            "action": ["click", "click"],
        }
    )
    raw = shop_with(impressions=impressions, events=events, searches=searches)
    shop = open_shop(raw, cache=tmp_path / "read")
    history = build_history(shop)
    queries = history.what >= len(history.items)
    assert queries.tolist() == [True, True, False, False]  # two queries, then the clicks on 1 and 4
    rows = from_impressions(shop, history)
    # "cup" is known to all three, "mug" and the click on 1 to none; without a list the click on 4 is known to 5
    assert rows.until.tolist() == [1, 1, 1, 3, 4]
    assert rows.position.tolist() == [1, 2, 3, 0, np.iinfo(np.int16).max]
    assert rows.told["with a place counted from 0"] == 4


def test_a_cart_counts_within_its_time_alone(logged: Shop) -> None:
    history = build_history(logged)
    hour = 3_600_000_000
    assert not from_impressions(logged, history, follows=hour).clicked("cart").any()


def test_a_cart_beyond_a_cut_is_not_known_before_it(logged: Shop) -> None:
    history = build_history(logged)
    cut = [int(day(d).timestamp() * 1_000_000) for d in (2, 3.2)]
    assert from_impressions(logged, history, cuts=cut[:1]).clicked("cart").tolist()[3]
    assert not from_impressions(logged, history, cuts=cut).clicked("cart").any()


def test_pages_end_with_their_query_their_user_and_half_an_hour(
    shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    hour = 1 / 24
    seen = [
        ("q1", "a", 0.0), ("q1", "a", hour / 3), ("q1", "b", hour / 3),  # one query id of two users: two pages
        (None, "a", 1.0), (None, "a", 1 + hour / 4), (None, "a", 1 + 2 * hour), (None, None, 1.0), (None, None, 1.0),
    ]  # fmt: skip
    shown = pl.DataFrame(
        {
            "query_id": [q for q, _, _ in seen], "user_id": [u for _, u, _ in seen],
            "time": [day(t) for _, _, t in seen], "product_id": [str(i + 1) for i in range(len(seen))],
            "clicked": [1, 0] * 4,
        }
    )  # fmt: skip
    shop = open_shop(shop_with(impressions=shown, events=None, searches=None), cache=tmp_path / "read")
    history = build_history(shop)
    rows = from_impressions(shop, history)
    page = dict(zip([history.items[i] for i in rows.item], rows.page.tolist(), strict=True))
    assert page["1"] == page["2"] != page["3"] and page["4"] == page["5"] != page["6"]
    assert page["7"] != page["8"] and len(set(page.values())) == 6
    units = dict(zip([history.items[i] for i in rows.item], rows.units().tolist(), strict=True))
    assert units["1"] == units["6"] != units["3"] and units["7"] != units["8"]


def test_labels_of_one_kind_teach_nothing(
    shop_with: Callable[..., Path], logged: Shop, tmp_path: Path
) -> None:
    assert logged.impressions is not None
    (tmp_path / "raw").rename(tmp_path / "earlier")
    raw = shop_with(
        impressions=logged.impressions.with_columns(clicked=pl.lit(0)), events=logged.events, searches=None
    )
    shop = open_shop(raw, cache=tmp_path / "dull")
    with pytest.raises(TooLittleData, match="all 6 impressions have the same label"):
        from_impressions(shop, build_history(shop))


@pytest.fixture
def history() -> History:
    """Three users of forty acts on 30 products, the first of which are the most popular."""
    rng = np.random.default_rng(0)
    what = np.minimum(rng.geometric(0.15, 120) - 1, 29).astype(np.int32)
    time = np.concatenate([np.sort(rng.integers(0, 10**9, 40)) for _ in range(3)])
    kind = np.full(120, 2, dtype=np.uint8)
    items = tuple(str(i) for i in range(30))
    return History(items, (), ("a", "b", "c"), what, time, kind, np.array([0, 40, 80, 120]))


def test_acts_with_drawn_negatives(history: History) -> None:
    rows = from_acts(history, negatives=3, seed=1)
    assert rows.made and rows.clicked("purchase").sum() == 120 and not rows.clicked().any()
    own = {(int(u), int(w)) for u, w in zip(np.repeat([0, 1, 2], 40), history.what, strict=True)}
    drawn = [
        (int(u), int(i))
        for u, i, y in zip(rows.user, rows.item, rows.clicked("purchase"), strict=True)
        if not y
    ]
    assert not own & set(drawn)  # nothing that the user ever acted on
    for page in np.unique(rows.page):
        at = rows.page == page
        assert len(np.unique(rows.item[at])) == at.sum()
        assert len(np.unique(rows.time[at])) == 1 and rows.clicked("purchase")[at].sum() == 1
    again = from_acts(history, negatives=3, seed=1)
    assert np.array_equal(again.item, rows.item)
    assert not np.array_equal(from_acts(history, negatives=3, seed=2).item, rows.item)


def test_negatives_are_drawn_by_popularity() -> None:
    """Nobody knows anything that is drawn: two users, one with all the popular products, one asks."""
    what = np.array([0] * 60 + [1] * 30 + [2] * 10 + [3] * 500, dtype=np.int32)
    start, time = np.array([0, 100, 600]), np.concatenate((np.arange(100), np.arange(500)))
    history = History(tuple("abcd"), (), ("rich", "asks"), what, time, np.full(600, 2, np.uint8), start)
    rows = from_acts(history, negatives=1, since=0)
    mine = rows.take((rows.user == 1) & ~rows.clicked("purchase"))
    share = np.bincount(mine.item, minlength=4) / len(mine)
    assert share[:3] == pytest.approx([0.6, 0.3, 0.1], abs=0.07) and share[3] == 0
    early = from_acts(history, negatives=1, popular_before=60)
    # of acts before then there were but these
    assert set(early.take(early.user == 1).item.tolist()) == {0, 3}


def test_popularity_can_be_that_of_the_time_reported() -> None:
    """Product a was bought early alone: it is no negative of later purchases, and x's own b is none either."""
    what, time = np.array([1, 2, 0, 0, 3, 1], np.int32), np.array([1, 9, 1, 2, 8, 9])
    history = History(tuple("abcd"), (), ("x", "y"), what, time, np.full(6, 2, np.uint8), np.array([0, 2, 6]))
    rows = from_acts(history, negatives=1, since=5, popular_since=5)
    mine = rows.take((rows.user == 0) & ~rows.clicked("purchase"))
    assert mine.item.tolist() == [3]


def test_what_comes_after_a_cut_is_not_known_by_its_absence() -> None:
    """User x takes b at 5; before that b is a product like others to x, and may be drawn."""
    what, time = np.array([0, 1, 1], np.int32), np.array([1, 5, 1])
    history = History(("a", "b"), (), ("x", "y"), what, time, np.full(3, 2, np.uint8), np.array([0, 2, 3]))
    known = from_acts(history, negatives=1, popular_before=4)
    first = known.take((known.user == 0) & (known.time == 1))
    assert sorted(first.item.tolist()) == [0, 1]
    whole = from_acts(history, negatives=1)
    assert whole.take((whole.user == 0) & (whole.time == 1)).item.tolist() == [0]  # nothing left to draw


def test_negatives_can_be_drawn_from_what_was_wanted_then(history: History) -> None:
    rows = from_acts(history, negatives=2, around=10**8)
    drawn = rows.take(~rows.clicked("purchase"))
    for item, time in zip(drawn.item[::7], drawn.time[::7], strict=True):
        acts = history.time[history.what == item]
        assert np.abs(acts - time).min() <= 10**8
    assert len(drawn) > 150
    far = from_acts(history, negatives=2)
    apart = [
        np.abs(history.time[history.what == i] - t).min() for i, t in zip(far.item, far.time, strict=True)
    ]
    assert max(apart) > 10**8  # by all-time popularity there are others, too


def test_nothing_is_a_negative_before_it_came(history: History) -> None:
    came = np.where(np.arange(30) % 2, 5 * 10**8, 0)
    rows = from_acts(history, negatives=3, came=came)
    drawn = rows.take(~rows.clicked("purchase"))
    assert (came[drawn.item] <= drawn.time).all() and (drawn.time < 5 * 10**8).any()
    free = from_acts(history, negatives=3)
    free = free.take(~free.clicked("purchase"))
    assert (came[free.item] > free.time).any()


def test_where_nothing_is_left_to_draw_rows_are_fewer() -> None:
    history = History(
        ("a", "b"),
        (),
        ("x",),
        np.array([0, 1], np.int32),
        np.array([1, 2]),
        np.full(2, 2, np.uint8),
        np.array([0, 2]),
    )
    rows = from_acts(history, negatives=2)
    assert len(rows) == 2 and rows.told == {"negatives that could not be drawn": 4}
    with pytest.raises(TooLittleData, match="0 acts of click"):
        from_acts(history, actions=("click",))


def test_parts_follow_each_other_in_time(history: History) -> None:
    rows = from_acts(history, negatives=2)
    parts = split_by_time(rows)
    assert sum(map(len, parts.values())) == len(rows)
    assert (
        parts["train"].time.max()
        < parts["val"].time.min()
        <= parts["val"].time.max()
        < parts["test"].time.min()
    )
    pages = [set(part.page.tolist()) for part in parts.values()]
    assert not pages[0] & pages[1] and not pages[1] & pages[2]
    assert len(pages[0]) == pytest.approx(0.8 * 120, abs=1)
    when = [datetime.fromtimestamp(s, tz=UTC) for s in (300, 600)]
    by_hand = split_by_time(rows, at=(when[0], when[1]))
    assert by_hand["val"].time.min() >= 300_000_000 and by_hand["test"].time.min() >= 600_000_000
    with pytest.raises(InputError, match="val must begin before test"):
        split_by_time(rows, at=(when[1], when[0]))
    with pytest.raises(TooLittleData, match="no rows are left for test"):
        split_by_time(rows, at=(when[0], day(0)))
