from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from moonshelf.encoder import CompactEncoder
from moonshelf.encoder.inputs import Item, prepare_image, product_text
from moonshelf.errors import InputError
from moonshelf.evaluation.image_search import image_search, search_recall, text_search
from moonshelf.evaluation.queries import build_gallery, build_queries
from moonshelf.shop.shop import Shop, open_shop

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _small_baselines(encoder: CompactEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The off-the-shelf network is the fixture's, at 64 px: loading the real one takes seconds."""
    monkeypatch.setattr("moonshelf.evaluation.image_search.load_encoder", lambda name, device: encoder)
    monkeypatch.setattr("moonshelf.evaluation.baselines.NATIVE_SIZE", 64)


@pytest.fixture
def make(shop: Shop, tmp_path: Path) -> Callable[..., Shop]:
    """A shop from rows; photos are those of the small shop, by id, under the names given."""

    def build(
        products: Rows | None, searches: Rows | None, images: dict[str, str], name: str = "other"
    ) -> Shop:
        folder = tmp_path / name
        folder.mkdir()
        for table, rows in (("products", products), ("searches", searches)):
            if rows is not None:
                pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / f"{table}.parquet")
        photos = {"image_id": list(images), "bytes": [shop.images.read(i) for i in images.values()]}
        pl.DataFrame(photos).write_parquet(folder / "images.parquet")
        return open_shop(folder, cache=tmp_path / f"{name}-cache", require_products=products is not None)

    return build


def test_ranks_and_top_ten_equal_a_plain_computation(shop: Shop, encoder: CompactEncoder) -> None:
    result = image_search(shop, encoder, split="test")
    assert shop.products is not None and shop.searches is not None
    names = shop.products["product_id"].to_list()

    def pixels(image_id: str) -> tuple[np.ndarray, ...]:
        return (prepare_image(shop.images.decode(image_id, short_side=64), 64),)

    products = [shop.product(n) for n in names]
    gallery = encoder.encode([Item(product_text(p), pixels(p.image_ids[0])) for p in products])
    test = shop.searches.filter(pl.col("split") == "test").drop_nulls("query_image_id")
    assert result.queries == tuple(test["query_image_id"])
    for i, (photo, right) in enumerate(test.select("query_image_id", "product_id").iter_rows()):
        scores = gallery @ encoder.encode([Item(None, pixels(photo))])[0]
        spu = {p.product_id: p.spu_id for p in products}
        left = [n for n in names if n == right or spu[n] != spu[right]]
        order = sorted(left, key=lambda n: -scores[names.index(n)])
        assert result.ranks["ours"][i] == order.index(right) + 1
        assert list(result.top_ids[i]) == order[:10]
        assert result.right[i] == (right,)


def test_the_result_has_the_contracts_shape(shop: Shop, encoder: CompactEncoder) -> None:
    result = image_search(shop, encoder)
    value = json.loads(json.dumps(result.to_json(with_queries=True)))
    metrics = {"recall@1", "recall@5", "recall@10", "mrr"}
    assert value["metrics"].keys() == metrics
    assert value["metrics"]["recall@5"].keys() == {"value", "low", "high", "n"}
    assert value["baselines"].keys() == {"off_the_shelf", "colour_histogram", "chance"}
    assert value["difference_to_off_the_shelf"].keys() == metrics
    assert value["by_category"]["top"]["Toys"]["ours"] == value["metrics"]
    assert value["by_category"]["leaf"].keys() == {f"Toys > {s}" for s in ("circle", "square", "cross")}
    assert len(value["queries"]) == 12 and value["protocol"]["gallery"] == 12
    assert (
        value["provenance"]["encoder"] == encoder.version and value["provenance"]["shop"] == shop.fingerprint
    )
    for name in ("ours", "off-the-shelf trunk", "colour histogram", "chance", "ours - off-the-shelf", "Toys"):
        assert name in str(result)
    # every query's own SPU siblings are set aside: 4 products of each shape, two of them of one SPU
    sizes = [11 if i % 4 in (0, 1) else 12 for i in range(12)]
    assert value["baselines"]["chance"]["recall@5"]["value"] == pytest.approx(np.mean([5 / s for s in sizes]))
    assert result.difference["mrr"].value == pytest.approx(
        result.metrics["mrr"].value - result.baselines["off_the_shelf"]["mrr"].value
    )


def test_baselines_can_be_left_out_or_lent(shop: Shop, encoder: CompactEncoder) -> None:
    first = image_search(shop, encoder)
    bare = image_search(shop, encoder, baselines=False)
    assert not bare.baselines and not bare.difference and bare.metrics == first.metrics
    lent = image_search(shop, encoder, baselines=first)
    assert lent.baselines == first.baselines and lent.difference == first.difference
    with pytest.raises(InputError, match="other queries"):
        image_search(shop, encoder, baselines=first, split="val")


def test_a_subset_of_products_keeps_the_gallery_whole(shop: Shop, encoder: CompactEncoder) -> None:
    whole = image_search(shop, encoder, baselines=False)
    part = image_search(shop, encoder, baselines=False, products={"2", "7"})
    keep = [i for i, right in enumerate(whole.right) if right[0] in ("2", "7")]
    assert part.protocol["gallery"] == 12 and part.protocol["product_subset"]
    assert part.ranks["ours"].tolist() == whole.ranks["ours"][keep].tolist()


def test_distractors_join_the_gallery(shop: Shop, encoder: CompactEncoder, make: Callable[..., Shop]) -> None:
    names = [i for i in shop.images.ids if i.startswith("q")][:30]
    photos = make(None, None, {f"x{i}": name for i, name in enumerate(names)}, "photos")
    sold = make(
        [{"product_id": "0", "title": "lamp", "image_ids": ["a"]}], None, {"a": names[40 - 11]}, "sold"
    )
    plain = image_search(shop, encoder, baselines=False)
    result = image_search(shop, encoder, distractors=[photos, sold])
    distinct = result.protocol["distractor_rows"] - 1
    assert distinct == len(photos.images) and result.protocol["gallery"] == 12 + distinct + 1
    assert (result.ranks["ours"] >= plain.ranks["ours"]).all()
    found = {name for line in result.top_ids for name in line}
    assert any(name.startswith("photos:x") for name in found)
    chance = result.baselines["chance"]["recall@1"].value
    assert chance < 1 / 12 and len(result.ranks["off_the_shelf"]) == 12
    few = image_search(shop, encoder, distractors=[photos], distractor_limit=5, baselines=False)
    assert few.protocol["distractor_rows"] == 5
    with pytest.raises(InputError, match="given twice"):
        image_search(shop, encoder, distractors=[photos, photos])


def rows_for_spu() -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    products = [
        {"product_id": "a", "title": "kettle", "spu_id": "s", "image_ids": ["a"]},
        {"product_id": "b", "title": "kettle red", "spu_id": "s", "image_ids": ["b"]},
        {"product_id": "c", "title": "lamp", "spu_id": None, "image_ids": ["c"]},
        {"product_id": "none", "title": None, "spu_id": None, "image_ids": []},
    ]
    ask = {"split": "test", "query_text": None}
    searches = [
        ask | {"query_id": "1", "product_id": "a", "query_image_id": "q1"},
        ask | {"query_id": "2", "product_id": "c", "query_image_id": "q1"},
        ask | {"query_id": "3", "product_id": "none", "query_image_id": "q2"},
        ask | {"query_id": "4", "product_id": "c", "query_image_id": None, "query_text": "a lamp"},
    ]
    return products, searches, {"a": "p0", "b": "p1", "c": "p2", "q1": "q0-0", "q2": "q1-0"}


def test_spu_rules_and_dropped_queries(make: Callable[..., Shop]) -> None:
    shop = make(*rows_for_spu())
    gallery = build_gallery(shop, (), max_images=4)
    assert gallery.ids == ("a", "b", "c") and gallery.left_out == ("none",)
    masked = build_queries(shop, gallery)
    assert masked.keys == ("q1",) and masked.dropped == {"product not in the gallery": 1}
    assert masked.positives[0].tolist() == [0, 2] and masked.masked[0].tolist() == [1]
    counted = build_queries(shop, gallery, spu="count")
    assert counted.positives[0].tolist() == [0, 2, 1] and not len(counted.masked[0])
    texts = build_queries(shop, gallery, kind="text")
    assert texts.keys == ("a lamp",) and texts.positives[0].tolist() == [2]


def test_what_is_set_aside_is_in_no_top_ten(make: Callable[..., Shop], encoder: CompactEncoder) -> None:
    shop = make(*rows_for_spu())
    assert set(image_search(shop, encoder).top_ids[0]) == {"a", "c"}
    assert set(image_search(shop, encoder, spu="count").top_ids[0]) == {"a", "b", "c"}
    assert image_search(shop, encoder).protocol["gallery_left_out"] == 1


def test_text_queries(shop: Shop, encoder: CompactEncoder) -> None:
    result = text_search(shop, encoder, split="train")
    assert len(result.queries) == 12 and result.baselines.keys() == {"chance"} and not result.difference
    assert result.metrics["recall@5"].value > result.baselines["chance"]["recall@5"].value
    assert "text search, split train: 12 queries" in str(result)


def test_gallery_of_photos_alone_and_widths(shop: Shop, encoder: CompactEncoder) -> None:
    both = search_recall(shop, encoder, baselines=False)
    photos = search_recall(shop, encoder, baselines=False, gallery_use=("image",), dim=64)
    assert photos.protocol["gallery_use"] == ["image"] and photos.protocol["dim"] == 64
    assert not np.allclose(photos.top_scores, both.top_scores)


def test_intervals_over_products(make: Callable[..., Shop], encoder: CompactEncoder, shop: Shop) -> None:
    by_query = image_search(shop, encoder, split="train", baselines=False)
    by_product = image_search(shop, encoder, split="train", baselines=False, intervals="product")
    a, b = by_query.metrics["mrr"], by_product.metrics["mrr"]
    assert a.value == b.value and b.high - b.low > a.high - a.low
    assert by_product.protocol["intervals_over"] == "products"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"split": "none"}, "no image queries in split 'none'"),
        ({"gallery_use": ("smell",)}, "unknown modalities"),
        ({"dim": 3}, "width 3"),
        ({"spu": "what"}, "SPU rule"),
    ],
)
def test_bad_settings(shop: Shop, encoder: CompactEncoder, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        image_search(shop, encoder, **options)


def test_a_shop_without_searches_or_products(make: Callable[..., Shop], encoder: CompactEncoder) -> None:
    with pytest.raises(InputError, match="no searches"):
        image_search(
            make([{"product_id": "a", "title": "x", "image_ids": ["a"]}], None, {"a": "p0"}), encoder
        )
    with pytest.raises(InputError, match="no products to search"):
        image_search(make(None, None, {"a": "p0"}, "bare"), encoder)
