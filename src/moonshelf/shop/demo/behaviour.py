"""What users do: searches by photo and text, impressions with their biases, and months of events.

Click model (an impression of item i at position k to user u):
    P(click) = examine[k] * sigmoid(b0 + b_taste * taste[u, i] + b_match * match(query, i))
Exposure: in the logged policy a page shows the ten items of highest
    exposure_i = e_pop * popularity_i - e_new * exp(-age_days / e_days) + Gumbel noise
so popular items are shown more and new ones less; a random slice of the pages shows uniformly drawn items
instead, with the propensity 1 / (number of candidates) of an item at a position. All parameters: `CLICK`,
`EXPOSURE`, truth.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.phone import PhoneSettings, draw_settings
from moonshelf.shop.demo.shapes import build_shape
from moonshelf.shop.demo.text import Query, query
from moonshelf.shop.demo.users import Users
from moonshelf.shop.demo.words import CATEGORIES

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
OPENING = datetime(2025, 1, 1, tzinfo=UTC)
FIRST_DAY, LAST_DAY = 60.0, 242.0  # behaviour is logged over the last six of eight months
POSITIONS = 10
EXAMINE = tuple(round(1.0 / (1.0 + k) ** 0.62, 4) for k in range(POSITIONS))
CLICK = {"b0": -2.15, "b_taste": 1.15, "b_match": 1.3}
EXPOSURE = {"e_pop": 1.3, "e_new": 2.0, "e_days": 25.0, "random_share": 0.12}
ACTIONS = ("click", "cart", "purchase")
ACTION_SHARE = (0.68, 0.19, 0.13)
CORRUPT_SHARE = {"click": 0.10, "cart": 0.05, "purchase": 0.02}


def when(day: float) -> datetime:
    """The moment ``day`` days after the opening, to the second."""
    return OPENING + timedelta(seconds=round(day * 86400))


@dataclass(frozen=True)
class SearchRow:
    """One search with its truth. ``meant``: index of the product that the photo shows or the text asks
    for.
    """

    query_id: str
    day: float
    user: int
    meant: int
    acted: int
    action: str
    query: Query | None
    photo: PhoneSettings | None
    corruption: str  # "" or other_product, same_category, unusable_photo


@dataclass(frozen=True)
class ImpressionTable:
    """Columns of equal length N, plus the pages' queries. propensity is NaN outside the random slice."""

    user: I64
    day: F64
    page: I64
    item: I64
    position: I64
    propensity: F64
    clicked: I64
    examined: F64
    attraction: F64
    queries: list[Query]


@dataclass(frozen=True)
class EventRow:
    """Something a user did."""

    day: float
    user: int
    item: int
    action: str
    query_text: str | None


def popularity(items: list[Item], seed: int) -> F64:
    """How well known each item is, f64 [P]: quality and luck."""
    rng = np.random.default_rng((seed, 3))
    luck = rng.normal(0, 0.8, len(items))
    return np.asarray(0.5 * np.asarray([i.quality for i in items]) + luck).round(4)


def _category_rota(count: int, rng: np.random.Generator) -> I64:
    """A category for each of ``count`` slots in time order; every stretch of 2 x 14 slots has all of them.

    In a small log the same order repeats, so that any 14 slots do.
    """
    n = len(CATEGORIES)
    fixed = rng.permutation(n)
    blocks = [fixed if count < 60 * n else rng.permutation(n) for _ in range(count // n + 1)]
    return np.concatenate(blocks)[:count]


def _members(items: list[Item]) -> list[I64]:
    """Item indices of each category, by the day they came."""
    days = np.asarray([i.day for i in items])
    out = []
    for c in CATEGORIES:
        rows = np.asarray([i.index for i in items if i.category == c.key], dtype=np.int64)
        out.append(rows[np.argsort(days[rows], kind="stable")])
    return out


def make_searches(
    items: list[Item], users: Users, utility: F64, pop: F64, *, images: int, texts: int, views: int, seed: int
) -> list[SearchRow]:
    """Photo and text searches in time order; the searches by corrupted behaviour are marked."""
    rng = np.random.default_rng((seed, 4))
    members, days = _members(items), np.asarray([i.day for i in items])
    flat = [build_shape(c.key, 0).pitch > 60 for c in CATEGORIES]
    seen = np.zeros(len(items))
    spans = LAST_DAY - FIRST_DAY - 1.0
    rows: list[SearchRow] = []
    for kind, count in (("image", images), ("text", texts)):
        rota = _category_rota(count, rng)
        for slot in range(count):
            day = FIRST_DAY + 0.5 + spans * (slot + float(rng.random())) / count
            pool = members[rota[slot]]
            pool = pool[: max(1, int(np.searchsorted(days[pool], day)))]
            weight = np.exp(0.4 * pop[pool]) / (1 + seen[pool]) ** 2
            meant = int(rng.choice(pool, p=weight / weight.sum()))
            seen[meant] += 1
            liking = users.activity * np.exp(0.8 * (utility[:, meant] - utility[:, meant].max()))
            user = int(rng.choice(len(users.ids), p=liking / liking.sum()))
            action = str(rng.choice(ACTIONS, p=ACTION_SHARE))
            acted, corruption = meant, ""
            if rng.random() < CORRUPT_SHARE[action]:
                corruption = str(
                    rng.choice(["other_product", "same_category", "unusable_photo"], p=[0.4, 0.35, 0.25])
                )
                if corruption == "unusable_photo" and kind == "text":
                    corruption = "other_product"
                if corruption == "same_category" and len(pool) > 1:
                    acted = int(rng.choice(pool[pool != meant]))
                elif corruption != "unusable_photo":
                    corruption = "other_product"
                    others = np.flatnonzero((days <= day) & (np.arange(len(items)) != meant))
                    acted = int(rng.choice(others))
            photo = (
                draw_settings(rng, flat[rota[slot]], corruption == "unusable_photo", views)
                if kind == "image"
                else None
            )
            words = query(items[meant], rng, bool(users.zh[user])) if kind == "text" else None
            rows.append(SearchRow("", day, user, meant, acted, action, words, photo, corruption))
    rows.sort(key=lambda r: r.day)
    return [replace(r, query_id=f"q{n:05d}") for n, r in enumerate(rows)]


def make_impressions(
    items: list[Item], users: Users, utility: F64, taste: F64, pop: F64, *, pages: int, seed: int
) -> ImpressionTable:
    """Result pages of ten, some drawn at random, and the clicks on them."""
    rng = np.random.default_rng((seed, 5))
    members, days = _members(items), np.asarray([i.day for i in items])
    likes = np.exp(users.category - users.category.max(axis=1, keepdims=True))
    likes /= likes.sum(axis=1, keepdims=True)
    who = rng.choice(len(users.ids), pages, p=users.activity / users.activity.sum())
    moments = np.sort(rng.uniform(FIRST_DAY + 0.5, LAST_DAY - 0.5, pages))
    columns: dict[str, list[NDArray[np.generic]]] = {k: [] for k in ("u", "d", "g", "i", "k", "p", "m")}
    queries: list[Query] = []
    for page in range(pages):
        u, day = int(who[page]), float(moments[page])
        pool = members[int(rng.choice(len(CATEGORIES), p=likes[u]))]
        pool = pool[: max(2, int(np.searchsorted(days[pool], day)))]
        wish = np.exp(taste[u, pool] - taste[u, pool].max())
        words = query(items[int(rng.choice(pool, p=wish / wish.sum()))], rng, bool(users.zh[u]), most=2)
        shown = min(POSITIONS, len(pool))
        random_page = rng.random() < EXPOSURE["random_share"]
        if random_page:
            chosen = rng.permutation(pool)[:shown]
        else:
            fresh = np.exp(-np.maximum(day - days[pool], 0) / EXPOSURE["e_days"])
            score = EXPOSURE["e_pop"] * pop[pool] - EXPOSURE["e_new"] * fresh + rng.gumbel(size=len(pool))
            chosen = pool[np.argsort(-score, kind="stable")[:shown]]
        queries.append(words)
        match = [(words.grade(items[int(i)]) - 1) / 2 if len(words.asks) > 1 else 0.0 for i in chosen]
        columns["u"].append(np.full(shown, u))
        columns["d"].append(np.full(shown, day))
        columns["g"].append(np.full(shown, page))
        columns["i"].append(chosen)
        columns["k"].append(np.arange(1, shown + 1))
        columns["p"].append(np.full(shown, 1.0 / len(pool) if random_page else np.nan))
        columns["m"].append(np.asarray(match))
    joined = {k: np.concatenate(v) for k, v in columns.items()}
    user, item = joined["u"].astype(np.int64), joined["i"].astype(np.int64)
    position = joined["k"].astype(np.int64)
    examined = np.asarray(EXAMINE)[position - 1]
    logit = (
        CLICK["b0"] + CLICK["b_taste"] * taste[user, item] + CLICK["b_match"] * joined["m"].astype(np.float64)
    )
    attraction = 1 / (1 + np.exp(-logit))
    clicked = (rng.random(len(user)) < examined * attraction).astype(np.int64)
    return ImpressionTable(
        user=user,
        day=joined["d"].astype(np.float64),
        page=joined["g"].astype(np.int64),
        item=item,
        position=position,
        propensity=joined["p"].astype(np.float64),
        clicked=clicked,
        examined=examined,
        attraction=attraction,
        queries=queries,
    )


def make_events(
    items: list[Item],
    users: Users,
    utility: F64,
    pop: F64,
    searches: list[SearchRow],
    impressions: ImpressionTable,
    *,
    count: int,
    seed: int,
) -> list[EventRow]:
    """Everything users did, in time order: ``count`` visits by taste and fame, clicks on pages, acts after
    searches.
    """
    rng = np.random.default_rng((seed, 6))
    days = np.asarray([i.day for i in items])
    order = np.argsort(days, kind="stable")
    arrival = days[order]
    rows: list[EventRow] = []
    who = rng.choice(len(users.ids), count, p=users.activity / users.activity.sum())
    for u in range(len(users.ids)):
        mine = int((who == u).sum())
        if not mine:
            continue
        score = 1.1 * utility[u] + 0.6 * pop
        cumulative = np.cumsum(np.exp(score - score.max())[order])
        moments = rng.uniform(FIRST_DAY, LAST_DAY, mine)
        available = np.searchsorted(arrival, moments)
        target = rng.random(mine) * cumulative[np.maximum(available - 1, 0)]
        chosen = order[np.searchsorted(cumulative, target)]
        for day, item in zip(moments, chosen, strict=True):
            rows.append(EventRow(float(day), u, int(item), "click", None))
    for n in np.flatnonzero(impressions.clicked):
        words = impressions.queries[int(impressions.page[n])].text
        soon = float(rng.uniform(5, 90)) / 86400
        rows.append(
            EventRow(
                float(impressions.day[n]) + soon,
                int(impressions.user[n]),
                int(impressions.item[n]),
                "click",
                words,
            )
        )
    for s in searches:
        rows.append(
            EventRow(
                s.day + float(rng.uniform(5, 90)) / 86400,
                s.user,
                s.acted,
                s.action,
                s.query.text if s.query else None,
            )
        )
    further: list[EventRow] = []
    chance = rng.random((len(rows), 2))
    for row, (a, b) in zip(rows, chance, strict=True):
        good = items[row.item].quality
        if row.action == "click" and a < 0.17 + 0.03 * good:
            later = row.day + 0.01 + 0.3 * b
            further.append(EventRow(later, row.user, row.item, "cart", None))
            if b < 0.5 + 0.1 * good:
                further.append(EventRow(later + 0.02 + b, row.user, row.item, "purchase", None))
    return sorted(
        (r for r in [*rows, *further] if r.day < LAST_DAY), key=lambda r: (r.day, r.user, r.item, r.action)
    )
