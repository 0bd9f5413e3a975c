"""The behaviour follows the written truth: examination curve, exposure bias, corrupted searches, tastes."""

from __future__ import annotations

import numpy as np
from demo_world import World

from moonshelf.shop.demo.behaviour import CORRUPT_SHARE, EXAMINE, make_events
from moonshelf.shop.demo.words import CATEGORIES


def test_clicks_by_position_follow_the_examination_curve(world: World) -> None:
    t = world.impressions
    for k, examine in enumerate(EXAMINE, start=1):
        rows = t.position == k
        clicks = t.clicked[rows].sum()
        estimate = clicks / t.attraction[rows].sum()
        assert abs(estimate / examine - 1) < 4 / np.sqrt(clicks), k
    assert EXAMINE[0] == 1.0 and list(EXAMINE) == sorted(set(EXAMINE), reverse=True)


def test_click_rates_are_calibrated_by_attraction(world: World) -> None:
    t = world.impressions
    p = t.examined * t.attraction
    for rows in np.array_split(np.argsort(p), 8):
        z = (t.clicked[rows].sum() - p[rows].sum()) / np.sqrt((p[rows] * (1 - p[rows])).sum())
        assert abs(z) < 4.5


def test_exposure_favours_known_items_and_the_random_slice_does_not(world: World) -> None:
    t, rank = world.impressions, np.argsort(np.argsort(world.pop)) / len(world.pop)
    chance = ~np.isnan(t.propensity)
    assert rank[t.item[~chance]].mean() > 0.62
    assert abs(rank[t.item[chance]].mean() - 0.5) < 0.05
    assert 0.06 < chance.mean() < 0.2


def test_new_items_are_shown_less(world: World) -> None:
    t = world.impressions
    age = t.day - np.asarray([i.day for i in world.items])[t.item]
    chance = ~np.isnan(t.propensity)
    assert (age[~chance] < 20).mean() < 0.6 * (age[chance] < 20).mean()


def test_propensity_is_one_over_the_candidates(world: World) -> None:
    t = world.impressions
    category = np.asarray([[c.key for c in CATEGORIES].index(i.category) for i in world.items])
    days = np.asarray([i.day for i in world.items])
    for n in np.flatnonzero(~np.isnan(t.propensity))[:200]:
        candidates = ((category == category[t.item[n]]) & (days <= t.day[n])).sum()
        assert abs(t.propensity[n] - 1 / candidates) < 1e-9


def test_positions_of_a_page_are_distinct_and_start_at_one(world: World) -> None:
    t = world.impressions
    first = np.flatnonzero(np.r_[True, t.page[1:] != t.page[:-1]])
    assert (t.position[first] == 1).all()
    assert len(set(zip(t.page, t.item, strict=True))) == len(t.page)


def test_corrupted_searches_are_marked_and_only_they_differ(world: World) -> None:
    for s in world.searches:
        assert (s.meant != s.acted) == (s.corruption in ("other_product", "same_category")), s.query_id
        assert (s.photo is not None and s.photo.unusable) == (s.corruption == "unusable_photo")
        if s.corruption == "same_category":
            assert world.items[s.meant].category == world.items[s.acted].category
    for action, share in CORRUPT_SHARE.items():
        rows = [bool(s.corruption) for s in world.searches if s.action == action]
        assert abs(np.mean(rows) - share) < 4 * np.sqrt(share * (1 - share) / len(rows))


def test_searches_come_in_time_order_for_products_that_exist(world: World) -> None:
    days = [s.day for s in world.searches]
    assert days == sorted(days)
    assert [s.query_id for s in world.searches] == sorted({s.query_id for s in world.searches})
    late = [s for s in world.searches if world.items[s.meant].day > s.day]
    assert not late


def test_the_last_tenth_meets_all_categories_and_unseen_products(world: World) -> None:
    cut = len(world.searches) * 9 // 10
    before = {s.acted for s in world.searches[:cut]}
    after = world.searches[cut:]
    assert {world.items[s.meant].category for s in after} == {c.key for c in CATEGORIES}
    assert any(s.acted not in before for s in after)


def test_users_visit_what_they_like(world: World) -> None:
    events = make_events(
        world.items, world.users, world.utility, world.pop, [], world.impressions, count=3000, seed=3
    )
    liked = np.mean([world.utility[e.user, e.item] for e in events])
    assert liked > world.utility.mean() + world.utility.std()
    assert [e.day for e in events] == sorted(e.day for e in events)
    assert all(world.items[e.item].day <= e.day for e in events)
    kinds = {a: sum(e.action == a for e in events) for a in ("click", "cart", "purchase")}
    assert kinds["click"] > kinds["cart"] > kinds["purchase"] > 0
