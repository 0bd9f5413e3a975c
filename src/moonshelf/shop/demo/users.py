"""The shoppers of the demo shop, and how much each would like each product: the utility behind it all.

utility[u, i] = w_category * category_u[c_i] + taste[u, i]
taste[u, i]   = w_colour * colour_u[colour_i] + w_style * style_u . style_i + w_brand * brand_u[brand_i]
                - w_price * |log(price_i / price_c) - level_u| + w_quality * quality_i
Every vector is written to truth/users.parquet and truth/products.parquet, the weights to truth/truth.json.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.words import BRANDS, BY_KEY, CATEGORIES, COLOURS

F64 = NDArray[np.float64]
UTILITY = {"category": 1.0, "colour": 0.55, "style": 0.55, "brand": 0.3, "price": 0.8, "quality": 0.4}


@dataclass(frozen=True)
class Users:
    """U users. category [U,14], colour [U,18], style [U,4], brand [U,24] f64; level, activity [U]; zh [U]
    bool.
    """

    ids: tuple[str, ...]
    category: F64
    colour: F64
    style: F64
    brand: F64
    level: F64
    activity: F64
    zh: NDArray[np.bool_]


def make_users(count: int, seed: int) -> Users:
    """Draw the users' tastes."""
    rng = np.random.default_rng((seed, 2))
    category = rng.normal(-0.6, 0.7, (count, len(CATEGORIES)))
    for row in category:
        row[rng.choice(len(CATEGORIES), 4, replace=False)] += rng.uniform(1.2, 2.6, 4)
    return Users(
        ids=tuple(f"u{i:04d}" for i in range(count)),
        category=category.round(4),
        colour=rng.normal(0, 1, (count, len(COLOURS))).round(4),
        style=rng.normal(0, 1, (count, 4)).round(4),
        brand=rng.normal(0, 1, (count, len(BRANDS))).round(4),
        level=rng.normal(0, 0.35, count).round(4),
        activity=np.exp(rng.normal(0, 0.7, count)).round(4),
        zh=rng.random(count) < 0.32,
    )


def tastes(users: Users, items: list[Item]) -> tuple[F64, F64]:
    """(utility, taste), each f64 [U, P], by the formula above."""
    keys, colours = [c.key for c in CATEGORIES], list(COLOURS)
    style = np.asarray([i.style for i in items])
    price = np.log([i.price / BY_KEY[i.category].price for i in items])
    quality = np.asarray([i.quality for i in items])
    taste = UTILITY["colour"] * users.colour[:, [colours.index(i.colour) for i in items]]
    taste = taste + UTILITY["style"] * users.style @ style.T
    taste += UTILITY["brand"] * users.brand[:, [i.brand for i in items]]
    taste -= UTILITY["price"] * np.abs(price[None, :] - users.level[:, None])
    taste += UTILITY["quality"] * quality
    utility = taste + UTILITY["category"] * users.category[:, [keys.index(i.category) for i in items]]
    return utility, taste
