"""SFT and GRPO with two pictures on real model classes: they learn, resume to the same bytes, save the LoRA alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_models import tiny_smol, write_tiny_qwen

from moonshelf.creative import tuning
from moonshelf.creative.backbones import Backbone, load_backbone
from moonshelf.creative.measures import NAMES
from moonshelf.creative.protocol import BadAnswer, Better, Choice, Verdict, YesNo, read_verdict, write_verdict
from moonshelf.creative.reasoner import (
    ADAPTER,
    ReasonConfig,
    Reasoner,
    _answer,
    ask,
    both_orders,
    choice_at,
    inputs_of,
    letters_of,
    load_reasoner,
    with_lora,
)
from moonshelf.creative.samples import BRIEF, Sample
from moonshelf.creative.tuning import GrpoConfig, SftConfig, grpo, sft
from moonshelf.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, trl and peft


def verdict(winner: str) -> Verdict:
    compared = ("queries", "title", "copy", "people", "layout", "subject", "background")
    answers = {"identical": YesNo.NO, "similar": YesNo.NO, **dict.fromkeys(compared, Better.EQUAL)}
    return Verdict(answers | {"layout": Better(winner), "choice": Choice(winner)})


def samples(pairs: int, *, pictured: bool = True) -> list[Sample]:
    """The red creative wins."""
    out = []
    for p in range(pairs):
        shown = [Image.new("RGB", (40, 40 + p), colour) for colour in ("red", "blue")]
        for swapped in (False, True):
            images = tuple(shown[::-1] if swapped else shown)
            first = [{"type": "image"}, {"type": "image"}] if pictured else []
            words = "which?" if pictured else ("A: blue, B: red" if swapped else "A: red, B: blue")
            chat = [
                {"role": "system", "content": [{"type": "text", "text": BRIEF[:40]}]},
                {"role": "user", "content": [*first, {"type": "text", "text": words}]},
            ]
            winner = "B" if swapped else "A"
            told = verdict(winner)
            zeros = np.zeros(len(NAMES))
            out.append(
                Sample(
                    chat,
                    images if pictured else (),
                    write_verdict(told),
                    told,
                    winner,
                    p,
                    swapped,
                    zeros,
                    zeros,
                )
            )
    return out


def smol(seed: int = 0) -> Backbone:
    model, processor = tiny_smol(seed)
    return Backbone("smol", model, processor, brief=True, whole=("multi_modal_projector",))


def weights(reasoner: Reasoner) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in reasoner.model.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_qwen(tmp_path_factory.mktemp("qwen") / "model")


def test_two_pictures_reach_the_embedded_model() -> None:
    backbone, (one, other) = smol(), samples(1)
    batch = inputs_of(backbone, [one, other])
    assert batch["pixel_values"].shape == (4, 3, 64, 64)
    assert (batch["input_ids"] == backbone.model.config.image_token_index).sum() == 4 * 4
    with torch.no_grad():
        seen = backbone.model(**batch).logits[:, -1]
    assert not torch.allclose(seen[0], seen[1])  # the same words, the pictures change places
    # the trunk is the published one, in its own pixels
    from moonshelf.encoder import prepare_image
    from moonshelf.encoder.efficientnet import EfficientNetLite0
    from moonshelf.encoder.weights import lite0_state

    trunk = EfficientNetLite0()
    trunk.load_published(lite0_state())
    pixels = torch.from_numpy(prepare_image(one.images[0], 64)).float()[None]
    with torch.no_grad():
        expected = trunk((pixels - 127) / 128).flatten(2).transpose(1, 2)
        found = backbone.model.model.vision_tower(batch["pixel_values"][:1]).last_hidden_state
    assert torch.allclose(found, expected, atol=0.05)


def test_sft_teaches_the_format_and_resumes_exactly(tmp_path: Path) -> None:
    data = samples(4)
    config = SftConfig(epochs=6, steps=12, batch=4, micro=2, rate=1e-2, save_every=6)
    whole = with_lora(smol(), ReasonConfig(rank=4, alpha=8), seed=0)
    before = weights(whole)
    told = sft(whole, data, tmp_path / "whole", config)
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert told["steps"] == 12 and losses[-1] < 0.7 * losses[0]
    after = weights(whole)
    assert any(name.endswith("linear_1.weight") or "linear_1" in name for name in after)
    assert all(not torch.equal(before[name], after[name]) for name in after if "lora_B" in name)

    # cut off after the checkpoint of step 6, and begun again
    (tmp_path / "cut").mkdir()
    shutil.copytree(
        tmp_path / "whole" / "checkpoints" / "checkpoint-6", tmp_path / "cut" / "checkpoints" / "checkpoint-6"
    )
    again = with_lora(smol(), ReasonConfig(rank=4, alpha=8), seed=0)
    assert sft(again, data, tmp_path / "cut", config)["steps"] == 12
    assert all(torch.equal(value, weights(again)[name]) for name, value in after.items())

    whole.save(_made(tmp_path / "kept"))
    files = {p.name for p in (tmp_path / "kept" / ADAPTER).iterdir()}
    assert "adapter_model.safetensors" in files and not any(
        n.endswith((".bin", ".pt", ".pkl")) for n in files
    )
    held = load_file(tmp_path / "kept" / ADAPTER / "adapter_model.safetensors")
    assert all("lora" in name or "multi_modal_projector" in name for name in held)
    loaded = load_reasoner(tmp_path / "kept", backbone=smol())
    x, y = ask(whole, data[:2]), ask(loaded, data[:2])
    assert x == y or all(a.text == b.text for a, b in zip(x, y, strict=True))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_grpo_moves_towards_rewards(tmp_path: Path) -> None:
    data = samples(2)
    reasoner = with_lora(smol(), ReasonConfig(rank=4, alpha=8), seed=0)
    sft(
        reasoner,
        data,
        tmp_path / "sft",
        SftConfig(steps=40, batch=4, micro=4, rate=1e-2, epochs=40, save_every=100),
    )
    before = weights(reasoner)
    config = GrpoConfig(steps=2, pairs=1, group=4, rate=1e-3, most_tokens=140, brief=20, save_every=10)
    told = grpo(reasoner, data, tmp_path / "grpo", config)
    assert told["steps"] == 2 and set(told["rewards"]) == set(tuning.rewards.WEIGHTS)
    assert any(not torch.equal(before[name], value) for name, value in weights(reasoner).items())
    assert all(len(values) == 2 for values in told["rewards"].values())
    reasoner.save(_made(tmp_path / "kept"))
    assert {p.name for p in (tmp_path / "kept" / ADAPTER).iterdir()} <= {
        "adapter_model.safetensors", "adapter_config.json", "README.md",
    }  # fmt: skip
    log = (tmp_path / "grpo" / "log.jsonl").read_text()
    assert "rewards/consistent/mean" in log and "frac_reward_zero_std" in log


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_hugging_face_model(tmp_path: Path, family: str) -> None:
    backbone = load_backbone(f"hf:{write_tiny_qwen(tmp_path / 'model', family)}")
    reasoner, data = with_lora(backbone, ReasonConfig(rank=2, alpha=4), seed=0), samples(2)
    assert not any("visual" in name for name in weights(reasoner))
    before = weights(reasoner)
    assert (
        sft(reasoner, data, tmp_path / "sft", SftConfig(steps=2, batch=2, micro=2, rate=1e-2))["steps"] == 2
    )
    config = GrpoConfig(
        steps=1, pairs=5, group=4, most_tokens=12, rate=1e-3, save_every=10
    )  # 2 pairs are there
    assert grpo(reasoner, data, tmp_path / "grpo", config)["steps"] == 1
    assert any(not torch.equal(before[name], value) for name, value in weights(reasoner).items())
    reasoner.save(_made(tmp_path / "kept"))
    assert len(ask(load_reasoner(tmp_path / "kept"), data[:1])) == 1


def test_texts_alone_need_no_pictures(tmp_path: Path) -> None:
    """A model that has learned to read which is red answers right in both orders, with a probability."""
    data = samples(2, pictured=False)
    reasoner = with_lora(smol(), ReasonConfig(rank=8, alpha=16, most_tokens=160), seed=0)
    config = SftConfig(steps=150, epochs=1000, batch=4, micro=4, rate=1e-2, save_every=1000)
    sft(reasoner, data, tmp_path / "sft", config)
    answers = ask(reasoner, data)
    first, second = both_orders(data, answers)
    assert [read_verdict(a.text).choice.value for a in answers] == [s.winner for s in data]
    assert (first > 0.5).all() and (second > 0.5).all() and (first <= 1).all()


def test_the_probability_is_that_of_the_first_choice() -> None:
    """The letter in the last tag repeats it, with certainty: only the first one was in doubt."""
    words = smol().tokenizer
    text = write_verdict(verdict("B"))
    ids = words.encode(text, add_special_tokens=False)
    letters = letters_of(words)
    scores = np.zeros((len(ids), 4))
    places = [i for i, t in enumerate(ids) if t in letters[0] + letters[1]]
    at = [i for i in places if words.decode(ids[:i]).rstrip().endswith("choice:")]
    assert len(at) == 1 and len(places) > 2
    scores[at[0]] = -1.0, 0.0, -1.0, 0.0
    last = [i for i in places if words.decode(ids[:i]).rstrip().endswith("<answer>")]
    scores[last[0]] = -30.0, 30.0, -30.0, 30.0
    found = _answer(words, ids, scores, letters)
    assert found.chance == pytest.approx(1 / (1 + np.exp(1)), abs=1e-9)
    scores[at[0]] = 1.0, 0.0, 1.0, 0.0  # the line would rather have had A: what is said in the end counts
    assert _answer(words, ids, scores, letters).chance == pytest.approx(0, abs=1e-9)


def test_an_untrained_model_gives_no_choice() -> None:
    reasoner = Reasoner(smol(), smol().model, ReasonConfig(most_tokens=8))
    (answer,) = ask(reasoner, samples(1)[:1])
    with pytest.raises(BadAnswer):
        read_verdict(answer.text)
    assert np.isnan(answer.chance) and answer.tokens <= 8


def test_bad_input(tmp_path: Path) -> None:
    for name, said in (
        ("big", "no backbone"),
        ("hf:", "no backbone"),
        (f"hf:{tmp_path}", "cannot be loaded"),
    ):
        with pytest.raises(InputError, match=said):
            load_backbone(name)
    with pytest.raises(InputError, match="cannot be read"):
        load_reasoner(tmp_path)
    reasoner = with_lora(smol(), ReasonConfig(rank=2, alpha=4))
    with pytest.raises(InputError, match="group of 2"):
        grpo(reasoner, samples(1), tmp_path / "g", GrpoConfig(group=2))
    with pytest.raises(InputError, match="one order alone"):
        grpo(reasoner, samples(2)[::2], tmp_path / "g", GrpoConfig())


def test_the_letter_of_the_choice_counts_many_times(tmp_path: Path) -> None:
    """The loss against cross-entropies written out token by token, over two micro-batches of unequal length."""
    backbone = smol()
    words = backbone.tokenizer
    trainer_class = tuning._weighted(object, words, 30.0)
    letters = letters_of(words)
    rows = [words.encode(write_verdict(verdict(x)), add_special_tokens=False) for x in "AB"]
    rows[1] = rows[1][:-3]
    prompt, longest = [5, 6, 7], max(map(len, rows))
    ids = torch.full((2, 3 + longest), words.pad_token_id)
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(rows):
        ids[i, : 3 + len(row)] = torch.tensor(prompt + row)
        labels[i, 3 : 3 + len(row)] = torch.tensor(row)
    given = {"input_ids": ids, "attention_mask": (labels >= 0).long(), "labels": labels}
    given["attention_mask"][:, :3] = 1
    with torch.no_grad():
        count = sum(map(len, rows))
        found, outputs = trainer_class().compute_loss(backbone.model, given, True, count)
        scores = outputs.logits.float().log_softmax(-1)
    expected = 0.0
    for i, row in enumerate(rows):
        at = choice_at(words, row, letters)
        assert at is not None and words.decode(row[at]).strip() == "AB"[i]
        for place, token in enumerate(row):
            expected -= float(scores[i, 2 + place, token]) * (30 if place == at else 1)
    assert float(found) == pytest.approx(expected / count, rel=1e-4)
    assert choice_at(words, words.encode("no letter here", add_special_tokens=False), letters) is None
