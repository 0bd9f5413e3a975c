"""Reasoning SFT, then GRPO (Creative4U 2508.12628), with the trainers of ``trl``; data and rewards are ours.

SFT learns the traces of the teacher, both orders of a pair. GRPO samples ``group`` answers to each order, both orders
in one batch, so that a reward can ask whether they agree. The paper's rates, sizes and reward terms are not published:
all numbers here are ours. A run that is cut off goes on from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from moonshelf.creative import rewards
from moonshelf.creative.backbones import quietly
from moonshelf.creative.reasoner import Reasoner, choice_at, letters_of
from moonshelf.creative.samples import Sample
from moonshelf.errors import InputError, TooLittleData
from moonshelf.progress import Progress, say
from moonshelf.workspace import atomic_write

LOG = "log.jsonl"
Tune = TypeVar("Tune", bound=Callable[..., Any])


def _quiet(tune: Tune) -> Tune:
    """Run it without the chatter of the packages below."""

    @wraps(tune)
    def quiet(*args: Any, **given: Any) -> Any:
        with quietly():
            return tune(*args, **given)

    return cast(Tune, quiet)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftConfig:
    """Reasoning SFT.

    Attributes:
        epochs: over the samples. steps: at most; 0: all.
        batch: samples a step, ``micro`` at once (or the next smaller number that divides them).
        rate: of AdamW, falling linearly to 0 after a short warm-up.
        letter: how many tokens the letter of the choice counts for in the loss. It is one of a hundred, the only one
            that is not told by what stands before it, and with 1 it is learned last.
        save_every: steps between checkpoints.
    """

    epochs: float = 1.0
    steps: int = 0
    batch: int = 8
    micro: int = 4
    rate: float = 5e-4
    letter: float = 30.0
    save_every: int = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoConfig:
    """GRPO.

    Attributes:
        steps: of the optimiser; each sees ``pairs`` pairs in both orders, ``group`` answers each.
        micro: answers that are differentiated at once (or the next smaller number that divides them all): what they
            need of memory, some 1 GB each for SmolLM2, is the run's.
        temperature: of the sampling.
        beta: weight of the divergence from the model after SFT.
        most_tokens: of an answer; longer ones are cut. brief: answers are docked from there on.
        weights: of the rewards.
    """

    steps: int = 50
    pairs: int = 1
    group: int = 4
    micro: int = 4
    rate: float = 2e-5
    temperature: float = 1.0
    beta: float = 0.01
    most_tokens: int = 256
    brief: int = 200
    save_every: int = 10
    weights: dict[str, float] = dataclasses.field(default_factory=lambda: dict(rewards.WEIGHTS))


@_quiet
def sft(
    reasoner: Reasoner, samples: Sequence[Sample], folder: Path, config: SftConfig, *, seed: int = 0
) -> dict[str, Any]:
    """Learn to write the traces; ``reasoner.model`` is changed in place.

    Args:
        samples: those without an answer are left out.
        folder: checkpoints and the log; a run that is there goes on.

    Returns:
        ``steps``, ``loss`` of the last steps, ``samples``.

    Raises:
        TooLittleData: no sample has an answer.
    """
    from trl import SFTConfig as Arguments
    from trl import SFTTrainer

    rows = [s for s in samples if s.answer]
    if not rows:
        raise TooLittleData(
            "there is no trace to learn from", mend="log more creatives, or keep weaker pairs"
        )
    pictured = bool(rows[0].images)
    data = _dataset(
        [
            {
                "prompt": s.messages,
                "completion": [{"role": "assistant", "content": [{"type": "text", "text": s.answer}]}],
                **({"images": list(s.images)} if pictured else {}),
            }
            for s in rows
        ],
        reasoner, pictured,
    )  # fmt: skip
    whole = max(1, math.ceil(config.epochs * len(rows) / config.batch))
    steps = min(config.steps or whole, whole)
    micro = _dividing(config.batch, config.micro)
    arguments = Arguments(
        **_common(folder, config.rate, config.save_every, seed), max_steps=steps,
        per_device_train_batch_size=micro, gradient_accumulation_steps=config.batch // micro, warmup_steps=5,
        max_length=None, lr_scheduler_type="linear", completion_only_loss=True, shuffle_dataset=False, packing=False,
    )  # fmt: skip
    trainer = _weighted(SFTTrainer, reasoner.backbone.tokenizer, config.letter)(
        model=reasoner.model, args=arguments, train_dataset=data, callbacks=[_teller("creative sft", folder)],
        processing_class=reasoner.backbone.processor if pictured else reasoner.backbone.tokenizer,
    )  # fmt: skip
    _run(trainer, folder)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"steps": trainer.state.global_step, "loss": float(np.mean(losses[-5:])), "samples": len(rows)}


def _dividing(whole: int, most: int) -> int:
    """The largest number up to ``most`` that divides ``whole``."""
    return max(n for n in range(1, min(most, whole) + 1) if whole % n == 0)


def _weighted(stock: Any, tokenizer: Any, letter: float) -> Any:
    """A trainer whose loss counts the letter of the choice ``letter`` times: ``sum_t w_t CE_t / number of tokens``."""
    letters = letters_of(tokenizer)

    class Weighted(stock):  # type: ignore[misc]
        """The stock trainer with weights of tokens."""

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            import torch

            given = {key: value for key, value in inputs.items() if key != "labels"}
            target = inputs["labels"][:, 1:]
            outputs = model(**given)
            weight = (target >= 0).float()
            for row, ids in enumerate(target.tolist()):
                place = [at for at, token in enumerate(ids) if token >= 0]
                found = choice_at(tokenizer, [ids[at] for at in place], letters)
                if found is not None:
                    weight[row, place[found]] = letter
            own = weight > 0  # the loss of prompts is not needed: no softmax over a vocabulary for them
            each = torch.nn.functional.cross_entropy(
                outputs.logits[:, :-1][own].float(), target[own], reduction="none"
            )
            count = own.sum() if num_items_in_batch is None else num_items_in_batch
            loss = (each * weight[own]).sum() / count
            return (loss, outputs) if return_outputs else loss

    return Weighted


@_quiet
def grpo(
    reasoner: Reasoner, samples: Sequence[Sample], folder: Path, config: GrpoConfig, *, seed: int = 0
) -> dict[str, Any]:
    """Learn from rewards; ``reasoner.model`` is changed in place.

    Args:
        samples: both orders of each pair after one another, as :func:`~.samples.make_samples` gives them.
        folder: checkpoints and the log, a line a step with every reward's mean and the share of groups whose answers
            all earned the same (they teach nothing).

    Raises:
        TooLittleData: no pairs.
        InputError: pairs that come in one order alone, or a group of fewer than 4: with 2 any gap becomes the same
            advantage.
    """
    from trl import GRPOConfig as Arguments
    from trl import GRPOTrainer

    if config.group < 4:
        raise InputError(
            f"a group of {config.group} answers", mend="take 4 or more: two are always one apart"
        )
    orders = [s.swapped for s in samples]
    if not samples:
        raise TooLittleData("there is no pair to learn from", mend="log more creatives")
    if len(samples) % 2 or orders != [False, True] * (len(samples) // 2):
        raise InputError("a pair is asked in one order alone", mend="make samples of both orders")
    pictured = bool(samples[0].images)
    shuffled = np.random.default_rng(seed).permutation(len(samples) // 2)
    chosen = [samples[2 * int(p) + side] for p in shuffled for side in (0, 1)]
    data = _dataset(
        [
            {"prompt": s.messages, "at": i, **({"images": list(s.images)} if pictured else {})}
            for i, s in enumerate(chosen)
        ],
        reasoner, pictured,
    )  # fmt: skip
    pairs = min(config.pairs, len(samples) // 2)
    if pairs < config.pairs:
        say(f"creative grpo: {pairs} pairs a step, no more are there")
    each = 2 * pairs * config.group
    micro = _dividing(each, config.micro)
    names = [name for name in rewards.WEIGHTS if config.weights.get(name, 0.0)]
    functions = reward_functions(chosen, config.brief)
    arguments = Arguments(
        **_common(folder, config.rate, config.save_every, seed), max_steps=config.steps,
        per_device_train_batch_size=micro, gradient_accumulation_steps=each // micro, generation_batch_size=each,
        num_generations=config.group, max_completion_length=config.most_tokens, temperature=config.temperature,
        beta=config.beta, shuffle_dataset=False, reward_weights=[config.weights[name] for name in names],
        lr_scheduler_type="constant_with_warmup", warmup_steps=3,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=reasoner.model, args=arguments, train_dataset=data, reward_funcs=[functions[name] for name in names],
        callbacks=[_teller("creative grpo", folder)],
        processing_class=reasoner.backbone.processor if pictured else reasoner.backbone.tokenizer,
    )  # fmt: skip
    _run(trainer, folder)
    history = [entry for entry in trainer.state.log_history if "reward" in entry]
    if trainer.state.global_step < config.steps or not history:
        raise TooLittleData(
            f"GRPO took {trainer.state.global_step} of {config.steps} steps",
            where=str(folder),
            mend="log more creatives",
        )  # fmt: skip
    flat = float(np.mean([entry.get("frac_reward_zero_std", 0.0) for entry in history]))
    if flat > 0.5:
        say(f"creative grpo: {flat:.0%} of the groups earned one reward for all answers and taught nothing")
    return {
        "steps": trainer.state.global_step, "flat_groups": flat,
        "rewards": {
            name: [entry[f"rewards/{name}/mean"] for entry in history if f"rewards/{name}/mean" in entry]
            for name in names
        },
    }  # fmt: skip


def reward_functions(samples: Sequence[Sample], brief: int) -> dict[str, Callable[..., list[float]]]:
    """The rewards as ``trl`` calls them: on completions, with ``at``, the numbers of the samples they answer."""

    def texts(completions: Sequence[Any]) -> list[str]:
        return [_text(c) for c in completions]

    def right(completions: Sequence[Any], at: Sequence[int], **_: Any) -> list[float]:
        return [rewards.right(t, samples[i].winner) for t, i in zip(texts(completions), at, strict=True)]

    def well_formed(completions: Sequence[Any], **_: Any) -> list[float]:
        return [rewards.well_formed(t) for t in texts(completions)]

    def protocol(completions: Sequence[Any], at: Sequence[int], **_: Any) -> list[float]:
        return [
            rewards.protocol_agreement(t, samples[i].reference)
            for t, i in zip(texts(completions), at, strict=True)
        ]

    def truth(completions: Sequence[Any], at: Sequence[int], **_: Any) -> list[float]:
        return [
            rewards.truth(t, samples[i].a, samples[i].b) for t, i in zip(texts(completions), at, strict=True)
        ]

    def length(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [rewards.brevity(len(ids), brief) for ids in completion_ids]

    def consistent(completions: Sequence[Any], at: Sequence[int], **_: Any) -> list[float]:
        asked = [samples[i] for i in at]
        return rewards.consistency(texts(completions), [s.pair for s in asked], [s.swapped for s in asked])

    found: dict[str, Callable[..., list[float]]] = {
        "right": right, "format": well_formed, "protocol": protocol, "truth": truth, "length": length,
        "consistent": consistent,
    }  # fmt: skip
    for name, function in found.items():
        function.__name__ = name  # what the log calls it
    return found


def _text(completion: Any) -> str:
    """The words of a completion, which is a text, or a chat with one answer."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def _dataset(rows: list[dict[str, Any]], reasoner: Reasoner, pictured: bool) -> Any:
    from datasets import Dataset

    if not pictured:  # a tokenizer's chat holds words alone
        rows = [
            {key: _worded(value) if key in ("prompt", "completion") else value for key, value in row.items()}
            for row in rows
        ]
    return Dataset.from_list(rows)


def _worded(chat: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"role": m["role"], "content": "".join(part.get("text", "") for part in m["content"])} for m in chat
    ]


def _common(folder: Path, rate: float, save_every: int, seed: int) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available()
    return {
        "output_dir": str(folder / "checkpoints"), "learning_rate": rate, "weight_decay": 0.0, "logging_steps": 1,
        "save_strategy": "steps", "save_steps": save_every, "save_total_limit": 2, "report_to": [], "seed": seed,
        "data_seed": seed, "use_cpu": not cuda, "bf16": cuda, "fp16": False, "disable_tqdm": True,
        "gradient_checkpointing": False, "dataloader_pin_memory": cuda, "remove_unused_columns": False,
        "max_grad_norm": 1.0,
    }  # fmt: skip


def _run(trainer: Any, folder: Path) -> None:
    """Train, from the last whole checkpoint if there is one."""
    from transformers import PrinterCallback
    from transformers.trainer_utils import get_last_checkpoint

    trainer.remove_callback(PrinterCallback)
    place = folder / "checkpoints"
    last = get_last_checkpoint(str(place)) if place.is_dir() else None
    trainer.train(resume_from_checkpoint=last)


def _told_class() -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):  # type: ignore[misc]
        """Progress, and the log as lines of JSON that survive a cut."""

        def __init__(self, name: str, folder: Path) -> None:
            self.name, self.path = name, folder / LOG
            self.bar: Progress | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = Progress(state.max_steps, self.name, "steps", done=state.global_step)
            self.bar.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.bar is not None:
                self.bar.advance(1)
            if state.global_step >= state.max_steps:
                control.should_save = False  # going on from the last step, transformers would take one more

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            lines = [json.dumps(entry) for entry in state.log_history]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(self.path, ("\n".join(lines) + "\n").encode())

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if self.bar is not None:
                self.bar.__exit__(None, None, None)

    return Told


def _teller(name: str, folder: Path) -> Any:
    return _told_class()(name, folder)
