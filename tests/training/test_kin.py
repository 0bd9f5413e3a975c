"""The same picture and the same design in two shops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

from moonshelf.encoder import CompactEncoder
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import PretrainConfig
from moonshelf.training.kin import Kin
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.pretrain import Pretrain


def lent(shop_with: Callable[..., Path], tmp_path: Path, shop_folder: Path) -> Shop:
    """Another export: products and pictures under other names, texts asked again in train."""
    products, images, searches = (
        pl.read_parquet(shop_folder / f"{n}.parquet") for n in ("products", "images", "searches")
    )
    products = products.filter(pl.col("product_id").is_in(["0", "2", "6"])).with_columns(
        pl.col("product_id") + "x",
        pl.col("image_ids").list.eval(pl.element() + "x"),
        pl.lit(None, pl.String).alias("spu_id"),
    )
    raw = shop_with(
        products=products,
        images=images.filter(pl.col("image_id").is_in(["p0", "p2", "p6"])).with_columns(
            pl.col("image_id") + "x"
        ),
        searches=searches.filter(pl.col("query_id").is_in(["t0", "t2"])).with_columns(
            pl.col("product_id") + "x"
        ),
    )
    return open_shop(raw, cache=tmp_path / "prepared")


def test_designs_and_pictures_are_joined_across_shops(
    shop: Shop, shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    kin = Kin([shop, lent(shop_with, tmp_path, shop_folder)])
    ours, theirs = kin.designs
    assert [theirs[f"{p}x"] == ours[p] for p in ("0", "2", "6")] == [True] * 3
    assert theirs["0x"] == ours["1"] and theirs["2x"] != ours["0"]  # red and green circle are one design
    assert kin.pictures[1]["p0x"] == kin.pictures[0]["p0"] != kin.pictures[0]["p1"]
    assert kin.shown[0]["p0"] == kin.shown[0]["p1"] == ours["0"]
    assert (
        len({kin.shown[0][f"q0-{i}"] for i in range(6)} | {ours["0"]}) == 7
    )  # other pictures stay themselves


def test_what_two_shops_share_is_no_negative(
    shop: Shop, shop_folder: Path, shop_with: Callable[..., Path], encoder: CompactEncoder, tmp_path: Path
) -> None:
    other = lent(shop_with, tmp_path, shop_folder)
    pairs = SearchPairs([shop, other])
    number = {product_id: i for i, (_, product_id) in enumerate(pairs.products)}
    text = [i for i, (_, _, t) in enumerate(pairs.queries) if t == "red circle"]
    assert len(text) == 2  # asked in both shops: one query, and both products are right for it
    right, wrong = pairs.masks(np.array(text), torch.tensor([number[i] for i in ("0", "0x", "2x")]))
    assert right.tolist() == [[True, True, False]] * 2 and wrong.tolist() == [[False, False, True]] * 2
    assert not pairs.peers(np.array(text)).negatives().any()
    stage = Pretrain([shop, other], encoder, PretrainConfig(view_size=64, batch=8), 0)
    group = {name: stage.groups[i] for i, (_, name) in enumerate(stage.photos)}
    assert group["p0"] == group["p0x"] and group["p2"] == group["p2x"] != group["p0"]


def test_a_catalogue_photo_that_was_searched_with_is_its_product(
    shop_folder: Path, shop_with: Callable[..., Path], encoder: CompactEncoder, tmp_path: Path
) -> None:
    images = pl.read_parquet(shop_folder / "images.parquet")
    twin = images.filter(pl.col("image_id") == "p2").with_columns(pl.lit("saved").alias("image_id"))
    shop = open_shop(shop_with(images=pl.concat([images, twin])), cache=tmp_path / "prepared")
    stage = Pretrain([shop], encoder, PretrainConfig(view_size=64, batch=8), 0)
    group = {name: stage.groups[i] for i, (_, name) in enumerate(stage.photos)}
    assert group["saved"] == group["p2"]


def test_rows_of_one_query_or_one_design_do_not_repel(shop: Shop) -> None:
    pairs = SearchPairs([shop])
    rows = np.arange(len(pairs))
    groups = pairs.kin(rows)
    same_design = pairs.groups[pairs.product_of]
    assert ((groups[:, None] == groups[None]) >= (same_design[:, None] == same_design[None])).all()
    assert len(set(groups.tolist())) == len(set(same_design.tolist()))
