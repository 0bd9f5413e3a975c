"""The two stages on a small real shop: they learn, they resume exactly, they say what is missing."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from torch.nn import functional

from moonshelf import progress
from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError, TooLittleData
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import LoopConfig, OptimConfig, PosttrainConfig, PretrainConfig
from moonshelf.training.loop import train
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import Posttrain, posttrain
from moonshelf.training.pretrain import Pretrain, pretrain
from moonshelf.training.runlog import read_log

OPTIM = OptimConfig(trunk_lr=1e-4, head_lr=1e-3)
LOOP = LoopConfig(epochs=1.0, max_steps=6, checkpoint_steps=2, evaluate_every=10)
PRE = PretrainConfig(batch=12, view_size=64, loop=LOOP, optim=OPTIM)
POST = PosttrainConfig(batch=12, view_size=64, loop=LOOP, optim=OPTIM, memory=8)


def weights(encoder: CompactEncoder) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in encoder.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_pretrain_uses_train_photos_only(shop: Shop, encoder: CompactEncoder) -> None:
    stage = Pretrain([shop], encoder, PRE, 0)
    names = {name for _, name in stage.photos}
    assert shop.searches is not None
    held = set(shop.searches.filter(pl.col("split") != "train")["query_image_id"].drop_nulls())
    assert held and not names & held
    assert {f"p{i}" for i in range(12)} <= names
    assert sum(bool(t) for t in stage.texts) == 12
    rows = stage.rows(1)
    assert len(rows) == PRE.batch
    assert sum(bool(stage.texts[r]) for r in rows) == PRE.batch // 2


def test_batches_are_functions_of_seed_and_step(shop: Shop, encoder: CompactEncoder) -> None:
    a, b = Posttrain([shop], encoder, POST, 0), Posttrain([shop], encoder, POST, 0)
    first, again, other = a.prepare(2), b.prepare(2), b.prepare(3)
    assert torch.equal(first.queries.images, again.queries.images)
    assert torch.equal(first.products.ids, again.products.ids)
    assert not torch.equal(first.queries.images[:3], other.queries.images[:3])
    assert set(a.pairs.product_of[first.rows].tolist()) == set(first.product_numbers.tolist())


@pytest.mark.parametrize("name", ["pretrain", "posttrain", "joint", "replay", "bf16"])
def test_stages_learn(name: str, shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    before = weights(encoder)
    loop = replace(LOOP, max_steps=12)
    if name == "pretrain":
        result = pretrain(shop, encoder, tmp_path, replace(PRE, loop=loop))
    else:
        joint = {"self_weight": 0.5, "category_negatives": "same"} if name == "joint" else {}
        if name == "replay":
            joint = {"replay": 0.5, "replay_batch": 4}
        if name == "bf16":
            joint = {"optim": replace(OPTIM, precision="bf16")}
        result = posttrain(shop, encoder, tmp_path, replace(POST, loop=loop, **joint))
    assert result.steps == 12
    losses = [r["loss"] for r in read_log(tmp_path) if r["kind"] == "train"]
    assert len(losses) == 12
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    assert not same(before, weights(encoder))
    record = read_log(tmp_path)[-1]
    assert {"gradient_norm", "rate", "scale"} <= record.keys()
    assert ("self" in record) == (name in ("pretrain", "joint"))
    assert ("replay_alignment" in record) == (name == "replay")


def test_the_best_weights_on_val_are_kept(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])

    def validate(model: CompactEncoder) -> dict[str, float]:
        seen.append(weights(model))
        return {"recall@1": next(scores)}

    stage = Posttrain([shop], encoder, replace(POST, loop=replace(LOOP, max_steps=40, patience=2)), 0)
    stage.steps_per_epoch, stage.loop = 2, replace(stage.loop, evaluate_every=1.0)
    result = train(encoder, stage, tmp_path, validate=validate)
    assert result.stopped_early
    assert result.best["recall@1"] == 0.5
    assert same(weights(encoder), seen[1])


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from pathlib import Path
sys.path.insert(0, {tests!r})
from training.test_stages import LOOP, POST, replace
from moonshelf.encoder import CompactConfig, CompactEncoder, save_encoder
from moonshelf.shop.shop import open_shop
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import posttrain
shop = open_shop({shop!r}, cache=Path({cache!r}))
encoder = CompactEncoder.untrained(CompactConfig(image_size=64))
config = replace(POST, loop=replace(LOOP, max_steps=8, checkpoint_steps=3))
posttrain(shop, encoder, Path({out!r}), config, seed=5)
save_encoder(encoder, Path({out!r}))
"""


@pytest.mark.parametrize("stop_at", [4])
def test_a_killed_run_ends_with_the_same_bytes(stop_at: int, shop_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "shop"
    open_shop(shop_folder, cache=cache)

    def start(out: Path) -> subprocess.Popen[bytes]:
        out.mkdir(exist_ok=True)
        tests = str(Path(__file__).parents[1])
        code = SCRIPT.format(tests=tests, shop=str(shop_folder), cache=str(cache), out=str(out))
        env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE)

    def steps(out: Path) -> int:
        return max((r["step"] for r in read_log(out)), default=0)

    plain, killed = tmp_path / "plain", tmp_path / "killed"
    reference, victim = start(plain), start(killed)
    deadline = time.monotonic() + 120
    while steps(killed) < stop_at and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert steps(killed) < 8, "it ended before it could be killed"
    again = start(killed)
    for process in (reference, again):
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err.decode()[-2000:]
    for name in ("model.safetensors", "encoder.json"):
        assert (plain / name).read_bytes() == (killed / name).read_bytes()
    assert [r["loss"] for r in read_log(plain)] == [r["loss"] for r in read_log(killed)]


def test_a_tower_with_dropout_resumes_to_the_same_bytes(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    def trained(folder: Path, stop_at: int) -> dict[str, torch.Tensor]:
        for stop in (stop_at, 0):
            model = copy.deepcopy(encoder)
            model.register_forward_hook(lambda m, _, out: functional.dropout(out, 0.3, m.training))
            stage = Posttrain([shop], model, replace(POST, chunk=5), 0)
            inner = stage.loss

            def loss(*args: Any, stop: int = stop, inner: Any = inner) -> Any:
                if stop and args[2] == stop:
                    raise KeyboardInterrupt
                return inner(*args)

            stage.loss = loss  # type: ignore[method-assign]
            torch.manual_seed(stop)  # the random state of the process says nothing
            with contextlib.suppress(KeyboardInterrupt):
                train(model, stage, folder)
        return weights(model)

    whole, resumed = trained(tmp_path / "a", 0), trained(tmp_path / "b", 3)
    assert same(whole, resumed)


def test_a_number_that_is_not_finite_stops_the_run_where_it_comes_from(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    def spoiled(_: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(len(out))[:, None] == 2, float("nan"), out)

    for config, match in (
        (POST, "posttrain: .* 1 of .* queries at step 0.* row 2"),
        (PRE, "pretrain: .* photos"),
    ):
        model = copy.deepcopy(encoder)
        model.register_forward_hook(spoiled)
        learn: Any = posttrain if isinstance(config, PosttrainConfig) else pretrain
        with pytest.raises(InputError, match=match):
            learn(shop, model, tmp_path / type(config).__name__, config)


@pytest.mark.parametrize("tower", ["duplicates", "one product"])
def test_photos_of_one_thing_are_nothing_to_pretrain_on(
    tower: str, shop_folder: Path, tmp_path: Path, shop_with: Callable[..., Path], encoder: CompactEncoder
) -> None:
    images = pl.read_parquet(shop_folder / "images.parquet").head(8)
    products = pl.read_parquet(shop_folder / "products.parquet").head(1 if tower == "one product" else 8)
    if tower == "duplicates":
        images = images.with_columns(bytes=pl.lit(images["bytes"][0]))
    else:
        products = products.with_columns(image_ids=pl.lit(images["image_id"]).implode())
    raw = shop_with(images=images, products=products, searches=None)
    with pytest.raises(TooLittleData, match="one product or one picture"):
        pretrain(open_shop(raw, cache=tmp_path / "c"), encoder, tmp_path / "w", PRE)


def test_a_memory_larger_than_the_shop_is_said(
    shop: Shop, encoder: CompactEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "_quiet", False)
        stage = Posttrain([shop], encoder, replace(POST, memory=99), 0)
    assert len(stage.memory.products) == 12
    assert "memory for 12 products, all that there are (99 asked for)" in capsys.readouterr().err


def test_nothing_to_learn_from_is_said(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    frame = pl.DataFrame({"product_id": ["a", "b"], "title": ["x", "y"]})
    (tmp_path / "raw").mkdir()
    frame.write_parquet(tmp_path / "raw" / "products.parquet")
    empty = open_shop(tmp_path / "raw", cache=tmp_path / "prepared")
    with pytest.raises(InputError, match="only 0 good photos"):
        pretrain(empty, encoder, tmp_path / "w", PRE)
    with pytest.raises(InputError, match="only 0 searches"):
        posttrain(empty, encoder, tmp_path / "w", POST)


def test_a_log_cut_by_a_crash_is_read(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "kind": "train"}) + '\n{"step": 2, "ki')
    assert [r["step"] for r in read_log(tmp_path)] == [1]


def test_copies_of_test_photos_never_train(
    shop_folder: Path, shop_with: Callable[..., Path], encoder: CompactEncoder, tmp_path: Path
) -> None:
    """The same bytes under another name, in the shop and in an extra shop; and products without anything."""
    other = tmp_path / "other"
    other.mkdir()
    images = pl.read_parquet(shop_folder / "images.parquet")
    held = images.filter(pl.col("image_id") == "q0-0")
    twin = held.with_columns(pl.lit("twin").alias("image_id"))
    searches = pl.read_parquet(shop_folder / "searches.parquet")
    row = searches.filter(pl.col("query_id") == "q0-2")
    leak = row.with_columns(pl.lit("leak").alias("query_id"), pl.lit("twin").alias("query_image_id"))
    raw = shop_with(images=pl.concat((images, twin)), searches=pl.concat((searches, leak)))
    pl.concat((twin, images.filter(pl.col("image_id") == "q1-3"))).write_parquet(other / "images.parquet")
    ours = open_shop(raw, cache=tmp_path / "a")
    lent = open_shop(other, cache=tmp_path / "b", require_products=False)
    stage = Pretrain([ours, lent], encoder, PRE, 0)
    assert not {"q0-0", "twin"} & {name for _, name in stage.photos}
    assert (1, "q1-3") in stage.photos
    assert "twin" not in {image for _, image, _ in SearchPairs([ours]).queries}


def test_replay_draws_on_shops_without_searches_and_survives_a_restart(
    shop: Shop, encoder: CompactEncoder, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    lent = open_shop(shop_with(searches=None), cache=tmp_path / "prepared")
    settings = replace(POST, replay=0.5, replay_batch=8)
    stage = Posttrain([shop, lent], encoder, settings, 0)
    assert stage.replay is not None
    assert {number for number, _ in stage.replay.photos} == {0, 1}
    assert {number for number, _ in stage.pairs.products} == {0}  # it lends photos, no negatives
    with torch.no_grad():
        for parameter in stage.parameters():
            parameter.add_(0.5)
    again = Posttrain([shop, lent], encoder, settings, 0)
    again.load_state(stage.state())
    assert [p.item() for p in again.parameters()] == [p.item() for p in stage.parameters()]


def test_the_last_steps_see_larger_views(shop: Shop, encoder: CompactEncoder) -> None:
    settings = replace(POST, final_view_size=96, final_share=0.5)
    stage = Posttrain([shop], encoder, settings, 0)  # six steps
    assert [stage.view_size(step) for step in range(6)] == [64] * 3 + [96] * 3
    for step, side in ((2, 64), (3, 96)):
        batch = stage.prepare(step)
        assert batch.queries.images.shape[-1] == batch.products.images.shape[-1] == side


def test_the_running_mean_is_validated_and_kept(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    raw: list[dict[str, torch.Tensor]] = []

    class Recorder(Posttrain):
        def loss(self, model, batch, step):  # the weights before each step
            raw.append(weights(model))
            return super().loss(model, batch, step)

    start = weights(encoder)
    stage = Recorder([shop], encoder, replace(POST, loop=replace(LOOP, max_steps=4)), 0)
    train(encoder, stage, tmp_path)
    mean = start["grid_project.weight"].clone()
    for step in range(3):  # the last step's weights are seen through the result alone
        mean += (1 - (1 + step) / (10 + step)) * (raw[step + 1]["grid_project.weight"] - mean)
    kept = encoder.state_dict()["grid_project.weight"]
    last = mean + (kept - mean) / (1 - 4 / 13)  # solved for the weights after step 4
    assert not torch.allclose(kept, raw[3]["grid_project.weight"], atol=1e-6)
    moved = (last - raw[3]["grid_project.weight"]).abs().max()
    assert 0 < moved < 3 * OPTIM.head_lr  # one step of Adam from the weights before it
