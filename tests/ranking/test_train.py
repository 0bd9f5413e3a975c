"""Training of click models on made rows whose truth is known: what is learned, resuming, stopping, bad rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking import train as training
from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.features import Features
from moonshelf.ranking.history import History
from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, Sizes
from moonshelf.ranking.rows import Rows, split_by_time
from moonshelf.ranking.train import ClickTrainConfig, score, train_clicks, validate

PRODUCTS, USERS, DIM = 120, 60, 8


class Vectors:
    """Content of products: unit rows that do not change."""

    dim, version = DIM, "made"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def fetch(self, what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = (what >= 0) & (what < len(self.rows))
        found = np.where(there[:, None], self.rows[np.where(there, what, 0)], 0).astype(np.float32)
        return found, there


@pytest.fixture(scope="module")
def world() -> tuple[History, Rows, Vectors]:
    """Users click what lies near their own taste in content space; 24 acts of a past each, then 60 shown products.

    A third of the products are shown in the last fifth of the time alone: no id of theirs can be learned.
    """
    rng = np.random.default_rng(0)
    content = rng.normal(size=(PRODUCTS, DIM))
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    taste = content[rng.integers(0, PRODUCTS, USERS)]
    liking = taste @ content.T
    past = np.stack([rng.choice(PRODUCTS, 24, p=np.exp(4 * v) / np.exp(4 * v).sum()) for v in liking])
    history = History(
        tuple(map(str, range(PRODUCTS))), (), tuple(map(str, range(USERS))), past.ravel().astype(np.int32),
        np.tile(np.arange(24), USERS).astype(np.int64), np.zeros(24 * USERS, np.uint8), np.arange(USERS + 1) * 24,
    )  # fmt: skip
    n = 60 * USERS
    user = np.repeat(np.arange(USERS), 60).astype(np.int32)
    time = np.tile(np.arange(60), USERS) + 100
    late = time >= 148
    item = np.where(late, rng.integers(0, PRODUCTS, n), rng.integers(0, 2 * PRODUCTS // 3, n)).astype(
        np.int32
    )
    click = rng.random(n) < 1 / (1 + np.exp(1.5 - 5 * liking[user, item]))
    label = np.stack([click, np.zeros(n, bool), click & (rng.random(n) < 0.5)], axis=1)
    none = np.full(n, -1, dtype=np.int32)
    rows = Rows(
        user, item, none, time.astype(np.int64), history.until(user, time), label, np.zeros(n, np.int16),
        np.full(n, np.nan, np.float32), (user.astype(np.int64) * 1000 + time // 6), np.ones(n, np.float32),
    )  # fmt: skip
    return history, rows, Vectors(content)


Make = Callable[..., tuple[ClickModel, dict[str, ClickBatches]]]


@pytest.fixture
def make(world: tuple[History, Rows, Vectors]) -> Make:
    def build(interest: str, *, seed: int = 0, **options: Any) -> tuple[ClickModel, dict[str, ClickBatches]]:
        history, rows, content = world
        bare = interest in ("none", "din") and options.get("mode", "both") == "id"
        parts = {
            name: ClickBatches(part, history, Features((), ()), None if bare else content, longest=24)  # type: ignore[arg-type]
            for name, part in split_by_time(rows).items()
        }
        config = ClickConfig(interest=interest, width=8, hidden=(32, 16), longest=24, **options)  # type: ignore[arg-type]
        return ClickModel(config, Sizes(PRODUCTS, USERS, dim=0 if bare else DIM), seed), dict(parts)

    return build


CONFIG = ClickTrainConfig(batch=128, epochs=6, rate=5e-3, table_rate=5e-3, patience=0)


def test_content_tells_what_ids_cannot(make: Make, tmp_path: Path) -> None:
    found = {}
    for name, mode in (("none", "id"), ("cube", "both")):
        model, parts = make(name, mode=mode)
        result = train_clicks(model, parts["train"], parts["val"], CONFIG, tmp_path / name)
        found[name] = validate(model, parts["test"])["gauc"]
        assert result.steps == 6 * -(-len(parts["train"]) // 128) and len(result.history) == 6
        assert result.best["gauc"] == max(h["gauc"] for h in result.history)
    assert found["cube"] > 0.7 and found["cube"] > found["none"] + 0.1


def test_scores_come_in_the_order_of_rows(make: Make, tmp_path: Path) -> None:
    model, parts = make("din")
    one, other = score(model, parts["val"], size=7), score(model, parts["val"], size=1000)
    assert one.shape == (len(parts["val"]), 1) and np.allclose(one, other, atol=1e-5)
    assert (one > 0).all() and (one < 1).all() and model.training  # as it was


def test_a_stopped_run_ends_with_the_same_bytes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, epochs=2, checkpoint_seconds=0.0)
    model, parts = make("cube", dropout=0.1)
    whole = train_clicks(model, parts["train"], parts["val"], config, tmp_path / "whole")
    for stop in (3, 25):
        plain, calls = training._step, iter(range(stop))

        def until(*given: Any, plain: Any = plain, calls: Any = calls) -> float:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return plain(*given)  # type: ignore[no-any-return]

        folder = tmp_path / f"stopped{stop}"
        monkeypatch.setattr(training, "_step", until)
        twin, parts = make("cube", dropout=0.1)
        with pytest.raises(KeyboardInterrupt):
            train_clicks(twin, parts["train"], parts["val"], config, folder)
        monkeypatch.setattr(training, "_step", plain)
        again, parts = make("cube", seed=9, dropout=0.1)  # whatever it starts as, the checkpoint counts
        again.load_state_dict(make("cube", dropout=0.1)[0].state_dict())
        result = train_clicks(again, parts["train"], parts["val"], config, folder)
        assert result.history == whole.history and result.steps == whole.steps
        for name, value in model.state_dict().items():
            assert torch.equal(value, again.state_dict()[name]), name
    with pytest.raises(InputError, match="other settings or data"):
        train_clicks(again, parts["train"], parts["val"], config, folder, mark="other")


def test_it_stops_when_val_gets_no_better(make: Make, tmp_path: Path) -> None:
    model, parts = make("din", mode="id")
    config = replace(CONFIG, epochs=30, patience=2, rate=0.02, table_rate=0.02)
    result = train_clicks(model, parts["train"], parts["val"], config, tmp_path)
    assert result.stopped_early and len(result.history) < 30
    assert validate(model, parts["val"])["gauc"] == pytest.approx(result.best["gauc"])
    again = train_clicks(model, parts["train"], parts["val"], config, tmp_path)  # done: nothing more happens
    assert again.steps == result.steps and again.history == result.history


def test_several_labels_and_bf16(make: Make, tmp_path: Path) -> None:
    model, parts = make("muse", labels=("click", "purchase"), cross=1)
    config = replace(CONFIG, epochs=1, precision="bf16")
    train_clicks(model, parts["train"], parts["val"], config, tmp_path)
    assert score(model, parts["val"]).shape == (len(parts["val"]), 2)


def test_rows_of_one_label_teach_nothing(make: Make, tmp_path: Path) -> None:
    model, parts = make("none", labels=("cart",))
    with pytest.raises(TooLittleData, match="have the same label cart"):
        train_clicks(model, parts["train"], parts["val"], CONFIG, tmp_path)


def test_a_loss_that_is_no_number_is_said(make: Make, tmp_path: Path) -> None:
    model, parts = make("none")
    with torch.no_grad():
        model.heads.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="the loss is nan at step 0"):
        train_clicks(model, parts["train"], parts["val"], CONFIG, tmp_path)
