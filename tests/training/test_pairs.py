"""Pairs of queries and products: what is right, what is wrong, what must not be learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from moonshelf.errors import TooLittleData
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.pairs import SearchPairs


def numbers(pairs: SearchPairs, *ids: str) -> torch.Tensor:
    found = {product_id: i for i, (_, product_id) in enumerate(pairs.products)}
    return torch.tensor([found[i] for i in ids])


def row_of(pairs: SearchPairs, product_id: str) -> int:
    return int(np.flatnonzero(pairs.product_of == int(numbers(pairs, product_id)))[0])


def test_products_of_one_design_are_no_negatives(shop: Shop) -> None:
    pairs = SearchPairs([shop])
    row = np.array([row_of(pairs, "0")])  # red circle; red and green circle are one SPU
    right, wrong = pairs.masks(row, numbers(pairs, "0", "1", "2"))
    assert right.tolist() == [[True, False, False]]
    assert wrong.tolist() == [[False, False, True]]
    assert pairs.masks(row, numbers(pairs, "2", "6"), own_category=False)[1].tolist() == [[False, True]]


def test_every_product_that_a_query_led_to_is_right_for_it(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    rows = pl.read_parquet(shop_folder / "searches.parquet")
    text = rows.filter(pl.col("query_id") == "t0")  # "red circle" -> 0; asked again, it led to 6
    again = text.with_columns(
        query_id=pl.lit("again"), product_id=pl.lit("6"), query_text=pl.lit("Red  circle")
    )
    pairs = SearchPairs(
        [open_shop(shop_with(searches=pl.concat([rows, again])), cache=tmp_path / "prepared")]
    )
    both = [
        i for i, (_, _, t) in enumerate(pairs.queries) if t is not None and t.lower().startswith("red  c")
    ]
    both += [i for i, (_, _, t) in enumerate(pairs.queries) if t == "red circle"]
    assert len(both) == 2
    right, wrong = pairs.masks(np.array(both), numbers(pairs, "0", "1", "6", "2"))
    assert right.tolist() == [[True, False, True, False]] * 2
    assert wrong.tolist() == [[False, False, False, True]] * 2  # 1 is of the design of 0
    third = np.array([*both, row_of(pairs, "2")])
    peers = pairs.peers(third)
    agree = torch.zeros(3, 3, dtype=torch.bool)
    agree[peers.positive[0], peers.positive[1]] = True
    differ = peers.negatives()
    assert agree.tolist() == [[False] * 3] * 3  # the two are one query: no lesson, and no negatives
    assert differ.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_products_without_a_category_stay_negatives(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    products = pl.read_parquet(shop_folder / "products.parquet").drop("category")
    pairs = SearchPairs([open_shop(shop_with(products=products), cache=tmp_path / "prepared")])
    wrong = pairs.masks(np.array([row_of(pairs, "0")]), numbers(pairs, "0", "2"), own_category=False)[1]
    assert wrong.tolist() == [[False, True]]


def test_searches_for_one_design_are_too_little(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    rows = pl.read_parquet(shop_folder / "searches.parquet").filter(pl.col("product_id").is_in(["0", "1"]))
    raw = shop_with(searches=rows)
    with pytest.raises(TooLittleData, match="1 designs"):
        SearchPairs([open_shop(raw, cache=tmp_path / "prepared")])


def test_an_extra_shop_cannot_teach_what_is_asked_in_val_or_test(
    shop: Shop, shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    """The same queries again, all of them called train, as an extra shop."""
    rows = pl.read_parquet(shop_folder / "searches.parquet").with_columns(split=pl.lit("train"))
    other = open_shop(shop_with(searches=rows), cache=tmp_path / "prepared")
    both = SearchPairs([shop, other])
    asked = {image for number, image, _ in both.queries if number == 1 and image}
    assert shop.searches is not None
    train_rows = shop.searches.filter(pl.col("split") == "train")
    assert asked == set(train_rows["query_image_id"].drop_nulls())
