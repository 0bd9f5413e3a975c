"""Pages rebuilt from the written folder: the click chances of what was shown are those of truth/, to the last digit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from demo_world import World

from moonshelf.errors import InputError
from moonshelf.shop.demo.pages import read_pages
from moonshelf.shop.demo.tables import impressions_table, truth_tables


def test_rebuilt_click_chances_are_the_written_ones(small_shop: Path) -> None:
    pages = read_pages(small_shop)
    shown = pl.read_parquet(small_shop / "truth" / "impressions.parquet")
    products = pl.read_parquet(small_shop / "products.parquet")["product_id"].to_list()
    row = {name: n for n, name in enumerate(products)}
    at = {name: n for n, name in enumerate(pages.ids)}
    assert list(at) == shown["query_id"].unique(maintain_order=True).to_list()
    g = np.array([at[q] for q in shown["query_id"]])
    item = np.array([row[p] for p in shown["product_id"]])
    hit = pages.item[g] == item[:, None]
    assert (hit.sum(axis=1) == 1).all()  # all that was shown is a candidate
    rebuilt = pages.attraction[g, hit.argmax(axis=1)] * pages.examine[shown["position"].to_numpy() - 1]
    np.testing.assert_allclose(rebuilt, shown["click_probability"].to_numpy(), atol=1e-12)


def test_there_are_as_many_candidates_as_the_propensity_says(small_shop: Path) -> None:
    pages = read_pages(small_shop)
    log = (
        pl.read_parquet(small_shop / "impressions.parquet").group_by("query_id", maintain_order=True).first()
    )
    count = (pages.item >= 0).sum(axis=1)
    there = log["propensity"].is_not_null().to_numpy()
    assert (pages.chance == there).all() and there.any() and not there.all()
    np.testing.assert_allclose(1 / log["propensity"].to_numpy()[there], count[there])
    assert (pages.attraction[pages.item < 0] == 0).all() and (pages.attraction[pages.item >= 0] > 0).all()


def test_what_pages_asked_is_written_beside_what_was_there_before(world: World) -> None:
    w = world
    hidden = truth_tables(w.items, ["en"] * len(w.items), w.pop, w.users, [], w.impressions, [], [], [])
    pages = hidden["pages"].to_pydict()
    log = impressions_table(w.impressions, w.items, w.users).to_pydict()
    text = dict(zip(pages["query_id"], pages["query_text"], strict=True))
    assert len(text) == 3000 and all(
        text[q] == t for q, t in zip(log["query_id"], log["query_text"], strict=True)
    )
    for asks, query in zip(pages["asks"], w.impressions.queries, strict=True):
        assert dict(asks) == dict(query.asks)


def test_an_older_shop_is_refused(small_shop: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    with pytest.raises(InputError, match="make the demo shop again"):
        read_pages(tmp_path / "shop")
    old = tmp_path / "old"
    shutil.copytree(small_shop, old, ignore=shutil.ignore_patterns("images.parquet"))
    frame = pl.read_parquet(old / "impressions.parquet")
    frame.slice(10).write_parquet(old / "impressions.parquet")
    with pytest.raises(InputError, match="differ"):
        read_pages(old)
