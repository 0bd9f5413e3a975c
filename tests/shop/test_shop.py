"""Open a shop from end to end, good ones and bad ones."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from moonshelf.errors import InputError
from moonshelf.shop import audit
from moonshelf.shop.check import check_report, format_check
from moonshelf.shop.schema import SCHEMAS
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.types import Product

Raw = Callable[..., Path]
Opened = Callable[..., Shop]
Photo = Callable[..., bytes]


def lines(shop: Shop, table: str) -> set[tuple[Any, ...]]:
    return set(shop.rejects.filter(table=table).select("row", "column", "reason", "value", "kept").rows())


def test_a_shop_end_to_end(full: Path, opened: Opened) -> None:
    shop = opened(full)
    assert shop.products is not None and shop.searches is not None and shop.events is not None
    assert shop.products["image_ids"].to_list() == [["a", "b"], ["c"], ["a"], []]
    assert shop.searches.select("query_id", "query_text", "query_image_id", "split").rows() == [
        ("q1", None, "q", "train"),
        ("q2", "blue", None, "test"),
        ("q5", "mug", None, "val"),
    ]
    assert shop.searches.columns == [c.name for c in SCHEMAS["searches"].columns]
    assert len(shop.events) == 1 and shop.impressions is None and shop.users is None
    assert shop.images.ids == ["a", "b", "c", "q"]
    assert lines(shop, "images") == {(4, "bytes", "truncated", "cut", False)}
    assert lines(shop, "products") == {
        (2, "image_ids", "image: truncated", "cut", True),
        (4, "image_ids", "image: missing", "nowhere", True),
    }
    assert lines(shop, "searches") == {
        (3, "product_id", "unknown product_id", "99", False),
        (4, "query_image_id", "image: truncated", "cut", False),
        (5, "query_image_id", "image: truncated", "cut", True),
    }
    assert lines(shop, "events") == {(2, "product_id", "unknown product_id", "77", False)}


def test_a_product_is_a_record(full: Path, opened: Opened) -> None:
    shop = opened(full)
    product = shop.product("1")
    assert product == Product(
        "1", title="Red mug", price=3.0, spu_id="mug", attributes={"colour": "red"}, image_ids=("a", "b")
    )
    assert shop.product("3").title == "" and shop.product("2").price is None
    with pytest.raises(InputError, match="no product 99"):
        shop.product("99")


def test_products_of_one_design_or_one_picture_are_one_group(full: Path, opened: Opened) -> None:
    groups = opened(full).leak_groups()
    assert groups["1"] == groups["2"] == groups["3"] != groups["4"]


def test_a_placeholder_picture_joins_nothing(raw: Raw, opened: Opened, photo: Photo) -> None:
    ids = [str(i) for i in range(30)]
    shop = opened(
        raw(
            products={"product_id": ids, "image_ids": [["none"]] * 30},
            images={"image_id": ["none"], "bytes": [photo(1)]},
        )
    )
    assert len(set(shop.leak_groups().values())) == 30


def test_the_check_counts_and_reads_well(full: Path, opened: Opened) -> None:
    shop = opened(full)
    report = check_report(shop)
    json.dumps(report)
    assert report["usable"] is True
    searches = report["tables"]["searches"]
    assert (searches["read"], searches["kept"], searches["rejected"], searches["values_refused"]) == (
        5,
        3,
        2,
        1,
    )
    assert report["tables"]["images"] | {"reasons": []} == {
        "file": "images.parquet", "read": 5, "kept": 4, "rejected": 1, "values_refused": 0, "reasons": []
    }  # fmt: skip
    assert report["images"]["by_reason"] == {"missing": 1, "truncated": 1}
    assert report["products"]["without_image"] == 1 and report["products"]["without_text"] == 1
    assert report["splits"]["searches"] == {"by": "explicit", "train": 1, "val": 1, "test": 1}
    assert "products.price: 1 NaN taken as missing" in report["notes"]
    assert any("events.time: times without a zone" in note for note in report["notes"])
    text = format_check(report)
    for wanted in (
        "searches",
        "unknown product_id",
        'row 3 "99"',
        "1 NaN taken as missing",
        "Verdict: usable",
    ):
        assert wanted in text
    assert max(map(len, text.splitlines())) < 200


def test_read_equals_kept_plus_rejected(full: Path, opened: Opened) -> None:
    for table in opened(full).check["tables"].values():
        assert table["read"] == table["kept"] + table["rejected"]


def test_a_shop_is_read_once_until_its_files_change(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    first = open_shop(full)
    assert first.path.is_relative_to(tmp_path / "cache" / "shops")
    monkeypatch.setattr(audit, "inspect", lambda *a: pytest.fail("the shop was read again"))
    again = open_shop(full)
    assert again.path == first.path and again.fingerprint == first.fingerprint
    prepared = open_shop(first.path)
    assert prepared.manifest["stage"] == "shop"
    assert prepared.path == first.path and prepared.source == full.resolve() and prepared.name == "raw"
    monkeypatch.undo()
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    pl.DataFrame({"user_id": ["u"]}).write_parquet(full / "users.parquet")
    changed = open_shop(full)
    assert changed.fingerprint != first.fingerprint and changed.users is not None


def test_a_given_cache_is_replaced_only_when_it_is_a_shop(full: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds other things"):
        open_shop(full, cache=mine)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_smaller_pixel_limit_rejects(full: Path, tmp_path: Path) -> None:
    shop = open_shop(full, cache=tmp_path / "small", pixel_limit=100)
    assert len(shop.images) == 0 and shop.check["images"]["by_reason"]["too many pixels"] == 4


def test_images_as_files(raw: Raw, opened: Opened, photo: Photo, tmp_path: Path) -> None:
    folder = raw(
        "jsonl",
        products={
            "product_id": ["1", "2", "3"],
            "title": ["a", "b", "c"],
            "image_ids": [
                ["photos/1.jpg"],
                ["../secret.jpg", "http://x.y/z.jpg"],
                ["photos/text.jpg", "photos/none.jpg"],
            ],
        },
    )
    (folder / "photos").mkdir()
    (folder / "photos" / "1.jpg").write_bytes(photo(1))
    (folder / "photos" / "text.jpg").write_text("not a photo")
    (tmp_path / "secret.jpg").write_bytes(photo(2))
    shop = opened(folder)
    assert shop.images.ids == ["photos/1.jpg"] and shop.images.read("photos/1.jpg") == photo(1)
    told = {(row, value): reason for row, _, reason, value, _ in lines(shop, "products")}
    assert "leaves the shop folder" in told[(2, "../secret.jpg")] and "URL" in told[(2, "http://x.y/z.jpg")]
    assert (
        told[(3, "photos/text.jpg")] == "image: not an image"
        and told[(3, "photos/none.jpg")] == "image: missing"
    )
    assert len(told) == 4


def test_a_shop_without_images(raw: Raw, opened: Opened) -> None:
    shop = opened(raw(products={"product_id": ["1"], "title": ["mug"]}))
    assert len(shop.images) == 0 and shop.check["usable"]
    assert any("no usable images" in note for note in shop.check["notes"])


def test_a_shop_without_any_text(raw: Raw, opened: Opened, photo: Photo) -> None:
    shop = opened(
        raw(
            products={"product_id": ["1"], "image_ids": [["a"]]},
            images={"image_id": ["a"], "bytes": [photo(1)]},
        )
    )
    assert shop.check["usable"] and any("no product has a text" in note for note in shop.check["notes"])


def test_products_with_neither_are_not_usable(raw: Raw, opened: Opened) -> None:
    shop = opened(raw(products={"product_id": ["1", "2"]}))
    assert not shop.check["usable"] and shop.check["why"] == ["no product has an image or a text"]
    assert "NOT usable: no product has an image or a text" in format_check(shop.check)


def test_photos_only_open_when_products_are_not_required(raw: Raw, opened: Opened, photo: Photo) -> None:
    folder = raw(
        images={"image_id": ["a"], "bytes": [photo(1)]}, photo_labels={"image_id": ["a"], "label": ["hat"]}
    )
    with pytest.raises(InputError, match="there is no products table"):
        opened(folder)
    shop = opened(folder, require_products=False)
    assert shop.products is None and len(shop.images) == 1 and shop.leak_groups() == {}
    assert "photo_labels.parquet is no table of a shop folder: not read" in shop.check["notes"]
    assert not shop.check["usable"]


@pytest.mark.parametrize("ids", [[], [None, None]])
def test_products_without_a_usable_row(raw: Raw, opened: Opened, ids: list[Any]) -> None:
    folder = raw(products={"product_id": pl.Series(ids, dtype=pl.String)})
    with pytest.raises(InputError, match="no usable row"):
        opened(folder)
    assert not opened(folder, require_products=False).check["usable"]


def test_empty_tables_beside_products(raw: Raw, opened: Opened) -> None:
    empty = pl.Series([], dtype=pl.String)
    shop = opened(
        raw(
            products={"product_id": ["1"], "title": ["mug"], "image_ids": [[]]},
            images={"image_id": empty, "bytes": pl.Series([], dtype=pl.Binary)},
            searches={"query_id": empty, "product_id": empty, "query_text": empty},
            relevance={"query_id": empty, "query_text": empty, "product_id": empty, "grade": empty},
            creatives={"creative_id": empty, "impressions": empty, "clicks": empty, "text": empty},
        )
    )
    assert shop.searches is not None and len(shop.searches) == 0 and shop.check["usable"]
    assert "searches: searches.parquet has no rows" in shop.check["notes"]
    format_check(shop.check)


def test_a_table_of_refused_rows_is_told(raw: Raw, opened: Opened) -> None:
    shop = opened(
        raw(
            products={"product_id": ["1"], "title": ["mug"]},
            searches={"query_id": ["q"], "product_id": ["2"], "query_text": ["mug"]},
        )
    )
    assert any("every row of searches was refused" in note for note in shop.check["notes"])


def test_no_folder_no_tables(tmp_path: Path, opened: Opened) -> None:
    with pytest.raises(InputError, match="there is no such shop folder"):
        opened(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="not a folder"):
        opened(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no table found"):
        opened(tmp_path / "empty")
    assert not (tmp_path / "prepared").exists()


def test_a_bad_table_leaves_nothing_behind(raw: Raw, tmp_path: Path, photo: Photo) -> None:
    folder = raw(products={"product_id": ["1"]}, images={"image_id": ["a"], "bytes": [photo(1)]})
    path = folder / "images.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"cannot be read as Parquet.*images.parquet"):
        open_shop(folder, cache=tmp_path / "cache" / "shop")
    assert list((tmp_path / "cache").iterdir()) == []


def test_creatives_without_bytes_keep_their_text(raw: Raw, opened: Opened) -> None:
    shop = opened(
        raw(
            creatives={
                "creative_id": ["a", "b"],
                "impressions": [10, 10],
                "clicks": [1, 2],
                "text": ["Buy", None],
                "image_id": ["gone", "gone"],
                "test_id": ["t", "t"],
            }
        ),
        require_products=False,
    )
    assert shop.creatives is not None
    assert shop.creatives.select("creative_id", "image_id").rows() == [("a", None)]
    assert {line[4] for line in lines(shop, "creatives")} == {True, False}


def test_a_bomb_in_a_shop_is_a_rejected_photo(raw: Raw, opened: Opened, photo: Photo) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (50_000).to_bytes(4, "big") * 2
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0])) + chunk(b"IDAT", b"")
    shop = opened(
        raw(
            "parquet",
            products={"product_id": ["1"], "title": ["mug"], "image_ids": [["ok", "bomb"]]},
            images={"image_id": ["ok", "bomb"], "bytes": [photo(1), bomb]},
        )
    )
    assert shop.product("1").image_ids == ("ok",)
    assert "too many pixels" in shop.rejects.filter(pl.col("value") == "bomb")["reason"][0]


def test_a_picture_saved_into_a_shop_with_an_images_table_changes_nothing(
    raw: Raw, opened: Opened, photo: Photo
) -> None:
    folder = raw(
        "parquet",
        products={"product_id": ["1"], "title": ["mug"], "image_ids": [["a"]]},
        images={"image_id": ["a"], "bytes": [photo(1)]},
    )
    first = opened(folder)
    (folder / "found.png").write_bytes(photo(2))
    assert opened(folder).fingerprint == first.fingerprint
