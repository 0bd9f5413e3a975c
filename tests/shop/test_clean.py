"""The four filters of behaviour pairs, and the shop's own names."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shop.clean import entity_filter, exposure_histogram, hardest_query, merge_spu, rebalance
from moonshelf.shop.gazetteer import Gazetteer


def pairs(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    """(key, product, action), numbered."""
    frame = pl.DataFrame(rows, schema=["key", "product_id", "action"], orient="row")
    return frame.with_row_index("n")


def test_skus_of_one_design_are_merged_to_the_strongest_action() -> None:
    table = pairs(
        [
            ("q", "a1", "click"),
            ("q", "a2", "purchase"),
            ("q", "b", "click"),
            ("r", "a1", "click"),
            ("r", "a1", "click"),
        ]
    )
    found = merge_spu(table, {"a1": "A", "a2": "A", "b": None})
    assert found.kept["n"].to_list() == [1, 2, 3]
    assert found.dropped["n"].to_list() == [0, 4]
    assert str(found) == "3 of 5 pairs kept (dropped: 2 same query and design as a kept pair)"


def test_over_represented_categories_are_cut_to_their_share_of_exposure() -> None:
    table = pairs([("q", f"s{i}", "click") for i in range(80)] + [("q", f"h{i}", "click") for i in range(20)])
    category = {**{f"s{i}": "shoes" for i in range(80)}, **{f"h{i}": "hats" for i in range(20)}}
    found = rebalance(table, category, {"shoes": 30, "hats": 30}, seed=1)
    counts = dict(
        found.kept.with_columns(pl.col("product_id").str.head(1)).group_by("product_id").len().iter_rows()
    )
    assert counts == {"s": 50, "h": 20}
    assert found.kept.equals(rebalance(table, category, {"shoes": 30, "hats": 30}, seed=1).kept)
    assert not found.kept.equals(rebalance(table, category, {"shoes": 30, "hats": 30}, seed=2).kept)
    assert len(rebalance(table, category, {"hats": 1}).kept) == 21  # what was never shown keeps one pair
    with pytest.raises(ValueError, match="empty"):
        rebalance(table, category, {})


def test_exposure_counts_impressions() -> None:
    shown = pl.DataFrame({"product_id": ["a", "a", "b", "x"]})
    assert exposure_histogram(shown, {"a": "A", "b": "B"}) == {"": 1, "A": 2, "B": 1}


def test_the_hardest_query_of_a_product_stays() -> None:
    table = pairs([("q1", "a", "click"), ("q2", "a", "click"), ("q3", "b", "click"), ("q4", "a", "click")])
    found = hardest_query(table, np.array([0.9, 0.2, 0.8, 0.2]))
    assert found.kept["n"].to_list() == [1, 2]
    with pytest.raises(ValueError, match="finite"):
        hardest_query(table, np.array([0.9, np.nan, 0.8, 0.2]))


PRODUCTS = pl.DataFrame(
    {
        "brand": ["Nord Kap", None, "回力"],
        "category": ["Shoes > Running shoes", "鞋 > 跑鞋", ""],
        "attributes": [
            json.dumps({"colour": "dark red/white", "size": "42"}),
            json.dumps({"颜色": "红色"}),
            None,
        ],
    }
)


def test_a_gazetteer_knows_the_shops_own_names_in_both_languages() -> None:
    names = Gazetteer.of_products(PRODUCTS)
    assert names.find("NORD  kap running shoes, Dark Red 42") == ["nord kap", "running shoes", "dark red"]
    assert names.find("回力红色跑鞋 white") == ["回力", "红色", "跑鞋", "white"]
    assert names.find("norden kapital red") == []
    assert names.find("") == [] and len(names) == 8


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Nike跑鞋 新款", ["nike", "跑鞋", "新款"]),
        ("2024新款", ["新款"]),
        ("白色T恤", ["t恤"]),
        ("跑鞋nike", ["跑鞋", "nike"]),
        ("全新小米14手机", ["小米14"]),
        ("小米146", []),
        ("Ｔ恤衫", ["t恤"]),
    ],
)
def test_names_in_mixed_script_and_without_spaces(text: str, names: list[str]) -> None:
    assert Gazetteer(["Nike", "跑鞋", "T恤", "新款", "小米14"]).find(text) == names


def test_vague_queries_and_titles_are_dropped() -> None:
    names = Gazetteer.of_products(PRODUCTS)
    table = pl.DataFrame(
        {
            "query_text": ["nord kap shoes", "something nice", None, None],
            "product_id": ["a", "a", "a", "b"],
        }
    )
    found = entity_filter(table, {"a": "Nord Kap running shoes", "b": "one size"}, names)
    assert len(found.kept) == 2
    assert found.dropped["reason"].to_list() == [
        "query names fewer than 2 known things",
        "title names fewer than 2 known things",
    ]


@given(st.lists(st.text(max_size=12), max_size=8), st.text(max_size=60))
def test_what_is_found_is_in_the_text_and_in_the_list(names: list[str], text: str) -> None:
    found = Gazetteer(names).find(text)
    assert len(set(found)) == len(found)
    assert all(Gazetteer([name]).find(text) for name in found)
    assert all(Gazetteer(names).find(name) for name in found)
