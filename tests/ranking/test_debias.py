"""The debiasing network: who is contrasted with whom, the loss by hand, and what a training run does to the vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moonshelf.errors import InputError, TooLittleData
from moonshelf.evaluation.leakage import head_tail_distance, popularity_leakage
from moonshelf.ranking import train as training
from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.debias import (
    Contrast,
    DebiasConfig,
    Direction,
    Partners,
    categories,
    choose_partners,
    debias_loss,
    draw_pairs,
    find_ends,
    impressions,
)
from moonshelf.ranking.features import Column, Features
from moonshelf.ranking.history import History
from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, Sizes
from moonshelf.ranking.rows import Rows
from moonshelf.ranking.train import ClickTrainConfig, train_clicks

PRODUCTS, USERS, DIM = 240, 40, 12


class Vectors:
    """Content of products: unit rows that do not change."""

    dim, version = DIM, "made"

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def has(self, what: np.ndarray) -> np.ndarray:
        return np.asarray((what >= 0) & (what < len(self.rows)))

    def fetch(self, what: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = self.has(what)
        return np.where(there[:, None], self.rows[np.where(there, what, 0)], 0).astype(np.float32), there


def world() -> tuple[ClickBatches, np.ndarray, np.ndarray]:
    """Products whose vectors tell how often they are shown, in two categories; clicks follow taste."""
    rng = np.random.default_rng(0)
    fame = rng.normal(size=PRODUCTS)
    content = rng.normal(size=(PRODUCTS, DIM))
    content[:, 0] = 2.0 * fame
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    n = 6000
    share = np.exp(1.5 * fame)
    item = rng.choice(PRODUCTS, n, p=share / share.sum()).astype(np.int32)
    user = rng.integers(0, USERS, n).astype(np.int32)
    taste = rng.normal(size=(USERS, DIM))
    taste[:, 0] = 0
    click = rng.random(n) < 1 / (1 + np.exp(1 - 2 * (taste[user] * content[item]).sum(1)))
    history = History(
        tuple(map(str, range(PRODUCTS))), (), tuple(map(str, range(USERS))), item[:0],
        np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(USERS + 1, np.int64),
    )  # fmt: skip
    time = np.arange(n, dtype=np.int64)
    rows = Rows(
        user, item, np.full(n, -1, np.int32), time, np.zeros(n, np.int64),
        np.stack([click, click & False, click & False], 1), np.zeros(n, np.int16), np.full(n, np.nan, np.float32),
        time // 10, np.ones(n, np.float32),
    )  # fmt: skip
    group = (np.arange(PRODUCTS) % 2 + 1).astype(np.int32)
    features = Features((Column("item.category1", 3, group),), ())
    return ClickBatches(rows, history, features, Vectors(content), longest=4), content, group  # type: ignore[arg-type]


def model_of(seed: int = 0, **options: Any) -> ClickModel:
    config = ClickConfig(
        interest="none", mode="content", width=8, hidden=(16, 8), longest=4, debias=32, **options
    )
    return ClickModel(config, Sizes(PRODUCTS, USERS, (3,), dim=DIM, products=PRODUCTS), seed)


def test_ends_are_the_often_and_the_seldom_shown_of_a_category() -> None:
    shown = np.array([9, 0, 5, 1, 7, 7, 7, 3])
    group = np.array([1, 1, 1, 1, 2, 2, 2, 3])
    there = np.array([True] * 8)
    ends = find_ends(shown, group, there, DebiasConfig(head=0.25, tail=0.5))
    assert ends.head.tolist() == [0] and sorted(ends.tail.tolist()) == [
        1,
        3,
    ]  # of 2 all alike, of 3 one alone
    there[1] = False
    assert 1 not in find_ends(shown, group, there, DebiasConfig(head=0.25, tail=0.5)).tail
    with pytest.raises(TooLittleData, match="no category has products"):
        find_ends(np.ones(8), group, there)


def test_partners_are_the_most_similar_of_the_category() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(80, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    group = rng.integers(0, 3, 80)
    ends = choose_partners(find_ends(rng.integers(0, 50, 80), group, np.ones(80, bool)), lambda at: rows[at])
    for h, p in zip(ends.head, ends.tail[ends.partner], strict=True):
        rivals = [t for t in ends.tail if group[t] == group[h]]
        assert group[p] == group[h] and rows[h] @ rows[p] == pytest.approx(
            max(rows[h] @ rows[t] for t in rivals)
        )
    head, tail, own = draw_pairs(ends, 5, np.random.default_rng(0))
    assert len(set(head.tolist())) == 5 and (group[tail] == own).all()
    assert len(draw_pairs(ends, 10_000, np.random.default_rng(0))[0]) == len(ends.head)
    most = np.bincount(ends.group_head).max()
    led = set()
    for seed in range(40):
        _, _, own = draw_pairs(ends, int(most), np.random.default_rng(seed))
        counts = np.bincount(own, minlength=int(ends.group_head.max()) + 1)
        whole = np.bincount(ends.group_head, minlength=len(counts))
        assert ((counts > 0) & (counts < whole)).sum() <= 1  # all but the last category are there whole
        led.add(int(own[0]))
    assert led == set(ends.group_head.tolist())


@pytest.mark.parametrize("direction", ["pull", "push"])
def test_the_loss_by_hand(direction: Direction) -> None:
    g = torch.Generator().manual_seed(0)
    often, seldom, before = (F.normalize(torch.randn(6, 4, generator=g), dim=1) for _ in range(3))
    partner, group = torch.tensor([7, 8, 7, 3, 4, 3]), torch.tensor([1, 1, 1, 2, 2, 2])
    seldom[2], seldom[5] = seldom[0], seldom[3]  # the same product has the same vector
    config = DebiasConfig(direction=direction, heat=0.2)
    wanted = []
    for i in range(6):
        rivals = {int(partner[j]): float(often[i] @ seldom[j]) for j in range(6) if group[j] == group[i]}
        pulled = float(often[i] @ seldom[i])
        own = float(often[i] @ before[i])
        if direction == "pull":
            wanted.append(np.log(sum(np.exp(s / 0.2) for s in rivals.values())) - pulled / 0.2)
        else:
            whole = np.exp(own / 0.2) + sum(np.exp(s / 0.2) for s in rivals.values())
            wanted.append(np.log(whole) - own / 0.2)
    found = debias_loss(often, seldom, before, partner, group, config)
    assert float(found) == pytest.approx(np.mean(wanted), abs=1e-5)


def test_vectors_tell_less_of_impressions_after_training(tmp_path: Path) -> None:
    train, content, group = world()
    shown = impressions(train.rows, PRODUCTS)
    config = ClickTrainConfig(batch=256, epochs=6, rate=5e-3, patience=0, debias=DebiasConfig(weight=1.0))
    model = model_of()
    assert np.allclose(model.debiased(torch.tensor(content).float()).detach().numpy(), content, atol=1e-6)
    train_clicks(model, train, train, config, tmp_path / "with")
    with torch.no_grad():
        after = model.debiased(torch.from_numpy(content).float()).numpy()
    before_leak, after_leak = popularity_leakage(content, shown), popularity_leakage(after, shown)
    assert before_leak.value > 0.5 and after_leak.high < before_leak.low
    ends = find_ends(shown, group.astype(np.int64), np.ones(PRODUCTS, bool))
    spans = [
        head_tail_distance(v, ends.head, ends.tail, ends.group_head, ends.group_tail)
        for v in (content, after)
    ]
    assert spans[1] < 0.75 * spans[0]


def test_a_stopped_run_with_a_contrast_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _, _ = world()
    config = ClickTrainConfig(batch=512, epochs=2, patience=0, checkpoint_seconds=0.0)
    model = model_of(adapter=8)
    whole = train_clicks(model, train, train, config, tmp_path / "whole")
    plain, calls = (
        training._step,
        iter(range(17)),
    )  # in the middle of the second epoch, after partners changed

    def until(*given: Any) -> float:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return plain(*given)

    monkeypatch.setattr(training, "_step", until)
    twin = model_of(adapter=8)
    with pytest.raises(KeyboardInterrupt):
        train_clicks(twin, train, train, config, tmp_path / "stopped")
    monkeypatch.setattr(training, "_step", plain)
    again = model_of(adapter=8)
    result = train_clicks(again, train, train, config, tmp_path / "stopped")
    assert result.history == whole.history
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_partners_follow_the_vectors_as_they_are(tmp_path: Path) -> None:
    train, _, _ = world()
    contrast = Contrast(train, DebiasConfig(pairs=8))
    model = model_of()
    contrast.refresh(model)
    first: Partners = contrast.ends
    with torch.no_grad():
        assert model.debias is not None
        model.debias.outer.weight.normal_(generator=torch.Generator().manual_seed(0))
    contrast.refresh(model)
    assert (first.partner != contrast.ends.partner).any()
    contrast.load_state(torch.from_numpy(first.partner))
    assert (contrast.ends.partner == first.partner).all()
    before = float(contrast.loss(model, 1).detach())
    assert before == float(contrast.loss(model, 1).detach()) != float(contrast.loss(model, 2).detach())


def test_queries_are_not_moved_and_content_is_needed() -> None:
    train, _, _ = world()
    model = model_of()
    with torch.no_grad():
        assert model.debias is not None
        model.debias.outer.weight.normal_(generator=torch.Generator().manual_seed(0))
        batch = train.make(np.arange(50))
        batch = replace(batch, product=(batch.ids > 0) & (batch.ids <= 100))
        moved = model.moved(batch)
    same = torch.isclose(moved, batch.vectors).all(1)
    assert (same == ~batch.product).all() and not same.all()
    bare = ClickBatches(train.rows, train.history, train.features, None)
    with pytest.raises(InputError, match="needs content vectors"):
        Contrast(bare, DebiasConfig())


def test_categories_are_whole_paths() -> None:
    top, deep = np.array([1, 1, 2, 0]), np.array([1, 2, 0, 0])
    features = Features((Column("item.category1", 3, top), Column("item.category2", 3, deep)), ())
    found = categories(features, 4)
    assert len(set(found.tolist())) == 4 and found[3] == 0 and (found[:3] > 0).all()
    assert categories(Features((), ()), 3).tolist() == [0, 0, 0]


def test_leakage_of_noise_is_nothing_and_of_a_copy_all() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 5))
    shown = np.round(np.exp(2 + noise[:, 2]))
    assert popularity_leakage(noise, shown).value > 0.95
    other = popularity_leakage(rng.normal(size=(600, 5)), shown)
    assert other.low < 0.02 and other.value < 0.02 and other.n == 600
    with pytest.raises(ValueError, match="unequally"):
        popularity_leakage(noise, np.ones(600))
    apart = noise.copy()
    apart[:300, 0] += 10
    halves, one = (np.arange(300), np.arange(300, 600)), np.zeros(300, np.int64)
    assert (
        head_tail_distance(noise, *halves, one, one)
        < 0.15
        < 1.0
        < head_tail_distance(apart, *halves, one, one)
    )
