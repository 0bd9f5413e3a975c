"""Typed pairs: the planned mix in every batch, and what products show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moonshelf import progress
from moonshelf.encoder import CompactEncoder, product_text
from moonshelf.encoder.sentence import tokenizer
from moonshelf.errors import InputError
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import LoopConfig, OptimConfig, PosttrainConfig
from moonshelf.training.posttrain import Posttrain, posttrain
from moonshelf.training.runlog import read_log
from moonshelf.training.typed import TypedSampler, parse_types, planned

CONFIG = PosttrainConfig(
    batch=9,
    view_size=64,
    types=("image>image:1", "image>rich+image:2", "text>rich:1", "text>title+image:0.5"),
    loop=LoopConfig(epochs=1.0, max_steps=2, evaluate_every=10),
    optim=OptimConfig(trunk_lr=1e-5, head_lr=1e-4),
)
ALL = frozenset(("image", "rich"))


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=9), st.integers(9, 300))
def test_the_plan_fills_the_batch_by_weight(weights: list[float], batch: int) -> None:
    counts = planned(np.array(weights), batch)
    assert counts.sum() == batch and (counts >= 1).all()
    exact = 1 + np.array(weights) / sum(weights) * (batch - len(weights))
    assert (np.abs(counts - exact) < 1 + 1e-6).all()


def test_moon_stands_for_table_2() -> None:
    types = parse_types(["moon"])
    assert len(types) == 9 and sum(t.weight for t in types) == pytest.approx(2.6)  # billions of samples
    for wrong in ("text>video", "text>rich:0", "text>rich:many", "rich>text"):
        with pytest.raises(InputError, match="no type of pairs"):
            parse_types([wrong])
    with pytest.raises(InputError, match="twice"):
        parse_types(["text>rich:1", "text>rich:2"])


def test_every_batch_holds_the_mix_and_every_pair_has_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [frozenset(("text",))] * 6 + [frozenset(("image",))] * 10
    types = parse_types(["text>rich:1", "image>image:2", "title+image>title+image:5"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "_quiet", False)
        sampler = TypedSampler(kinds, [ALL] * 16, types, 6, 0)
    assert "title+image>title+image: none in this data" in capsys.readouterr().err
    seen: Counter[int] = Counter()
    for step in range(15):
        rows, chosen = sampler.rows(step)
        shows = [one.show for one in chosen]
        assert Counter(shows) == {"rich": 2, "image": 4}
        assert all((row < 6) == (show == "rich") for row, show in zip(rows.tolist(), shows, strict=True))
        seen.update(rows.tolist())
    assert {seen[i] for i in range(6)} == {5} and {seen[i] for i in range(6, 16)} == {6}
    assert sampler.rows(7)[0].tolist() == TypedSampler(kinds, [ALL] * 16, types, 6, 0).rows(7)[0].tolist()
    with pytest.raises(InputError, match="cannot hold 2 types"):
        TypedSampler(kinds, [ALL] * 16, types, 1, 0)
    with pytest.raises(InputError, match="no pair of any type"):
        TypedSampler(kinds[-3:], [frozenset(("rich",))] * 3, types, 6, 0)  # products without photos


def test_products_show_what_their_type_says(shop: Shop, encoder: CompactEncoder) -> None:
    stage = Posttrain([shop], encoder, replace(CONFIG, category_hard=1), 0)
    batch = stage.prepare(0)
    products, own = batch.products, batch.kinds["in_batch"].tolist()
    looks: dict[bool, set[tuple[bool, str]]] = {True: set(), False: set()}
    for i, number in enumerate(batch.product_numbers.tolist()):
        product = shop.product(stage.pairs.products[number][1])
        shown = tuple(products.ids[i][products.mask[i]].tolist())
        said = {(): "nothing"} | {
            tokenizer().ids(text, encoder.config.max_tokens): name
            for text, name in ((product_text(product), "all"), (product.title, "title"))
        }
        looks[own[i]].add((i in products.owner.tolist(), said[shown]))
    assert looks[True] == {(True, "nothing"), (True, "all"), (True, "title"), (False, "all")}
    assert (
        looks[False] and looks[False] <= looks[True]
    )  # a hard negative is shown as the products of the pairs are


def test_hard_negatives_of_photo_pairs_show_no_text(shop: Shop, encoder: CompactEncoder) -> None:
    stage = Posttrain([shop], encoder, replace(CONFIG, category_hard=1, types=("image>image:1",)), 0)
    batch = stage.prepare(0)
    assert not batch.kinds["in_batch"].all()
    assert not batch.products.mask.any() and batch.products.owner.tolist() == [*range(batch.products.size)]


def test_a_run_with_typed_pairs(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    posttrain(shop, encoder, tmp_path, CONFIG)
    steps = [r for r in read_log(tmp_path) if r["kind"] == "train"]
    assert len(steps) == 2 and all(np.isfinite(r["loss"]) for r in steps)


def with_events(raw: Path, searches: bool = True) -> Shop:
    """The small shop and two users who clicked through it."""
    start = datetime(2024, 1, 1)
    rows = [
        (user, start + timedelta(minutes=m), str((m * step) % 12), "click")
        for user, step in (("u", 1), ("v", 5))
        for m in range(20)
    ]
    pl.DataFrame(rows, schema=["user_id", "time", "product_id", "action"], orient="row").write_parquet(
        raw / "events.parquet"
    )
    if not searches:
        (raw / "searches.parquet").unlink()
    return open_shop(raw, cache=raw.parent / "read")


def test_products_that_ask_for_products(shop_with: Callable[..., Path], encoder: CompactEncoder) -> None:
    shop = with_events(shop_with())
    config = replace(CONFIG, types=("rich+image>rich+image:1", "image>rich+image:1"), batch=8)
    stage = Posttrain([shop], encoder, config, 0)
    pairs = stage.pairs
    asking = np.flatnonzero(pairs.source == "product")
    assert len(asking) > 10 and len(asking) < len(pairs)
    everything = torch.arange(len(pairs.products))
    right, wrong = pairs.masks(asking, everything)
    for i, row in enumerate(asking.tolist()):
        _, image, text = pairs.queries[row]
        asked = next(n for n, (_, p) in enumerate(pairs.products) if shop.product(p).image_ids[0] == image)
        assert text == product_text(shop.product(pairs.products[asked][1]))
        assert not wrong[i, asked] and not right[i, asked] and asked != pairs.product_of[row]
        assert right[i, pairs.product_of[row]]
    assert stage.batches.typed is not None
    rows, types = stage.batches.typed.rows(0)
    assert pairs.source[rows].to_list() == ["product"] * 4 + ["search"] * 4
    assert {one.show for one in types} == {"rich+image"}
    titled = Posttrain([shop], encoder, replace(config, types=("title+image>title+image",)), 0).prepare(0)
    said = {tuple(i[m].tolist()) for i, m in zip(titled.queries.ids, titled.queries.mask, strict=True)}
    titles = {tokenizer().ids(shop.product(str(i)).title, encoder.config.max_tokens) for i in range(12)}
    assert said <= titles and len(said) > 1
    assert set(Posttrain([shop], encoder, CONFIG, 0).pairs.source) == {
        "search"
    }  # no type asks with a product


def test_a_shop_with_events_alone_can_be_posttrained(
    shop_with: Callable[..., Path], encoder: CompactEncoder, tmp_path: Path
) -> None:
    shop = with_events(shop_with(), searches=False)
    posttrain(shop, encoder, tmp_path / "out", replace(CONFIG, types=("rich+image>rich+image",)))
    steps = [r for r in read_log(tmp_path / "out") if r["kind"] == "train"]
    assert len(steps) == 2 and all(r["negatives"] > 0 for r in steps)
    posttrain(shop, encoder, tmp_path / "plain", replace(CONFIG, types=()))  # there is nobody else to ask
    assert len([r for r in read_log(tmp_path / "plain") if r["kind"] == "train"]) == 2


def test_a_product_asks_with_what_it_has(
    shop_with: Callable[..., Path], shop_folder: Path, encoder: CompactEncoder
) -> None:
    """Three products have a photo alone: they ask as image, and show no text."""
    products = pl.read_parquet(shop_folder / "products.parquet")
    bare = pl.col("product_id").is_in(["0", "1", "2"])
    texts = [c for c in ("title", "category", "brand", "attributes", "description") if c in products.columns]
    products = products.with_columns(pl.when(~bare).then(pl.col(c)).alias(c) for c in texts)
    shop = with_events(shop_with(products=products), searches=False)
    config = replace(CONFIG, types=("image>image", "title+image>title+image"), batch=8)
    pairs = Posttrain([shop], encoder, config, 0).pairs
    kinds = {(image is not None, text is not None) for _, image, text in pairs.queries}
    assert kinds == {(True, True), (True, False)} and set(pairs.source) == {"product"}
    stage = Posttrain([shop], encoder, config, 0)
    batch = stage.prepare(0)
    assert (~batch.queries.mask.any(1)).sum() == 4  # half of the batch asks with photos alone
    assert stage.batches.query_view == config.product_view != config.view  # nobody took them by phone


def test_queries_of_searches_look_taken_by_phone(shop: Shop, encoder: CompactEncoder) -> None:
    assert Posttrain([shop], encoder, CONFIG, 0).batches.query_view == CONFIG.view
