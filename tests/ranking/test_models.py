"""Interest models against their formulas, written out; the click model as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.errors import InputError
from moonshelf.ranking.batches import ClickBatch
from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, Sizes
from moonshelf.ranking.models.cube import BRANCHES, Cube, CubeConfig
from moonshelf.ranking.models.din import Din, MeanPast, TargetAttention
from moonshelf.ranking.models.muse import TIERS, Muse, SimilarityAttention, SimTier
from moonshelf.ranking.models.parts import Interest, Seen
from moonshelf.ranking.models.sim import Sim

V, C, B, L, K, D = 12, 3, 7, 6, 8, 5


def batch(seed: int = 0, dim: int = D) -> ClickBatch:
    """Places 1 to 9 are products, 10 and 11 queries; 9 has no vector; context 2 has no past."""
    g = torch.Generator().manual_seed(seed)
    there = torch.tensor([[1, 1, 1, 0, 0, 0], [1] * 6, [0] * 6]).bool()
    vectors = F.normalize(torch.randn(V, dim, generator=g), dim=1) if dim else torch.zeros(V, 0)
    vectors[[0, 9]] = 0
    columns = torch.randint(1, 3, (V, 1), generator=g)
    columns[[0, 10, 11]] = 0
    return ClickBatch(
        ids=torch.arange(V), vectors=vectors, there=vectors.ne(0).any(1), item_columns=columns,
        product=(torch.arange(V) > 0) & (torch.arange(V) < 10),
        target=torch.randint(1, 10, (B,), generator=g), asked=torch.tensor([10, 0, 11, 0, 10, 11, 0]),
        context=torch.tensor([0, 0, 1, 1, 1, 2, 2]), row_columns=torch.randint(0, 4, (B, 2), generator=g),
        position=torch.zeros(B, dtype=torch.int64),
        past=torch.randint(1, V, (C, L), generator=g) * there,
        past_there=there, user=torch.tensor([1, 2, 0]), user_columns=torch.tensor([[1], [0], [2]]),
        label=torch.rand(B, 3, generator=g).round(), weight=torch.ones(B),
    )  # fmt: skip


def seen(seed: int = 0) -> Seen:
    own = batch(seed)
    return Seen(torch.randn(V, K, generator=torch.Generator().manual_seed(seed + 1)), own.vectors, own)


def past_of(s: Seen, b: int) -> list[int]:
    c = int(s.batch.context[b])
    return s.batch.past[c][s.batch.past_there[c]].tolist()


def cosine(s: Seen, i: int, j: int) -> float | None:
    if not (s.batch.there[i] and s.batch.there[j]):
        return None
    return float(s.content[i] @ s.content[j])


def din_by_hand(din: Din, s: Seen, b: int, entries: list[int]) -> list[float]:
    """The network on [q, k, q - k, q * k]."""
    q = s.target[b]
    out = []
    for entry in entries:
        k = s.every[entry]
        out.append(float(din.rest(din.first(torch.cat((q, k, q - k, q * k))))))
    return out


@pytest.mark.parametrize("softmax", [False, True])
@torch.no_grad()
def test_din_equals_its_formula(softmax: bool) -> None:
    torch.manual_seed(0)
    s, din = seen(), Din(K, (16, 8), softmax=softmax)
    found = din(s)
    for b in range(B):
        entries = past_of(s, b)
        weights = torch.tensor(din_by_hand(din, s, b, entries))
        weights = weights.softmax(0) if softmax and len(entries) else weights
        want = sum((w * s.every[e] for w, e in zip(weights, entries, strict=True)), torch.zeros(K))
        torch.testing.assert_close(found[b], want, rtol=1e-4, atol=1e-5)


def test_the_mean_is_the_mean() -> None:
    s = seen()
    found = MeanPast(K)(s)
    for b in range(B):
        entries = past_of(s, b)
        want = s.every[entries].mean(0) if entries else torch.zeros(K)
        torch.testing.assert_close(found[b], want)


@torch.no_grad()
def test_target_attention_equals_attention_head_by_head() -> None:
    torch.manual_seed(0)
    s, model = seen(), TargetAttention(K, heads=2, inner=6)
    found = model(s)
    for b in range(B):
        entries = past_of(s, b)
        want = []
        for h in range(2):
            part = slice(3 * h, 3 * h + 3)
            q = model.query(s.target[b])[part]
            k, v = (layer(s.every[entries])[:, part] for layer in (model.key, model.value))
            want.append(((k @ q) / 3**0.5).softmax(0) @ v if entries else torch.zeros(3))
        torch.testing.assert_close(found[b], torch.cat(want), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_search_finds_what_it_says() -> None:
    torch.manual_seed(0)
    s = seen()
    kind = s.batch.item_columns[:, 0].tolist()
    for b in range(B):
        entries, target = past_of(s, b), int(s.batch.target[b])
        hard = [e for e in entries if kind[e] == kind[target]][-2:]
        soft = sorted(entries, key=lambda e, t=target: -float(s.every[e] @ s.every[t]))[:2]
        content = [e for e in entries if cosine(s, e, target) is not None]
        content = sorted(content, key=lambda e, t=target: -(cosine(s, e, t) or 0))[:2]
        for find, chosen in (("hard", hard), ("soft", soft), ("content", content)):
            torch.manual_seed(1)
            sim = Sim(K, find, most=2)  # type: ignore[arg-type]
            weights = din_by_hand(sim.weigh, s, b, chosen)
            want = sum((w * s.every[e] for w, e in zip(weights, chosen, strict=True)), torch.zeros(K))
            torch.testing.assert_close(sim(s)[b], want, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_tiers_count_similarities() -> None:
    s = seen()
    found = SimTier(3)(s)
    for b in range(B):
        counts = torch.zeros(TIERS)
        for entry in past_of(s, b):
            value = cosine(s, entry, int(s.batch.target[b]))
            if value is not None:
                counts[min(TIERS - 1, int(np.floor((value + 1) * 10 + 1e-4)))] += 1
        torch.testing.assert_close(found[b, :TIERS], torch.log1p(counts))
    assert found.shape[1] == TIERS + 3


@torch.no_grad()
def test_similarity_attention_equals_its_formula() -> None:
    torch.manual_seed(0)
    s, model = seen(), SimilarityAttention(K)
    with torch.no_grad():
        model.mix.copy_(torch.tensor([0.5, 1.5, -0.3]))
    found = model(s)
    for b in range(B):
        entries, logits = past_of(s, b), []
        for e in entries:
            dot = float(model.key(s.every[e]) @ model.query(s.target[b])) / K**0.5
            c = (cosine(s, e, int(s.batch.target[b])) or 0.0) / 0.1
            logits.append(0.5 * dot + 1.5 * c - 0.3 * dot * c)
        want = torch.tensor(logits).softmax(0) @ s.every[entries] if entries else torch.zeros(K)
        torch.testing.assert_close(found[b], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("against", ["target", "query", "both"])
@pytest.mark.parametrize("weights", ["softmax", "raw"])
@torch.no_grad()
def test_cube_equals_its_formula(against: str, weights: str) -> None:
    torch.manual_seed(0)
    s = seen()
    config = CubeConfig(against=against, weights=weights, read="list", inner=4)  # type: ignore[arg-type]
    cube = Cube(K, D, 4, config)
    found = cube(s)
    assert found.shape == (B, cube.width)
    parts = torch.split(found, [K, K, 4, 4, 4, 5], dim=1)
    for b in range(B):
        target, asked, entries = int(s.batch.target[b]), int(s.batch.asked[b]), past_of(s, b)
        cosines: dict[int, float] = {}
        listed = []
        for place, e in enumerate(entries):
            told = {"target": [target], "query": [asked], "both": [target, asked]}[against]
            values = [c for c in (cosine(s, e, t) for t in told) if c is not None]
            if values:
                cosines[place] = sum(values) / len(values)
            listed.append(cosines.get(place, 0.0))
        w = torch.tensor(list(cosines.values()))
        w = (w / 0.1).softmax(0) if weights == "softmax" and len(w) else w
        chosen = [entries[p] for p in cosines]
        zero = torch.zeros(K)
        small = cube.down(s.content)
        torch.testing.assert_close(
            parts[1][b],
            sum((x * s.every[e] for x, e in zip(w, chosen, strict=True)), zero),
            rtol=1e-4,
            atol=1e-5,
        )
        torch.testing.assert_close(
            parts[2][b],
            sum((x * small[e] for x, e in zip(w, chosen, strict=True)), zero[:4]),
            rtol=1e-4,
            atol=1e-5,
        )
        newest = torch.tensor((listed[::-1] + [0.0] * 4)[:4])
        torch.testing.assert_close(parts[3][b], newest)
        torch.testing.assert_close(parts[4][b], small[target])
        torch.testing.assert_close(parts[5][b, :1], (s.content[target] @ s.content[asked])[None])
        torch.testing.assert_close(parts[5][b, 1:], small[asked])


def test_every_branch_of_cube_can_stand_alone() -> None:
    s = seen()
    widths = {}
    for branch in BRANCHES:
        cube = Cube(K, D, 4, CubeConfig(branches=(branch,)))
        widths[branch] = cube(s).shape[1]
        assert widths[branch] == cube.width
    assert Cube(K, D, 4)(s).shape[1] == sum(widths.values())


def model_of(interest: str, **options: object) -> ClickModel:
    config = ClickConfig(interest=interest, width=4, hidden=(16, 8), longest=L, **options)  # type: ignore[arg-type]
    return ClickModel(config, Sizes(V - 1, 2, (3,), (3,), (4, 4), D), seed=1)


NAMES = ["none", "mean", "din", "target-attention", "sim-hard", "sim-soft", "sim-content", "muse", "cube"]


@pytest.mark.parametrize("name", NAMES)
def test_every_model_learns_a_batch_by_heart(name: str) -> None:
    model, own = model_of(name, cross=1 if name == "din" else 0), batch()
    dense = torch.optim.Adam(model.parameters(), lr=0.02)
    first = None
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(model(own), model.targets(own))
        first = first if first is not None else float(loss.detach())
        dense.zero_grad()
        loss.backward()
        dense.step()
        for table in model.tables():
            table.step(0.02)
    assert float(loss.detach()) < 0.2 * first
    model.eval()
    assert torch.isfinite(model(own)).all()


def test_rows_without_a_past_are_scored_alike_whatever_stands_beside_them() -> None:
    for name in NAMES:
        model = model_of(name).eval()
        alone, beside = batch(), batch()
        moved = replace(beside, past=beside.past.flip(1) * beside.past_there)
        torch.testing.assert_close(model(alone)[5:], model(moved)[5:])


def test_in_content_mode_ids_mean_nothing() -> None:
    model = model_of("muse", mode="content").eval()
    own = batch()
    with torch.no_grad():
        before = model(own)
        model.things.weight.normal_()
        model.users.weight.normal_()
    torch.testing.assert_close(model(own), before)


def test_hidden_ids_are_the_unknown_one() -> None:
    model, own = model_of("none", unknown=1.0), batch()
    with torch.no_grad():
        model.things.weight.normal_()
    every = model._ids(own, torch.Generator().manual_seed(0))
    assert bool((every == model.things.weight[0]).all())
    for table in model.tables():
        table.forget()
    assert not bool((model._ids(own, None) == model.things.weight[0]).all())


def test_without_vectors_only_ids_can_be_used() -> None:
    sizes = Sizes(V - 1, 2)
    with pytest.raises(InputError, match="reads content vectors, and there are none"):
        ClickModel(ClickConfig(interest="cube"), sizes)
    with pytest.raises(InputError, match="mode both"):
        ClickModel(ClickConfig(interest="din"), sizes)
    bare = replace(batch(dim=0), item_columns=torch.zeros(V, 0, dtype=torch.int64))
    model = ClickModel(ClickConfig(interest="din", mode="id", labels=("click", "purchase")), sizes)
    assert model(bare).shape == (B, 2) and torch.equal(model.targets(bare), bare.label[:, [0, 2]])


def test_interests_keep_their_word() -> None:
    modules: list[Interest] = [Din(K), MeanPast(K), TargetAttention(K), Sim(K), Muse(K), Cube(K, D, 4)]
    for module in modules:
        out: Tensor = module(seen())
        assert out.shape == (B, module.width)
