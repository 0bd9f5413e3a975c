"""Experts: the formula, the upcycled start, what leaves the router; and the three views of one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moonshelf.encoder import CompactConfig, CompactEncoder, Item, load_encoder, save_encoder
from moonshelf.encoder.compact import VIEWS
from moonshelf.encoder.moe import ExpertFeedForward


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
    old = {k: v for k, v in dataclasses.asdict(model.config).items() if k not in ("experts", "top_k", "core")}
    digest = hashlib.sha256(json.dumps(old, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    assert model.version == digest.hexdigest()[:12]
