"""Hard negatives: what they are, how many took part, and what is said when there are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import LoopConfig, OptimConfig, PosttrainConfig
from moonshelf.training.hard import HardNegatives
from moonshelf.training.mining import mine
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import Posttrain, posttrain
from moonshelf.training.runlog import read_log

CONFIG = PosttrainConfig(
    batch=6,
    view_size=64,
    loop=LoopConfig(epochs=1.0, max_steps=3, evaluate_every=10),
    optim=OptimConfig(trunk_lr=1e-4),
)


def test_category_negatives_share_the_category_and_not_the_design(shop: Shop) -> None:
    pairs = SearchPairs([shop])
    hard = HardNegatives(pairs, category=2)
    rng = np.random.default_rng(0)
    for row in range(0, len(pairs), 5):
        own = int(pairs.product_of[row])
        for number in hard.draw(np.array([row]), rng)["category"]:
            assert pairs.categories[number] == pairs.categories[own]
            assert pairs.groups[number] != pairs.groups[own]


def test_a_kind_that_cannot_be_had_is_an_error(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    raw = shop_with(products=pl.read_parquet(shop_folder / "products.parquet").drop("category"))
    bare = SearchPairs([open_shop(raw, cache=tmp_path / "prepared")])
    with pytest.raises(InputError, match="no category holds two designs"):
        HardNegatives(bare, category=1)
    with pytest.raises(InputError, match="mined negatives are empty"):
        HardNegatives(bare, mined=np.full((len(bare), 2), -1))


def test_every_kind_takes_part_and_is_counted(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    pairs = SearchPairs([shop])
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, 8)).astype(np.float32) for n in (len(pairs), len(pairs.products))]
    mine(
        *(v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors),
        pairs,
        tmp_path / "mined.parquet",
        guard=2.0,
    )
    config = replace(CONFIG, category_hard=1, mined=str(tmp_path / "mined.parquet"), memory_warmup=2)
    stage = Posttrain([shop], encoder, config, 0)
    batch = stage.prepare(0)
    assert [int(k.sum()) > 0 for k in batch.kinds.values()] == [True] * 3
    assert sum(k.int() for k in batch.kinds.values()).tolist() == [1] * len(batch.product_numbers)
    assert len(set(batch.product_numbers.tolist())) == len(batch.product_numbers)
    assert batch.products.size == len(batch.product_numbers)
    posttrain(shop, encoder, tmp_path / "work", config)
    steps = [r for r in read_log(tmp_path / "work") if r["kind"] == "train"]
    for record in steps:
        kinds = [record[f"negatives_{k}"] for k in ("in_batch", "category", "mined", "memory")]
        assert record["negatives"] == pytest.approx(sum(kinds), abs=1e-4)
        assert record["negatives_category"] + record["negatives_mined"] > 0
    assert [r["negatives_memory"] > 0 for r in steps] == [False, False, True]
    assert steps[2]["memory_age"] >= 1
