"""Cleaned pairs: what is learned from, what still is no negative, and what the log says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from moonshelf import progress
from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError, TooLittleData
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training import prior
from moonshelf.training.config import LoopConfig, OptimConfig, PosttrainConfig
from moonshelf.training.mining import load_mined, mine
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import posttrain
from moonshelf.training.prior import prior_vectors, similarity
from moonshelf.training.runlog import read_log

CONFIG = PosttrainConfig(
    batch=6,
    view_size=64,
    loop=LoopConfig(epochs=1.0, max_steps=2, evaluate_every=10),
    optim=OptimConfig(trunk_lr=1e-5, head_lr=1e-4),
)


def test_what_is_not_learned_from_is_still_no_negative(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    """ "red circle" was bought as 0 and clicked as 6: with purchases alone, 6 is neither right nor wrong for it."""
    rows = pl.read_parquet(shop_folder / "searches.parquet")
    clicked = rows.filter(pl.col("query_id") == "t0").with_columns(
        query_id=pl.lit("again"), product_id=pl.lit("6"), action=pl.lit("click")
    )
    shop = open_shop(shop_with(searches=pl.concat([rows, clicked])), cache=tmp_path / "prepared")
    pairs = SearchPairs([shop], actions=("purchase",))
    assert len(pairs) == 12 and all(text for _, _, text in pairs.queries)
    number = {product_id: i for i, (_, product_id) in enumerate(pairs.products)}
    row = [i for i, (_, _, text) in enumerate(pairs.queries) if text == "red circle"]
    right, wrong = pairs.masks(np.array(row), torch.tensor([number[p] for p in ("0", "6", "2")]))
    assert right.tolist() == [[True, False, False]] and wrong.tolist() == [[False, False, True]]
    with pytest.raises(TooLittleData, match="only 0 searches"):
        SearchPairs([shop], actions=("cart",))


def test_skus_of_one_design_are_learned_once(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    rows = pl.read_parquet(shop_folder / "searches.parquet")
    twin = rows.filter(pl.col("query_id") == "q0-3").with_columns(
        product_id=pl.lit("1"), action=pl.lit("purchase")
    )
    shop = open_shop(shop_with(searches=pl.concat([rows, twin])), cache=tmp_path / "prepared")
    plain, merged = SearchPairs([shop]), SearchPairs([shop], clean=("spu",))
    assert len(merged) == len(plain) - 1
    assert merged.cleaned == [
        f"clean, spu, raw: {len(merged)} of {len(plain)} pairs kept (dropped: 1 same query and design as a kept pair)"
    ]
    [kept] = [i for i, (_, image, _) in enumerate(merged.queries) if image == "q0-3"]
    assert merged.products[merged.product_of[kept]] == (0, "1")  # the purchase


def test_each_filter_says_what_it_did_or_lacks(
    shop: Shop, shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    assert SearchPairs([shop], clean=("entities",)).cleaned == ["clean, entities, toys: 60 of 60 pairs kept"]
    with pytest.raises(InputError, match="rebalance needs impressions"):
        SearchPairs([shop], clean=("rebalance",))
    raw = shop_with(
        products=pl.read_parquet(shop_folder / "products.parquet").select("product_id", "title", "image_ids")
    )
    bare = open_shop(raw, cache=tmp_path / "prepared")
    with pytest.raises(InputError, match="entities needs brands"):
        SearchPairs([bare], clean=("entities",))
    both = SearchPairs([shop, bare], clean=("entities",))  # a shop that lends may lack them
    assert both.cleaned[1] == "clean, entities, raw: left out, no brands, categories or attributes"


def test_rebalancing_follows_what_was_shown(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    raw = shop_with()
    shown = [("0", 8), ("4", 1), ("8", 1)]  # circle, square, cross
    rows = [p for p, n in shown for _ in range(n)]
    pl.DataFrame({"impression_id": [str(i) for i in range(10)], "user_id": ["u"] * 10, "product_id": rows,
                  "time": ["2026-01-01"] * 10, "clicked": [0] * 10}).write_csv(raw / "impressions.csv")  # fmt: skip
    shop = open_shop(raw, cache=tmp_path / "prepared")
    pairs = SearchPairs([shop], clean=("rebalance",), seed=3)
    kept = [pairs.categories[n].item() for n in pairs.product_of]
    assert sorted(kept.count(c) for c in set(kept)) == [
        6,
        6,
        20,
    ]  # a tenth of 60 each; the circles are few anyway
    assert SearchPairs([shop], clean=("rebalance",), seed=3).queries == pairs.queries


def test_the_hardest_query_of_a_product_is_kept_and_the_earlier_encoder_asked_once(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = SearchPairs([shop])
    queries, products = prior_vectors(pairs, encoder, tmp_path)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-5)
    alike = similarity(pairs, queries, products)
    want = [
        min(np.flatnonzero(pairs.product_of == p), key=lambda i: alike[i])
        for p in sorted(set(pairs.product_of))
    ]
    monkeypatch.setattr(prior, "_encoded", None)  # not asked again: the vectors were kept
    again = prior_vectors(pairs, encoder, tmp_path)
    assert np.array_equal(again[0], queries) and np.array_equal(again[1], products)
    before = [pairs.queries[i] for i in sorted(want)]
    rows = pairs.keep_hardest(alike)
    assert rows.tolist() == sorted(want) and pairs.queries == before
    assert "12 of 60 pairs kept" in pairs.cleaned[-1]


@pytest.mark.parametrize("loss", ["info_nce", "circle"])
def test_a_second_stage_with_everything(
    loss: str, shop: Shop, encoder: CompactEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Purchases, cleaned, the hardest of them, with hard and mined negatives, a guard, and either loss."""
    monkeypatch.setattr(progress, "_quiet", False)
    config = replace(
        CONFIG, actions=("purchase",), clean=("spu", "entities", "hardest"), mine=2, mine_guard=2.0, category_hard=1,
        loss=loss, guard=0.1,
    )  # fmt: skip
    posttrain(shop, encoder, tmp_path, config)
    said = capsys.readouterr().err
    assert (
        all(f"clean, {name}" in said for name in ("spu", "entities", "hardest")) and "mined: 24 hard" in said
    )
    assert [line.split(",")[1] for line in json.loads((tmp_path / "cleaning.json").read_text())] == [
        " spu", " entities", " hardest: 12 of 12 pairs kept"
    ]  # fmt: skip
    steps = [r for r in read_log(tmp_path) if r["kind"] == "train"]
    assert len(steps) == 2
    for record in steps:
        assert np.isfinite(record["loss"]) and record["loss"] > 0
        kinds = [record[f"negatives_{kind}"] for kind in ("in_batch", "category", "mined", "memory")]
        assert record["negatives"] == pytest.approx(sum(kinds), abs=1e-4)
    assert sum(r["negatives_mined"] + r["negatives_category"] for r in steps) > 0


def test_negatives_are_mined_for_the_queries_that_the_filters_left(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    pairs = SearchPairs([shop])
    queries, products = prior_vectors(pairs, encoder, tmp_path / "prior")
    rows = pairs.keep_hardest(similarity(pairs, queries, products))
    found = []
    for name, own in (("right", queries[rows]), ("shifted", queries[: len(rows)])):
        mine(own, products, pairs, tmp_path / name, per_query=2, guard=2.0)
        found.append(load_mined(tmp_path / name, pairs))
    assert not np.array_equal(*found)
    posttrain(shop, encoder, tmp_path, replace(CONFIG, clean=("hardest",), mine=2, mine_guard=2.0))
    assert np.array_equal(load_mined(tmp_path / "mined.parquet", pairs), found[0])
    out = pl.read_parquet(tmp_path / "dropped.parquet")  # what a filter took out can be looked at
    assert out.columns == [
        "shop", "filter", "product_id", "query_image_id", "query_text", "action", "reason",
    ]  # fmt: skip
    assert len(out) == 48 and set(out["filter"]) == {"hardest"} and set(out["shop"]) == {shop.name}
    kept = {(image, text) for _, image, text in pairs.queries}
    assert not kept & set(out.select("query_image_id", "query_text").iter_rows())
