"""Where a similarity comes from: gradients against finite differences, words left out, attention against torch's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moonshelf.encoder import CompactEncoder, Item
from moonshelf.encoder.compact import PIXEL_MEAN, PIXEL_SCALE
from moonshelf.encoder.saliency import _parts, _spans, saliency, without
from moonshelf.evaluation.faithful import deletion_test


def pixels(seed: int, size: int = 128) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (3, size, size), dtype=np.uint8)


@pytest.fixture
def model(encoder: CompactEncoder) -> CompactEncoder:
    """With a fusion that does something, at a grid of 4 x 4."""
    encoder.config = replace(encoder.config, image_size=128)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*encoder.fusion.parameters(), encoder.modality, encoder.token_project.weight):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return encoder


def test_regions_are_the_gradient_times_the_value(model: CompactEncoder) -> None:
    """Beside the change of the similarity when a cell of the grid is scaled by a little."""
    item, target = Item("a red shoe", (pixels(0),)), model.encode([Item("shoe")])[0]
    found = saliency(model, item, target)
    assert found.regions.shape == (1, 4, 4)
    assert found.similarity == pytest.approx(float(model.encode([item])[0] @ target), abs=1e-4)
    batch = model.collate([item])
    goal, step = torch.from_numpy(target)[None], 0.02
    with torch.no_grad():
        grid = model.trunk((batch.images.float() - PIXEL_MEAN) / PIXEL_SCALE)
        rows = model.sentence.rows(batch.ids)
        for y, x in ((0, 0), (1, 2), (3, 3)):
            seen = []
            for factor in (1 - step, 1 + step):
                changed = grid.clone()
                changed[:, :, y, x] *= factor
                vector = model._fuse(_parts(model, changed, batch.owner, rows, batch.mask), 1)[0]
                seen.append(float(F.cosine_similarity(vector, goal)[0]))
            assert found.regions[0, y, x] == pytest.approx(
                (seen[1] - seen[0]) / (2 * step), rel=0.05, abs=2e-4
            )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_occlusion_is_how_far_the_similarity_falls(model: CompactEncoder) -> None:
    item = Item("a red shoe", (pixels(0), pixels(1)))
    target = model.encode([item])[0]  # a perfect match: any change speaks against it
    found = saliency(model, item, target, "occlusion")
    assert found.regions.shape == (2, 4, 4) and found.similarity == pytest.approx(1, abs=1e-5)
    for photo, cell in ((0, 5), (1, 15)):
        images = list(item.images)
        images[photo] = without(images[photo], np.array([cell]), (4, 4))
        fall = 1 - float(model.encode([Item(item.text, tuple(images))])[0] @ target)
        assert found.regions[photo].flat[cell] == pytest.approx(fall, abs=1e-5)
    assert found.regions.min() > -1e-6 and found.regions.max() > 1e-4
    words = saliency(model, item, target).words
    assert [w for w, _ in found.words] == [w for w, _ in words]
    assert np.allclose([v for _, v in found.words], [v for _, v in words], atol=1e-5)


def test_a_word_counts_what_the_similarity_loses_without_it(model: CompactEncoder) -> None:
    target = model.encode([Item("green shoe")])[0]
    found = saliency(model, Item("green plastic"), target)
    assert [word for word, _ in found.words] == ["green", "plastic"] and found.regions.size == 0
    assert saliency(model, Item("one"), target).words[0][0] == "one"


def test_words_are_put_together_from_pieces() -> None:
    assert [word for word, _ in _spans("Reebok XL跑鞋 unbelievableness", 48)][:2] == ["Reebok", "XL"]
    spans = _spans("unbelievableness 红色 mug", 48)
    assert spans[0][0] == "unbelievableness" and [w for w, _ in spans[1:]][-1] == "mug"
    assert "".join(w for w, _ in spans[1:-1]) == "红色"
    places = [at for _, own in spans for at in own]
    assert places == sorted(places) and places[0] == 1
    assert _spans("", 48) == []


def test_attention_is_that_of_the_block(model: CompactEncoder) -> None:
    block = model.fusion[0]
    x = torch.randn(2, 7, 256)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    modality = torch.randn(7, 256) * 0.1
    shares = block.attention(x, mask, modality)  # type: ignore[operator]
    assert shares.shape == (2, 4, 7, 7) and not shares[1, :, :, 4:].any()
    torch.testing.assert_close(shares.sum(-1), torch.ones(2, 4, 7))
    q, k, v = block._heads(x, modality)  # type: ignore[operator]
    torch.testing.assert_close(
        shares @ v,
        F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_rollout_shares_everything_among_the_inputs(model: CompactEncoder) -> None:
    target = model.encode([Item("shoe")])[0]
    image = saliency(model, Item(None, (pixels(0), pixels(1))), target, "rollout")
    assert image.regions.shape == (2, 4, 4) and (image.regions > 0).all() and image.words == ()
    joint = saliency(model, Item("a red shoe", (pixels(0),)), target, "rollout")
    other = saliency(model, Item("a red shoe", (pixels(0),)), -target, "rollout")
    assert np.array_equal(joint.regions, other.regions)  # it does not ask what is compared
    assert all(value > 0 for _, value in joint.words)
    assert joint.regions.sum() + sum(v for _, v in joint.words) < 1


def test_cells_are_taken_out_where_they_are() -> None:
    photo = pixels(0)
    cut = without(photo, np.array([0, 6]), (4, 4))
    changed = (cut != photo).any(0).reshape(4, 32, 4, 32).mean((1, 3))
    assert (changed > 0.9).nonzero()[0].tolist() == [0, 1] and (changed > 0.9).nonzero()[1].tolist() == [0, 2]
    assert changed.sum() == pytest.approx(2, abs=0.1)


def test_the_deletion_test_tells_a_faithful_map_from_a_contrary_one(
    encoder: CompactEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map that knows what every cell is worth, and its opposite."""
    from moonshelf.evaluation import faithful

    encoder.config = replace(encoder.config, image_size=128)
    photos = []
    for i in range(6):
        photo = np.full((3, 128, 128), 235, dtype=np.uint8)
        y, x = 32 * (i % 3), 32 * (i // 3)
        photo[:, y : y + 64, x : x + 64] = pixels(i, 64)
        photos.append(photo)
    items = [Item(None, (photo,)) for photo in photos]
    targets = encoder.encode(items)

    def oracle(model, item, target, method):  # type: ignore[no-untyped-def]
        """What is lost when each cell alone is taken out."""
        one = saliency(model, item, target, method)
        cut = [Item(None, (without(item.images[0], np.array([at]), (4, 4)),)) for at in range(16)]
        return replace(one, regions=(one.similarity - model.encode(cut) @ target).reshape(1, 4, 4))

    def contrary(model, item, target, method):  # type: ignore[no-untyped-def]
        one = oracle(model, item, target, method)
        return replace(one, regions=-one.regions)

    monkeypatch.setattr(faithful, "saliency", oracle)
    right = deletion_test(encoder, items, targets)
    monkeypatch.setattr(faithful, "saliency", contrary)
    wrong = deletion_test(encoder, items, targets)
    assert right.top.value > 1.3 * right.random.value > 0 and right.ratio.n == 6
    assert right.ratio.value == pytest.approx(right.top.value / right.random.value)
    assert wrong.ratio.value < 0.7 and wrong.random.value == pytest.approx(right.random.value)
    with pytest.raises(ValueError, match="one photo each"):
        deletion_test(encoder, [Item("text")], targets[:1])
