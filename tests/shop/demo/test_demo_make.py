"""The written folder: contract, references, truth beside it, same bytes for the same seed."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from moonshelf.errors import InputError
from moonshelf.shop.demo import make_demo_shop
from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.words import CATEGORIES

REQUIRED = {
    "products": {"product_id", "spu_id", "title", "category", "attributes", "brand", "price", "image_ids"},
    "images": {"image_id", "bytes"},
    "searches": {"query_id", "product_id", "query_text", "query_image_id", "action", "user_id", "time"},
    "events": {"user_id", "time", "product_id", "action"},
    "impressions": {"product_id", "clicked", "user_id", "time", "query_text", "position", "propensity"},
    "creatives": {"creative_id", "impressions", "clicks", "image_id", "text", "product_id", "queries"},
    "users": {"user_id"},
    "relevance": {"query_id", "query_text", "product_id", "grade"},
}


def digests(folder: Path) -> dict[str, str]:
    """A hash of every file of a shop."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def table(shop: Path, name: str) -> pl.DataFrame:
    """One table of a shop."""
    return pl.read_parquet(shop / f"{name}.parquet")


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_columns(small_shop: Path, name: str) -> None:
    frame = table(small_shop, name)
    assert set(frame.columns) >= REQUIRED[name]
    assert len(frame) > 0
    assert "split" not in frame.columns


def test_ids_are_unique(small_shop: Path) -> None:
    keys = {
        "products": "product_id",
        "images": "image_id",
        "searches": "query_id",
        "creatives": "creative_id",
    }
    for name, key in {**keys, "users": "user_id"}.items():
        assert table(small_shop, name)[key].is_unique().all(), name


def test_references_resolve_and_no_image_is_idle(small_shop: Path) -> None:
    products = set(table(small_shop, "products")["product_id"])
    users = set(table(small_shop, "users")["user_id"])
    images = set(table(small_shop, "images")["image_id"])
    for name in ("searches", "events", "impressions", "creatives", "relevance"):
        assert set(table(small_shop, name)["product_id"]) <= products, name
    for name in ("searches", "events", "impressions"):
        assert set(table(small_shop, name)["user_id"]) <= users, name
    used = set(table(small_shop, "products")["image_ids"].explode())
    used |= set(table(small_shop, "searches")["query_image_id"].drop_nulls())
    used |= set(table(small_shop, "creatives")["image_id"])
    assert used == images


def test_every_search_has_a_text_or_a_photo(small_shop: Path) -> None:
    frame = table(small_shop, "searches")
    both = frame["query_text"].is_not_null().cast(int) + frame["query_image_id"].is_not_null().cast(int)
    assert (both == 1).all()
    assert set(frame["action"]) <= {"click", "cart", "purchase"}


def test_images_decode_and_none_is_blank(small_shop: Path) -> None:
    for name, data in table(small_shop, "images").iter_rows():
        image = Image.open(io.BytesIO(data))
        assert image.format == "JPEG" and image.size == (64, 64), name
        low, high = image.convert("L").getextrema()
        assert high - low > 15, name


def test_all_categories_everywhere_also_in_the_last_tenth(small_shop: Path) -> None:
    products = table(small_shop, "products")
    paths = {c.path for c in CATEGORIES}
    assert len(paths) >= 10 and all(p.count(" > ") == 1 for p in paths)
    assert set(products["category"]) == paths
    meant = pl.read_parquet(small_shop / "truth" / "searches.parquet")["meant_product_id"]
    searches = table(small_shop, "searches").with_columns(meant=meant).sort("time")
    joined = searches.join(products.select("product_id", "category"), left_on="meant", right_on="product_id")
    last = joined.sort("time").tail(len(joined) // 10)
    assert set(last["category"]) == paths


def test_titles_are_in_two_languages(small_shop: Path) -> None:
    titles = table(small_shop, "products")["title"].to_list()
    chinese = [any("\u4e00" <= c <= "\u9fff" for c in t) for t in titles]
    assert 0.2 < sum(chinese) / len(titles) < 0.6
    assert any(not z for z in chinese)
    queries = table(small_shop, "searches")["query_text"].drop_nulls().to_list()
    assert any(any("\u4e00" <= c <= "\u9fff" for c in q) for q in queries)
    assert any(q.isascii() for q in queries)


def test_nothing_happens_to_a_product_that_has_not_come(small_shop: Path) -> None:
    came = table(small_shop, "products").select("product_id", "created_at")
    for name in ("events", "impressions"):
        joined = table(small_shop, name).join(came, on="product_id")
        assert (joined["time"] >= joined["created_at"]).all(), name


def test_truth_lists_the_attribute_faults(small_shop: Path) -> None:
    faults = pl.read_parquet(small_shop / "truth" / "attributes.parquet")
    true = pl.read_parquet(small_shop / "truth" / "products.parquet")
    listed = {(p, a): (w, t) for p, a, t, w, _ in faults.iter_rows()}
    assert set(faults["fault"]) == {"missing", "wrong"}
    listing = pq.read_table(small_shop / "products.parquet", columns=["product_id", "attributes"]).to_pydict()
    attributes = dict(zip(listing["product_id"], listing["attributes"], strict=True))
    for product, brand in true.select("product_id", "brand").iter_rows():
        written = dict(attributes[product])
        for name in ("colour", "pattern", "material", "shape", "brand"):
            wrong = listed.get((product, name))
            assert written.get(name) == (wrong[0] if wrong else written[name])
        if "brand" in written:
            assert written["brand"] == brand


def test_it_says_that_it_is_made(small_shop: Path) -> None:
    assert "not real" in (small_shop / "README.txt").read_text()
    assert json.loads((small_shop / "truth" / "truth.json").read_text())["real"] is False


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    a = make_demo_shop(tmp_path / "a", products=20, seed=5, workers=1, progress=False, size=64)
    b = make_demo_shop(tmp_path / "b", products=20, seed=5, workers=2, progress=False, size=64)
    assert digests(a) == digests(b)
    assert make_items(20, 5) == make_items(20, 5) != make_items(20, 6)


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    for settings in ({"products": 3}, {"size": 63}, {"size": 4096}, {"seed": -1}, {"workers": 0}):
        with pytest.raises(InputError):
            make_demo_shop(tmp_path / "x", progress=False, **settings)  # type: ignore[arg-type]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "keep.txt").write_text("mine")
    with pytest.raises(InputError, match="taken"):
        make_demo_shop(tmp_path / "letters", products=20, progress=False)
    assert (tmp_path / "letters" / "keep.txt").read_text() == "mine"
