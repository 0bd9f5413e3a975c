"""One small demo shop and one pictureless world for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_world import World

from moonshelf.shop.demo import make_demo_shop
from moonshelf.shop.demo.behaviour import (
    make_impressions,
    make_searches,
    popularity,
)
from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.users import make_users, tastes


@pytest.fixture(scope="session")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written shop of 60 products with small pictures."""
    return make_demo_shop(tmp_path_factory.mktemp("demo") / "shop", products=60, progress=False, size=64)


@pytest.fixture(scope="session")
def world() -> World:
    """900 products, 200 users, 3,000 pages."""
    items, users = make_items(900, 3), make_users(200, 3)
    utility, taste = tastes(users, items)
    pop = popularity(items, 3)
    searches = make_searches(items, users, utility, pop, images=1400, texts=700, views=4, seed=3)
    impressions = make_impressions(items, users, utility, taste, pop, pages=3000, seed=3)
    return World(items, users, utility, taste, pop, searches, impressions)
