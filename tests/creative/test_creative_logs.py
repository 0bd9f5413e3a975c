"""Creatives that may be compared: faulty tests, straddling tests and repeated looks are left out, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from creative_log import make_log

from moonshelf.creative.logs import from_log, from_shop, having, pooled, top_queries, words_key
from moonshelf.errors import InputError, TooLittleData
from moonshelf.shop.shop import Shop, open_shop


def row(
    creative: str, test: str | None, text: str | None, split: str = "train", **others: object
) -> dict[str, object]:
    base = {
        "creative_id": creative,
        "test_id": test,
        "text": text,
        "split": split,
        "impressions": 100,
        "clicks": 5,
    }
    return base | {"image_id": None} | others


def test_what_cannot_be_compared_is_left_out_with_a_reason() -> None:
    log = pl.DataFrame(
        [
            row("a", "1", "One"), row("b", "1", "Two"),
            row("c", "2", "x", faulty_randomisation=True), row("d", "2", "y", faulty_randomisation=True),
            row("e", None, "z"), row("f", "3", None), row("g", "3", "w"),
            row("h", "1", "Three", impressions=0, clicks=0),
        ],
        infer_schema_length=None,
    )  # fmt: skip
    logged = from_log(log)
    assert logged.frame["creative_id"].to_list() == ["a", "b"]
    assert dict(logged.left) == {
        "of a test with faulty randomisation": 2, "of no test and no product": 1, "without picture and text": 1,
        "never shown": 1, "alone in its test": 1,
    }  # fmt: skip
    assert logged.frame["group"].to_list() == ["t:1"] * 2 and logged.frame["title"].to_list() == [""] * 2


def test_a_test_lies_in_one_split_and_training_gives_way() -> None:
    log = pl.DataFrame(
        [
            row("a", "1", "One", "train"), row("b", "1", "Two", "test"), row("c", "1", "Three", "test"),
            row("d", "2", "Four", "train"), row("e", "2", "Two!", "train"), row("f", "2", "Five", "train"),
            row("g", "3", "Six", "train"), row("h", "3", "Seven", "train"),
        ]
    )  # fmt: skip
    logged = from_log(log)
    assert set(logged.frame["creative_id"]) == {
        "b",
        "c",
        "g",
        "h",
    }  # test 2 shows a headline of the test split again
    assert logged.left["of a test that lies in a more protected split too"] == 1
    assert logged.left["of a test with a creative of a more protected split"] == 3
    assert set(from_log(log, apart="").frame["creative_id"]) == set("bcdefgh")


def test_without_a_split_tests_are_split_whole_and_for_good() -> None:
    log = make_log(60).drop("split")
    logged = from_log(log)
    assert logged.how == "hash" and set(logged.frame["split"]) == {"train", "val", "test"}
    assert (logged.frame.group_by("group").agg(pl.col("split").n_unique())["split"] == 1).all()
    half = from_log(log.head(120)).frame
    assert half["split"].to_list() == logged.frame["split"].to_list()[:120]


def test_products_stand_in_for_tests_and_give_titles() -> None:
    log = pl.DataFrame([row(c, None, c, product_id="p") for c in "abc"])
    products = pl.DataFrame({"product_id": ["p"], "title": ["Mug"], "category": ["Kitchen"]})
    frame = from_log(log, products=products).frame
    assert (
        set(frame["group"]) == {"p:p"}
        and set(frame["title"]) == {"Mug"}
        and set(frame["category"]) == {"Kitchen"}
    )


def test_near_duplicate_pictures_look_the_same() -> None:
    log = pl.DataFrame([row(c, "1", None, image_id=c) for c in "abc"])
    frame = from_log(log, pictures={"a": 1, "b": 1, "c": 2}).frame
    assert frame["look"][0] == frame["look"][1] != frame["look"][2]


def test_a_headline_with_many_pictures_is_one() -> None:
    log = pl.DataFrame(
        [
            row("a", "1", "One", image_id="x"),
            row("b", "1", "one!", image_id="y"),
            row("c", "1", "Two", image_id="x"),
        ]
    )
    frame = pooled(from_log(log)).frame
    assert frame.select("creative_id", "impressions", "clicks").rows() == [("a", 200, 10), ("c", 100, 5)]


def test_words_key_forgets_case_and_marks() -> None:
    assert words_key("Look! It's  HERE") == words_key("look it s here") == "look it s here"
    assert words_key("?!") == "?!" and words_key(None) == ""


def test_a_log_without_what_is_needed_is_refused() -> None:
    with pytest.raises(InputError, match="lacks clicks"):
        from_log(pl.DataFrame({"creative_id": ["a"], "impressions": [1], "text": ["x"], "test_id": ["1"]}))


def test_a_shop_gives_titles_pictures_and_queries(
    shop_with: Callable[..., Path], tmp_path: Path, shop: Shop
) -> None:
    creatives = pl.DataFrame(
        {
            "creative_id": ["a", "b", "c"], "product_id": ["0", "0", "0"], "image_id": ["p0", "p1", "p1"],
            "impressions": [10, 10, 10], "clicks": [1, 2, 3],
        }
    )  # fmt: skip
    opened = open_shop(shop_with(creatives=creatives), cache=tmp_path / "read")
    logged = from_shop(opened)
    assert set(logged.frame["title"]) == {"red circle 玩具"} and logged.frame["look"].n_unique() == 2
    assert (
        top_queries(opened)["0"] == ["red circle"]
        and logged.frame["queries"].to_list() == [["red circle"]] * 3
    )
    with pytest.raises(TooLittleData):
        from_shop(shop)


def test_rows_without_a_split_are_counted_where_others_have_one() -> None:
    log = pl.DataFrame(
        [row("a", "1", "One"), row("b", "1", "Two"), row("c", "2", "x", None), row("d", "2", "y", "no")]
    )
    logged = from_log(log)
    assert logged.frame["creative_id"].to_list() == ["a", "b"] and dict(logged.left) == {"without a split": 2}


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "false"), ("yes", "no"), ("1", "0"), (" TRUE ", ""), (1, 0)]
)
def test_faulty_tests_are_told_in_any_spelling(yes: object, no: object) -> None:
    rows = [row("a", "1", "One"), row("b", "1", "Two"), row("c", "2", "x"), row("d", "2", "y")]
    log = pl.DataFrame([r | {"faulty_randomisation": yes if r["test_id"] == "2" else no} for r in rows])
    logged = from_log(log)
    assert dict(logged.left) == {"of a test with faulty randomisation": 2} and len(logged) == 2
    strange = log.with_columns(faulty_randomisation=pl.lit("perhaps"))
    with pytest.raises(InputError, match="'perhaps' is neither yes nor no"):
        from_log(strange)


def test_those_that_have_words() -> None:
    log = pl.DataFrame(
        [
            row("a", "1", "One"), row("b", "1", "Two"), row("c", "1", None, image_id="p"),
            row("d", "2", "Three"), row("e", "2", None, image_id="q"),
        ],
        infer_schema_length=None,
    )  # fmt: skip
    kept = having(from_log(log), "words", "without words")
    assert kept.frame["creative_id"].to_list() == ["a", "b"]
    assert dict(kept.left) == {"without words": 2, "alone in its test": 1}
    assert having(kept, "words", "without words") is kept
