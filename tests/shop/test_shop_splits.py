"""Splits of an opened shop: by time, by hash, and what must stay on one side."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from moonshelf.shop.check import format_check
from moonshelf.shop.shop import Shop

Raw = Callable[..., Path]
Photo = Callable[..., bytes]
Opened = Callable[..., Shop]


def test_repeated_queries_leave_train_and_are_counted(raw: Raw, opened: Opened, photo: Photo) -> None:
    shop = opened(
        raw(
            products={"product_id": ["1"], "title": ["mug"], "image_ids": [["p"]]},
            images={"image_id": ["p", "q1", "q2", "q3"], "bytes": [photo(0), photo(1), photo(1), photo(2)]},
            searches={
                "query_id": ["a", "b", "c", "d"],
                "product_id": ["1"] * 4,
                "query_image_id": ["q1", "q2", "q3", "p"],
                "split": ["train", "test", "train", "test"],
            },
        )
    )
    assert shop.searches is not None and shop.searches["query_id"].to_list() == ["b", "c", "d"]
    refused = shop.rejects.filter(table="searches").select("row", "column", "reason", "value", "kept").rows()
    assert refused == [(1, "split", "duplicate of a test query", "a", False)]
    assert shop.check["leaks"] == {"train in val": 0, "train in test": 1, "val in test": 0}
    assert shop.check["catalogue_photos_as_queries"] == 1
    assert "1 train in test" in format_check(shop.check)


def test_photos_of_one_group_share_a_hashed_split(raw: Raw, opened: Opened, photo: Photo) -> None:
    count = 40
    shop = opened(
        raw(
            products={"product_id": ["1"], "title": ["mug"]},
            images={
                "image_id": [f"i{n}" for n in range(count)],
                "bytes": [photo(n // 2) for n in range(count)],
            },
            searches={
                "query_id": [f"q{n}" for n in range(count)],
                "product_id": ["1"] * count,
                "query_image_id": [f"i{n}" for n in range(count)],
            },
        )
    )
    assert shop.searches is not None and len(shop.searches) == count
    splits = shop.searches["split"].to_list()
    assert splits[::2] == splits[1::2] and len(set(splits)) > 1
    assert shop.check["splits"]["searches"]["by"] == "hash"


def test_times_are_utc_and_split_by_time(raw: Raw, opened: Opened) -> None:
    shop = opened(
        raw(
            "csv",
            products={"product_id": ["1"], "title": ["mug"]},
            searches={
                "query_id": [str(i) for i in range(10)],
                "product_id": ["1"] * 10,
                "query_text": [f"x {i}" for i in range(10)],
                "time": [f"2024-01-{10 + i}T00:00:00+01:00" for i in range(10)],
            },
        )
    )
    assert shop.searches is not None
    assert shop.searches["time"][0] == datetime(2024, 1, 9, 23, tzinfo=UTC)
    assert shop.searches["split"].to_list() == ["train"] * 8 + ["val", "test"]


def split_of_tests(raw: Raw, opened: Opened, product: Callable[[int], str]) -> list[tuple[str, str]]:
    """Product and split of 40 tests of two creatives each."""
    n = 80
    shop = opened(
        raw(
            "parquet",
            products={
                "product_id": (names := sorted({product(i // 2) for i in range(n)})),
                "title": ["mug"] * len(names),
            },
            creatives={
                "creative_id": [f"c{i}" for i in range(n)],
                "test_id": [f"t{i // 2}" for i in range(n)],
                "product_id": [product(i // 2) for i in range(n)],
                "text": [f"buy {i}" for i in range(n)],
                "impressions": [10] * n,
                "clicks": [1] * n,
            },
        )
    )
    assert shop.creatives is not None
    return list(shop.creatives.select("product_id", "split").iter_rows())


def test_tests_of_one_product_stay_on_one_side(raw: Raw, opened: Opened) -> None:
    found = split_of_tests(raw, opened, lambda test: f"p{test // 2}")
    assert len(set(found)) == len({product for product, _ in found}) and len({s for _, s in found}) > 1


def test_a_product_that_stands_for_the_whole_site_holds_nothing_together(raw: Raw, opened: Opened) -> None:
    assert len({s for _, s in split_of_tests(raw, opened, lambda test: "site")}) == 3


def test_creatives_of_one_design_stay_on_one_side(raw: Raw, opened: Opened) -> None:
    n = 60
    shop = opened(
        raw(
            "parquet",
            products={
                "product_id": [str(i) for i in range(n)],
                "title": ["mug"] * n,
                "spu_id": [str(i // 2) for i in range(n)],
            },
            creatives={
                "creative_id": [f"c{i}" for i in range(n)],
                "product_id": [str(i) for i in range(n)],
                "text": [f"buy {i}" for i in range(n)],
                "impressions": [10] * n,
                "clicks": [1] * n,
            },
        )
    )
    assert shop.creatives is not None
    split = dict(shop.creatives.select("product_id", "split").iter_rows())
    assert all(split[str(2 * i)] == split[str(2 * i + 1)] for i in range(n // 2))
    assert len(set(split.values())) == 3
