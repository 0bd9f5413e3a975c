"""A language model that writes verdicts: a backbone with a LoRA, asked in both orders, saved without the backbone.

``P(A wins)`` is read where the choice's letter is first written (the line ``10. choice``; what follows repeats it): the
share of A among the two letters there. Our design; the mean of both orders is what counts (``evaluation.selection``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from moonshelf.creative.backbones import TARGETS, Backbone, load_backbone, needs_vlm, quietly
from moonshelf.creative.protocol import read_choice
from moonshelf.creative.samples import FACTS, Sample
from moonshelf.errors import InputError
from moonshelf.progress import Progress
from moonshelf.workspace import write_json

FILE, ADAPTER, FORMAT = "reasoner.json", "adapter", 1
OPENED = ("choice:", "<answer>")  # what stands before the letter


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonConfig:
    """How a reasoner is asked.

    Attributes:
        rank, alpha: of the LoRA.
        hint: tell it what the fast selector holds of the pair.
        facts: measured sentences in a prompt.
        concede: learn traces whose measures speak for the loser, too (``samples.make_samples``).
        most_tokens: of an answer.
    """

    rank: int = 16
    alpha: int = 32
    hint: bool = True
    facts: int = FACTS
    concede: bool = True
    most_tokens: int = 256


@dataclass(slots=True)
class Reasoner:
    """A backbone with a LoRA (``model`` is ``peft``'s, or the bare backbone's: then it is asked as it is).

    Attributes:
        about: how it was trained.
    """

    backbone: Backbone
    model: Any
    config: ReasonConfig
    about: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """The LoRA alone (safetensors), and what it belongs to, into an existing folder."""
        self.model.save_pretrained(
            folder / ADAPTER, selected_adapters=["default"]
        )  # not the reference of GRPO
        told = {
            "format": FORMAT, "backbone": self.backbone.name, "config": asdict(self.config), "about": self.about
        }  # fmt: skip
        write_json(folder / FILE, told)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was written about a sample, and the probability that A wins there; NaN where there is no choice."""

    text: str
    chance: float
    tokens: int


def with_lora(backbone: Backbone, config: ReasonConfig, *, seed: int = 0) -> Reasoner:
    """A fresh LoRA on a backbone; it changes nothing before it is trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=0.0, target_modules=TARGETS,
        modules_to_save=list(backbone.whole) or None, task_type="CAUSAL_LM",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), quietly():
        torch.manual_seed(seed)
        model = get_peft_model(backbone.model, lora)
    return Reasoner(backbone, model, config)


def load_reasoner(
    folder: Path, *, device: str = "cpu", trainable: bool = False, backbone: Backbone | None = None
) -> Reasoner:
    """Read what :meth:`Reasoner.save` wrote; the backbone comes from where it came from.

    Args:
        backbone: the one it was trained on, if it is loaded already.

    Raises:
        InputError: nothing is there, a damaged file, or a backbone that cannot be had.
    """
    needs_vlm()
    from peft import PeftModel

    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError("its format is another one than this version's")
        config, name, about = ReasonConfig(**told["config"]), str(told["backbone"]), dict(told["about"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the reasoner cannot be read: {reason}", where=str(folder), mend="train it again"
        ) from error
    backbone = backbone or load_backbone(name, device=device)
    try:
        with quietly():
            model = PeftModel.from_pretrained(
                backbone.model, folder / ADAPTER, is_trainable=trainable, use_safetensors=True
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the LoRA does not fit the backbone: {reason[:160]}", where=str(folder), mend="train it again"
        ) from error
    return Reasoner(backbone, model, config, about)


def inputs_of(backbone: Backbone, samples: Sequence[Sample]) -> Any:
    """The batch that a model generates from: chats with their pictures, padded on the left."""
    chats = [
        backbone.processor.apply_chat_template(s.messages, add_generation_prompt=True, tokenize=False)
        for s in samples
    ]
    if any(s.images for s in samples):
        return backbone.processor(
            text=chats, images=[list(s.images) for s in samples], padding=True, return_tensors="pt"
        )
    return backbone.tokenizer(chats, padding=True, return_tensors="pt", add_special_tokens=False)


def ask(reasoner: Reasoner, samples: Sequence[Sample], *, batch: int = 32) -> list[Answer]:
    """Have verdicts written, greedily: the same every time.

    Cost: a pass over the backbone a token, for ``batch`` answers together.
    """
    import torch
    from transformers import LogitsProcessorList

    tokenizer, model = reasoner.backbone.tokenizer, reasoner.model
    letters = letters_of(tokenizer)
    columns = [token for both in letters for token in both]
    order = sorted(
        range(len(samples)), key=lambda i: len(str(samples[i].messages))
    )  # chats of one length together
    out: list[Answer | None] = [None] * len(samples)
    was = model.training
    model.eval()
    try:
        with Progress(len(samples), "creatives: verdicts", "verdicts") as bar, torch.inference_mode():
            for start in range(0, len(order), batch):
                part = order[start : start + batch]
                given = inputs_of(reasoner.backbone, [samples[i] for i in part]).to(model.device)
                seen: list[Any] = []

                def note(ids: Any, scores: Any, seen: list[Any] = seen) -> Any:
                    seen.append(scores[:, columns].float().cpu())
                    return scores

                written = model.generate(
                    **given, max_new_tokens=reasoner.config.most_tokens, do_sample=False, num_beams=1,
                    logits_processor=LogitsProcessorList([note]),
                    pad_token_id=tokenizer.pad_token_id,
                )  # fmt: skip
                new = written[:, given["input_ids"].shape[1] :].cpu()
                for row, i in enumerate(part):
                    ids = [t for t in new[row].tolist() if t != tokenizer.pad_token_id]
                    pairs = np.array([s[row].numpy() for s in seen[: len(ids)]])
                    out[i] = _answer(tokenizer, ids, pairs, letters)
                bar.advance(len(part))
    finally:
        model.train(was)
    return [answer for answer in out if answer is not None]


def letters_of(tokenizer: Any) -> list[list[int]]:
    """Tokens of A and B, after a blank and without one."""
    return [[tokenizer.encode(blank + x, add_special_tokens=False)[-1] for x in "AB"] for blank in (" ", "")]


def choice_at(
    tokenizer: Any, ids: list[int], letters: list[list[int]], before: str = OPENED[0]
) -> int | None:
    """Where a letter is written right after ``before``; None where none is."""
    for at in range(1, len(ids)):
        if any(ids[at] in both for both in letters) and tokenizer.decode(ids[:at]).rstrip().endswith(before):
            return at
    return None


def _answer(tokenizer: Any, ids: list[int], scores: np.ndarray, letters: list[list[int]]) -> Answer:
    """The text, and the share of A where the choice is first written.

    Args:
        scores: ``[T, 4]`` of the tokens of ``letters``, one after the other, at each place.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    choice = read_choice(text)
    if choice is None:
        return Answer(text, float("nan"), len(ids))
    for before in OPENED:
        at = choice_at(tokenizer, ids, letters, before)
        if at is None:
            continue
        pair = next(n for n, both in enumerate(letters) if ids[at] in both)
        a, b = scores[at, 2 * pair : 2 * pair + 2]
        chance = float(1 / (1 + np.exp(np.clip(b - a, -60, 60))))
        if (chance > 0.5) == (choice.value == "A"):
            return Answer(text, chance, len(ids))  # else it chose otherwise in the end
    return Answer(text, 1.0 if choice.value == "A" else 0.0, len(ids))


def both_orders(samples: Sequence[Sample], answers: Sequence[Answer]) -> tuple[np.ndarray, np.ndarray]:
    """``[P]`` probabilities that the first creative of each pair wins, asked first and asked second; NaN: not asked."""
    pairs = 1 + max(s.pair for s in samples)
    first, second = np.full(pairs, np.nan), np.full(pairs, np.nan)
    for sample, answer in zip(samples, answers, strict=True):
        if sample.swapped:
            second[sample.pair] = 1 - answer.chance
        else:
            first[sample.pair] = answer.chance
    return first, second
