"""The compact encoder: any modality, any number of photos, sensible before training, exact on disk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moonshelf.encoder import CompactEncoder, Item, load_encoder, prepare_image, save_encoder
from moonshelf.encoder.anchor import class_names
from moonshelf.encoder.inputs import collate
from moonshelf.errors import InputError
from moonshelf.training.sampler import step_seed


def pixels(seed: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (3, size, size), dtype=np.uint8)


ITEMS = [
    Item("red shoe", (pixels(0),)),
    Item("red shoe"),
    Item(None, (pixels(0),)),
    Item(None, (pixels(0), pixels(0))),
    Item("红鞋", (pixels(1), pixels(2), pixels(0))),
]


def test_rows_are_unit_and_do_not_depend_on_their_batch(encoder: CompactEncoder) -> None:
    together = encoder.encode(ITEMS)
    alone = np.concatenate([encoder.encode([item]) for item in ITEMS])
    assert together.shape == (len(ITEMS), 256)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.abs(together - alone).max() < 1e-5


def test_a_photo_given_twice_is_the_photo(encoder: CompactEncoder) -> None:
    vectors = encoder.encode(ITEMS)
    assert vectors[2] @ vectors[3] == pytest.approx(1, abs=1e-5)


def test_independence_of_the_batch_holds_after_training_moved_the_fusion(encoder: CompactEncoder) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*encoder.fusion.parameters(), encoder.modality, encoder.token_project.weight):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    together = encoder.encode(ITEMS)
    alone = np.concatenate([encoder.encode([item]) for item in ITEMS])
    assert np.abs(together - alone).max() < 1e-5
    both, text, image = together[0], together[1], together[2]
    assert abs(both @ text) < 0.9999
    assert abs(both @ image) < 0.9999


def test_untrained_text_finds_class_names_in_both_languages(encoder: CompactEncoder) -> None:
    """Anchoring: the vector of a class is nearest to the class's own name, in English and in Chinese."""
    names = class_names()
    assert len(names) == 1000
    wanted = {
        "espresso": "浓缩咖啡",
        "daisy": "雏菊",
        "running shoe": "跑鞋",
        "backpack, back pack, knapsack, packsack, rucksack, haversack": "背包",
    }
    rows = [names.index(name) for name in wanted]
    anchors = torch.nn.functional.normalize(encoder.class_anchors[rows].detach(), dim=-1).numpy()
    english = encoder.encode([Item(name) for name in wanted]) @ anchors.T
    chinese = encoder.encode([Item(name) for name in wanted.values()]) @ anchors.T
    assert (english.argmax(1) == np.arange(4)).all()
    assert (chinese.argmax(1) == np.arange(4)).sum() >= 3


def test_saving_and_loading_changes_nothing(encoder: CompactEncoder, tmp_path) -> None:
    save_encoder(encoder, tmp_path)
    again = load_encoder(tmp_path)
    assert again.version == encoder.version
    assert np.array_equal(again.encode(ITEMS), encoder.encode(ITEMS))


def test_damaged_encoders_are_refused(encoder: CompactEncoder, tmp_path) -> None:
    with pytest.raises(InputError, match="no encoder here"):
        load_encoder(tmp_path)
    save_encoder(encoder, tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="weights cannot be read"):
        load_encoder(tmp_path)
    file.write_bytes(whole[:-4] + b"\0\0\0\x40")
    with pytest.raises(InputError, match="do not belong together"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text('{"kind": "compact", "version": "x", "widths": [32], "colour": 1}')
    with pytest.raises(InputError, match="settings cannot be read"):
        load_encoder(tmp_path)


def test_an_item_without_anything_is_refused() -> None:
    with pytest.raises(InputError, match="item 1 has neither"):
        collate([Item("a"), Item("  ")])


def test_prepare_image_keeps_the_whole_picture() -> None:
    from PIL import Image

    image = Image.new("RGB", (120, 60), "white")
    image.paste((255, 0, 0), (0, 0, 20, 60))
    out = prepare_image(image, 60)
    assert out.shape == (3, 60, 60)
    assert out.dtype == np.uint8
    assert (out[:, 30, 2] == (255, 0, 0)).all()
    assert (out[:, 30, 40] == 255).all()


def test_step_seeds_differ() -> None:
    seeds = {
        step_seed(s, name, e, a) for s in range(3) for name in ("a", "b") for e in range(5) for a in range(5)
    }
    assert len(seeds) == 3 * 2 * 25


def test_the_untrained_version_does_not_depend_on_threads(encoder: CompactEncoder) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert CompactEncoder.untrained(encoder.config).version == encoder.version
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_text_lengths_are_rounded_so_that_few_shapes_occur() -> None:
    lengths = {collate([Item("word " * n)], max_tokens=20).ids.shape[1] for n in range(1, 40)}
    assert lengths == {8, 16, 20}
    batch = collate([Item("one two"), Item(None, (pixels(0, 32),))], size=32)
    assert batch.mask.sum(1).tolist() == [int(batch.mask[0].sum()), 0] and batch.ids.shape[1] == 8
    assert collate([Item(None, (pixels(0, 32),))], size=32).ids.shape[1] == 0
