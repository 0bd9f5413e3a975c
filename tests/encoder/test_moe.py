"""Experts: the formula, the upcycled start, what leaves the router; and the three views of one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moonshelf.encoder import CompactConfig, CompactEncoder, Item, load_encoder, product_text, save_encoder
from moonshelf.encoder.compact import VIEWS
from moonshelf.encoder.moe import ExpertFeedForward
from moonshelf.encoder.sentence import KIND_BIT, tokenizer
from moonshelf.evaluation.benchmark import of_encoder
from moonshelf.evaluation.benchmark.inputs import Source, load, whole_text
from moonshelf.shelf import embed_shop
from moonshelf.shop.shop import Shop
from moonshelf.training.config import LoopConfig, PosttrainConfig
from moonshelf.training.dual import DualPosttrain
from moonshelf.training.posttrain import posttrain
from moonshelf.types import Product


def pixels(seed: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (3, size, size), dtype=np.uint8)


ITEMS = [
    Item("red shoe", (pixels(0),)),
    Item("red shoe"),
    Item(None, (pixels(0), pixels(3))),
    Item("红鞋 and a long title that fills more tokens", (pixels(1), pixels(2))),
]


def stirred(encoder: CompactEncoder, seed: int = 1) -> CompactEncoder:
    """Fusion weights away from their start, so that blocks and routers do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (*encoder.fusion.parameters(), encoder.modality, encoder.token_project.weight):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return encoder


def test_experts_equal_their_formula() -> None:
    torch.manual_seed(0)
    block = ExpertFeedForward(6, 8, 5, 2)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    h, mask = torch.randn(3, 4, 6), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()
    out, routed = block(h, mask)
    assert not out[~mask].any() and routed.shape == (3, 2, 5)
    for b in range(3):
        chances, shares = [], []
        for t in range(4):
            if not mask[b, t]:
                continue
            chance = F.softmax(block.router.weight @ h[b, t], dim=0)
            keep = torch.argsort(chance, descending=True)[:2]
            share = torch.zeros(5)
            share[keep] = chance[keep] / chance[keep].sum()
            want = sum(
                share[z]
                * (block.down[z] @ F.gelu(block.up[z] @ h[b, t] + block.up_bias[z]) + block.down_bias[z])
                for z in range(5)
            )
            torch.testing.assert_close(out[b, t], want)
            chances.append(chance)
            shares.append(share)
        if chances:
            torch.testing.assert_close(routed[b, 0], torch.stack(chances).mean(0))
            torch.testing.assert_close(routed[b, 1], torch.stack(shares).mean(0))
    assert not routed[2].any()
    with pytest.raises(ValueError, match="there are 2 experts"):
        ExpertFeedForward(6, 8, 2, 3)


def test_gradients_reach_router_and_chosen_experts() -> None:
    torch.manual_seed(0)
    block = ExpertFeedForward(4, 6, 3, 2).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    h, mask = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True), torch.ones(2, 3).bool()
    mask[1, 2] = False
    assert torch.autograd.gradcheck(lambda x: block(x, mask), (h,))


def test_an_upcycled_encoder_computes_the_same(encoder: CompactEncoder) -> None:
    dense = stirred(encoder)
    experts = dense.upcycled(4, 2)
    assert experts.config.experts == 4 and experts.version != dense.version
    assert np.abs(experts.encode(ITEMS) - dense.encode(ITEMS)).max() < 1e-5
    assert experts.version == dense.upcycled(4, 2).version
    with pytest.raises(ValueError, match="already"):
        experts.upcycled(4, 2)


@pytest.mark.parametrize("experts", [0, 3])
def test_three_views_of_one_pass_are_three_encodings(encoder: CompactEncoder, experts: int) -> None:
    model = stirred(encoder)
    model = stirred(model.upcycled(experts, 2), 2) if experts else model
    model.eval()
    views = model(model.collate(ITEMS), every_view=True)
    assert views.shape == (len(ITEMS), len(VIEWS), 256 + 2 * experts)
    for i, item in enumerate(ITEMS):
        asked = {"text": Item(item.text), "image": Item(None, item.images), "joint": item}
        for at, name in enumerate(VIEWS):
            one = asked[name]
            if not one.text and not one.images:
                assert not views[i, at].any()
                continue
            alone = model(model.collate([one]))[0]
            torch.testing.assert_close(views[i, at, :256], alone, rtol=1e-4, atol=1e-5)
            if experts:
                routed = views[i, at, 256:].view(2, experts).sum(1)
                torch.testing.assert_close(routed, torch.ones(2), rtol=1e-5, atol=1e-5)


def test_an_encoder_with_experts_on_disk(encoder: CompactEncoder, tmp_path: Path) -> None:
    experts = encoder.upcycled(3, 1)
    save_encoder(experts, tmp_path)
    again = load_encoder(tmp_path)
    assert again.version == experts.version and again.config == experts.config
    assert np.array_equal(again.encode(ITEMS), experts.encode(ITEMS))


def test_versions_from_before_there_were_experts_still_hold() -> None:
    """An encoder saved by an earlier release must not be refused for a setting that it could not know."""
    import dataclasses
    import hashlib
    import json

    model = CompactEncoder(CompactConfig(layers=1))
    old = {
        k: v
        for k, v in dataclasses.asdict(model.config).items()
        if k not in ("experts", "top_k", "core", "guided")
    }
    digest = hashlib.sha256(json.dumps(old, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    assert model.version == digest.hexdigest()[:12]


MARKED = "Red shirt. \x01Clothes, Tops\x03. Acme. \x02colour red, fabric 纯棉\x03. Worn all day"


def test_tokens_know_what_they_belong_to() -> None:
    plain = MARKED.translate({0x01: None, 0x02: None, 0x03: None})
    ids = tokenizer().ids(MARKED, 48)
    assert ids == tokenizer().ids(plain, 48)
    kinds = tokenizer().kinds(MARKED, 48)
    pieces = tokenizer().pieces(MARKED, 48)
    assert len(kinds) == len(ids) == len(pieces) + 2
    said = {kind: "".join(p for p, k in zip(pieces, kinds[1:], strict=False) if k == kind) for kind in (1, 2)}
    assert said[1].strip("▁.") == "Clothes,▁Tops"
    assert said[2].strip("▁.") == "colour▁red,▁fabric▁纯棉"
    assert set(tokenizer().kinds(plain, 48)) == {0}
    cut = tokenizer().kinds(MARKED, 6)
    assert len(cut) == 6 and cut[:5] == kinds[:5] and cut[5] == 0  # the end mark belongs to nothing


def test_product_texts_are_marked_on_request() -> None:
    product = Product(
        "1", "Red\x01 shirt", category="Clothes > Tops", attributes={"colour": "red"}, description="Worn"
    )
    assert product_text(product, marked=True) == "Red shirt. \x01Clothes, Tops\x03. \x02colour red\x03. Worn"
    bare = Product("1", "Red shirt")
    assert product_text(bare, marked=True) == product_text(bare) == "Red shirt"


def test_guided_tokens_meet_their_expert_alone() -> None:
    torch.manual_seed(0)
    block = ExpertFeedForward(6, 8, 3, 2, guided=True)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    assert len(block.up) == 5 and block.router.out_features == 3
    h, mask = torch.randn(2, 4, 6), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    guide = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 0]])
    out, routed = block(h, mask, guide)
    for b, t, z in ((0, 1, 3), (0, 2, 4), (1, 0, 4), (1, 1, 4)):
        want = block.down[z] @ F.gelu(block.up[z] @ h[b, t] + block.up_bias[z]) + block.down_bias[z]
        torch.testing.assert_close(out[b, t], want)
    assert not out[~mask].any()
    alone, own = block(h[:1, :1], mask[:1, :1])
    torch.testing.assert_close(out[0, 0], alone[0, 0])
    torch.testing.assert_close(routed[0], own[0])  # guided tokens do not count
    assert not routed[1].any()


def test_a_guided_encoder_starts_as_the_dense_one_and_reads_marks(
    encoder: CompactEncoder, tmp_path: Path
) -> None:
    dense = stirred(encoder)
    guided = dense.upcycled(3, 2, guided=True)
    items = [Item(MARKED, (pixels(0),)), Item("red shirt"), Item(None, (pixels(1),))]
    start = dense.encode(items)
    assert np.abs(guided.encode(items) - start).max() < 1e-5
    assert guided.version != dense.upcycled(3, 2).version
    with torch.no_grad():  # the category's expert says something of its own
        guided.fusion[0].routed.down_bias[3] += 1.0  # type: ignore[union-attr, index]
    moved = np.abs(guided.encode(items) - start).max(1)
    assert moved[0] > 1e-3 and moved[1:].max() < 1e-5
    views = guided(guided.collate(items), every_view=True)
    torch.testing.assert_close(views[0, 2, :256], guided(guided.collate(items[:1]))[0], rtol=1e-4, atol=1e-5)
    save_encoder(guided, tmp_path)
    again = load_encoder(tmp_path)
    assert again.config.guided and np.array_equal(again.encode(items), guided.encode(items))
    plain = items[0].text.translate({0x01: None, 0x02: None, 0x03: None})  # type: ignore[union-attr]
    assert np.array_equal(
        dense.encode([Item(plain)]), dense.encode([Item(MARKED)])
    )  # others do not see marks


def test_training_shelf_and_benchmark_mark_products(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    guided = stirred(encoder.upcycled(3, 2, guided=True))
    config = PosttrainConfig(
        batch=8, view_size=64, align="dual", modality_dropout=0.0,
        loop=LoopConfig(epochs=1.0, max_steps=2, evaluate_every=10),
    )  # fmt: skip
    batch = DualPosttrain([shop], guided, config, 0).prepare(0)
    assert set((batch.products.ids >> KIND_BIT).unique().tolist()) == {0, 1, 2}
    assert not (batch.queries.ids >> KIND_BIT).any()  # queries carry neither category nor attributes
    assert posttrain(shop, guided, tmp_path / "out", config).steps == 2
    shelf = embed_shop(shop, guided, tmp_path / "shelf", use=("text",))
    product = shop.product(shelf.product_ids[0])
    want = guided.encode([Item(product_text(product, marked=True))])[0]
    assert np.abs(shelf.rows()[0] - want).max() < 1e-5
    assert np.abs(want - guided.encode([Item(product_text(product))])[0]).max() > 1e-4
    shown = load([Source(whole_text(product), marked=whole_text(product, marked=True))], shop)
    assert "\x01" not in (shown[0].text or "") and np.abs(of_encoder(guided)(shown)[0] - want).max() < 1e-5


def test_experts_take_float32_tokens_under_autocast() -> None:
    """On GPUs autocast runs the layer norm before them in float32, whatever the rest is in."""
    torch.manual_seed(0)
    block = ExpertFeedForward(6, 8, 3, 2, guided=True)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    h, mask, guide = torch.randn(2, 4, 6), torch.ones(2, 4).bool(), torch.tensor([[0, 1, 2, 0], [0, 0, 0, 1]])
    exact = block(h, mask, guide)[0]
    with torch.autocast("cpu", torch.bfloat16):
        out = block(h, mask, guide)[0]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, exact, rtol=0.1, atol=0.3)
