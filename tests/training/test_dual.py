"""Three views at once: the weights of objectives, balance and sparsity, doubt, and the stage as a whole."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.evaluation.metrics import auc
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import DualConfig, LoopConfig, OptimConfig, PosttrainConfig
from moonshelf.training.doubt import confidence, logged, weights_of
from moonshelf.training.dual import DualPosttrain
from moonshelf.training.loop import train
from moonshelf.training.losses import Relation
from moonshelf.training.objectives import OBJECTIVES, objective_weights, routing_losses
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import posttrain
from moonshelf.training.prior import prior_vectors
from moonshelf.training.runlog import read_log

CONFIG = PosttrainConfig(
    batch=10,
    view_size=64,
    align="dual",
    own_queries=True,
    query_weight=0.0,
    dual=DualConfig(filter=True, weights="learned"),
    loop=LoopConfig(epochs=1.0, max_steps=6, checkpoint_steps=2, evaluate_every=10),
    optim=OptimConfig(trunk_lr=1e-4, head_lr=1e-3),
    memory=8,
)


def test_objective_weights_equal_their_formula() -> None:
    torch.manual_seed(0)
    mixing = torch.randn(3, len(OBJECTIVES), dtype=torch.float64, requires_grad=True)
    routed = {name: torch.rand(4, 3, dtype=torch.float64).softmax(1) for name in OBJECTIVES[:4]}
    found = objective_weights(routed, mixing, "learned")
    assert [*found] == [*OBJECTIVES[:4]]
    for m, name in enumerate(OBJECTIVES[:4]):
        p = [F.softmax(mixing[z], dim=0)[m] for z in range(3)]
        want = sum(sum(p[z] * routed[name][b, z] for z in range(3)) for b in range(4)) / 4
        assert found[name].item() == pytest.approx(want.item() * len(OBJECTIVES))  # type: ignore[union-attr]
    assert found["text>joint"].requires_grad
    stopped = objective_weights(routed, mixing, "learned-stopgrad")
    assert all(stopped[k].item() == found[k].item() and not stopped[k].requires_grad for k in found)
    assert {float(w) for w in objective_weights(routed, mixing, "fixed").values()} == {1.0}
    even = objective_weights(routed, torch.zeros(3, len(OBJECTIVES), dtype=torch.float64), "learned")
    assert all(float(w) == pytest.approx(1.0) for w in even.values())


def test_routing_losses_are_least_when_even_and_single_minded() -> None:
    rows, z = 6, 4
    there = torch.ones(rows, 3, dtype=torch.bool)
    even = torch.full((rows, 3, z), 1 / z)
    one = torch.zeros(rows, 3, z)
    one[..., 0] = 1
    mixing = torch.zeros(z, len(OBJECTIVES))
    balanced, values = routing_losses(even, even, there, mixing, balance=1.0, sparsity=0.0)
    crowded, _ = routing_losses(one, one, there, mixing, balance=1.0, sparsity=0.0)
    assert float(balanced) == pytest.approx(1.0) and float(crowded) == pytest.approx(z)
    assert values["sparsity"] == pytest.approx(math.log(len(OBJECTIVES)), rel=1e-6)
    assert values["route_image_2"] == pytest.approx(1 / z)
    sharp = torch.zeros(z, len(OBJECTIVES))
    sharp[:, 1] = 20
    pointed, _ = routing_losses(even, even, there, sharp, balance=0.0, sparsity=1.0)
    assert float(pointed) < 1e-5
    there[:, 1] = False  # what is not there has no say
    one[:, 1] = torch.nan
    found, values = routing_losses(one, one, there, mixing, balance=1.0, sparsity=0.0)
    assert float(found) == pytest.approx(z) and "route_image_0" not in values


def test_doubt_equals_its_formula() -> None:
    torch.manual_seed(1)
    q, p = torch.randn(5, 6), torch.randn(7, 6)
    positive = torch.zeros(5, 7, dtype=torch.bool)
    positive[0, 1] = positive[1, 2] = positive[1, 3] = positive[2, 0] = positive[3, 5] = True
    negative = ~positive
    negative[2, 4] = False
    phi = confidence(q, p, Relation.from_masks(positive, negative), 8.0, 0.1)
    s = F.cosine_similarity(q[:, None], p[None], dim=-1)
    for i in range(4):
        gap = s[i][positive[i]].max() - s[i][negative[i]].mean() - 0.1
        assert float(phi[i]) == pytest.approx(float(torch.sigmoid(8 * gap)), rel=1e-4)
    assert float(phi[4]) == 0  # nothing is right for it
    weights = weights_of(torch.tensor([0.1, 0.59, 0.6, 1.0]), 0.6)
    assert weights.tolist() == pytest.approx([0.1, 0.59, 1.0, 1.0])
    values = logged(torch.tensor([0.1, 0.59, 0.6, 1.0]), weights)
    assert values["doubted"] == 0.5 and sum(values[f"phi_{k}"] for k in range(10)) == 4
    assert values["phi_9"] == 1 and values["phi_5"] == 1


def test_every_batch_trains_all_directions(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    experts = encoder.upcycled(3, 2)
    result = posttrain(shop, experts, tmp_path, replace(CONFIG, loop=replace(CONFIG.loop, max_steps=12)))
    steps = [r for r in read_log(tmp_path) if r["kind"] == "train"]
    assert result.steps == len(steps) == 12
    for record in steps:
        assert {f"loss_{name}" for name in OBJECTIVES} <= record.keys()
        assert all(np.isfinite(record[f"weight_{name}"]) for name in OBJECTIVES)
        assert sum(record[f"phi_{k}"] for k in range(10)) == CONFIG.batch
        for view in ("text", "image", "joint"):
            assert sum(record[f"route_{view}_{z}"] for z in range(3)) == pytest.approx(1, abs=1e-4)
    assert sum(r["loss"] for r in steps[-4:]) < 0.9 * sum(r["loss"] for r in steps[:4])


def test_corrupted_pairs_end_with_less_weight(
    shop_with: Callable[..., Path], shop_folder: Path, encoder: CompactEncoder, tmp_path: Path
) -> None:
    """Ten of 48 photo searches led to a product that the photo does not show."""
    searches = pl.read_parquet(shop_folder / "searches.parquet").with_row_index("row")
    train = searches.filter((pl.col("split") == "train") & pl.col("query_image_id").is_not_null())[
        "row"
    ].to_list()
    wrong = set(train[::5])
    searches = searches.with_columns(
        product_id=pl.when(pl.col("row").is_in(list(wrong)))
        .then(((pl.col("product_id").cast(pl.Int64) + 5) % 12).cast(pl.String))
        .otherwise("product_id")
    ).drop("row")
    raw = shop_with(searches=searches)
    shop = open_shop(raw, cache=raw.parent / "read")
    config = replace(
        CONFIG,
        batch=24,
        dual=DualConfig(filter=True),
        loop=replace(CONFIG.loop, max_steps=30, checkpoint_steps=100),
    )
    posttrain(shop, encoder, tmp_path / "out", config)
    pairs = SearchPairs([shop])
    queries, products = (torch.from_numpy(x) for x in prior_vectors(pairs, encoder, tmp_path / "vectors"))
    asked = torch.from_numpy(pairs.product_of)
    led = Relation.from_ids(asked, torch.arange(12), pairs.groups[asked], pairs.groups)
    phi = confidence(queries, products, led, config.dual.filter_kappa, 0.0).numpy()
    by_photo = np.array([photo is not None for _, photo, _ in pairs.queries])
    asked_for = zip(pairs.queries, pairs.product_of, strict=True)
    right = np.array([photo is None or photo.split("-")[0] == f"q{p}" for (_, photo, _), p in asked_for])
    assert (~right).sum() == 10
    found = auc(phi[by_photo], right[by_photo])
    assert found.value > 0.8, found
    weights = weights_of(torch.from_numpy(phi), 0.6).numpy()
    assert weights[right].mean() > weights[~right].mean()


def test_without_experts_the_weights_must_be_fixed(shop: Shop, encoder: CompactEncoder) -> None:
    with pytest.raises(InputError, match="takes them from the experts"):
        DualPosttrain([shop], encoder, CONFIG, 0)
    plain = DualPosttrain([shop], encoder, replace(CONFIG, dual=DualConfig()), 0)
    loss, values = plain.loss(encoder, plain.prepare(0), 0)
    assert torch.isfinite(loss) and "balance" not in values and "doubted" not in values


def test_the_loss_is_the_sum_of_what_is_logged(shop: Shop, encoder: CompactEncoder) -> None:
    stage = DualPosttrain([shop], encoder.upcycled(3, 2), CONFIG, 0)
    model = encoder.upcycled(3, 2)
    loss, v = stage.loss(model, stage.prepare(0), 0)
    want = sum(v[f"weight_{m}"] * v[f"loss_{m}"] for m in OBJECTIVES)
    want += CONFIG.dual.balance * v["balance"] + CONFIG.dual.sparsity * v["sparsity"]
    assert float(loss.detach()) == pytest.approx(want, rel=1e-5)


def test_a_view_that_nobody_has_takes_no_part(
    shop_with: Callable[..., Path], encoder: CompactEncoder
) -> None:
    """Photo searches alone: no text view of a query, no joint one; inside products both directions stay."""
    raw = shop_with()
    searches = pl.read_parquet(raw / "searches.parquet").filter(pl.col("query_image_id").is_not_null())
    searches.write_parquet(raw / "searches.parquet")
    shop = open_shop(raw, cache=raw.parent / "read")
    config = replace(CONFIG, own_queries=False, dual=DualConfig(), modality_dropout=0.0)
    stage = DualPosttrain([shop], encoder, config, 0)
    _, values = stage.loss(encoder, stage.prepare(0), 0)
    logged_terms = {name.removeprefix("loss_") for name in values if name.startswith("loss_")}
    assert logged_terms == {"image>joint", "image>text", "text>image"}


def test_products_of_one_text_do_not_repel_inside(
    shop_with: Callable[..., Path], encoder: CompactEncoder
) -> None:
    raw = shop_with()
    products = pl.read_parquet(raw / "products.parquet").with_columns(
        title=pl.lit("the same"), category=pl.lit("A"), attributes=pl.lit("{}")
    )
    products.write_parquet(raw / "products.parquet")
    shop = open_shop(raw, cache=raw.parent / "read")
    stage = DualPosttrain([shop], encoder, replace(CONFIG, dual=DualConfig(), modality_dropout=0.0), 0)
    _, values = stage.loss(encoder, stage.prepare(0), 0)
    assert values["loss_image>text"] == 0 == values["loss_text>image"]


def test_a_stopped_run_ends_with_the_same_bytes(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    """Cut by an error in the middle and taken up again: temperatures, mixing matrix and memory come back."""
    start = encoder.upcycled(3, 2)

    def run(folder: Path, stop: int | None) -> tuple[CompactEncoder, torch.Tensor]:
        model = start.upcycled(3, 2) if not start.config.experts else _copy(start)
        stage = DualPosttrain([shop], model, CONFIG, 0)
        if stop is not None:
            plain, calls = stage.loss, itertools.count()

            def loss(*args):  # type: ignore[no-untyped-def]
                if next(calls) == stop:
                    raise KeyboardInterrupt
                return plain(*args)

            stage.loss = loss  # type: ignore[method-assign]
        train(model, stage, folder)
        return model, stage.mixing.detach()

    whole, mixing = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 3)
    again, again_mixing = run(tmp_path / "cut", None)
    assert torch.equal(mixing, again_mixing) and whole.version == again.version


def _copy(encoder: CompactEncoder) -> CompactEncoder:
    new = CompactEncoder(encoder.config)
    new.load_state_dict(encoder.state_dict())
    return new.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
