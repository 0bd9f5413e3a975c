"""The training loop that both stages share: steps, logs, validation, early stop, exact resume."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.progress import Progress, say
from moonshelf.training.checkpoint import Checkpoint, drop_checkpoints, load_checkpoint, save_checkpoint
from moonshelf.training.config import LoopConfig, OptimConfig
from moonshelf.training.distributed import agreed, average_gradients, in_turn, wait
from moonshelf.training.gather import world
from moonshelf.training.runlog import RunLog
from moonshelf.training.sampler import step_seed
from moonshelf.training.shard import (
    clip_gradients,
    like,
    local,
    shard,
    take,
    take_optimiser,
    whole,
    whole_optimiser,
)
from moonshelf.workspace import digest

BatchT = TypeVar("BatchT")
Validate = Callable[[CompactEncoder], dict[str, float]]
"""Val metrics of an encoder. The first key is the one that early stopping maximises; later ones break ties."""
_PREFETCH = 2


class Stage(Protocol[BatchT]):
    """What a training stage adds to the loop."""

    name: str
    seed: int
    optim: OptimConfig
    loop: LoopConfig
    steps_per_epoch: int

    def identity(self) -> dict[str, Any]:
        """Settings and data that a checkpoint belongs to."""
        ...

    def prepare(self, step: int) -> BatchT:
        """The batch of a step, a pure function of (seed, step); runs in another thread."""
        ...

    def loss(self, encoder: CompactEncoder, batch: BatchT, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and what to log."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the stage itself (temperatures)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What must survive a restart besides the weights."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take ``state`` back."""
        ...


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a stage went. ``best`` is the validation record whose weights the encoder now holds."""

    steps: int
    seconds: float
    best: dict[str, float]
    history: list[dict[str, float]]
    stopped_early: bool


def freeze(encoder: CompactEncoder, config: OptimConfig) -> None:
    """Gradients for the parts that learn, none for those whose rate is 0."""
    rates = {"trunk": config.trunk_lr, "text": config.text_lr, "head": config.head_lr}
    for part, _, parameter in encoder.parameter_groups():
        parameter.requires_grad_(rates[part] > 0)


def make_optimiser(
    encoder: CompactEncoder, extra: list[nn.Parameter], config: OptimConfig
) -> torch.optim.AdamW:
    """AdamW with one learning rate a part; vectors (biases, norms, temperatures) are not decayed."""
    rates = {"trunk": config.trunk_lr, "text": config.text_lr, "head": config.head_lr}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for part, _, parameter in encoder.parameter_groups():
        if rates[part] > 0:
            groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    sets: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rates[part],
            "peak": rates[part],
            "weight_decay": config.weight_decay * matrix,
        }
        for (part, matrix), parameters in sorted(groups.items())
    ]
    sets.append({"params": extra, "lr": config.head_lr, "peak": config.head_lr, "weight_decay": 0.0})
    return torch.optim.AdamW(sets, betas=(0.9, 0.98))


def rate_at(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine to zero."""
    first = max(1, round(total * warmup))
    if step < first:
        return (step + 1) / first
    return 0.5 * (1 + math.cos(math.pi * (step - first) / max(1, total - first)))


def total_steps(loop: LoopConfig, steps_per_epoch: int) -> int:
    """Optimiser steps of a stage."""
    return loop.max_steps or max(1, round(loop.epochs * steps_per_epoch))


def _prefetched(stage: Stage[BatchT], first: int, last: int) -> Iterator[tuple[int, BatchT]]:
    # One thread for the tensor operations of a batch: two teams of threads on the same cores wait for each other, and
    # steps took 10% longer than without any preparation ahead (docs/LOG.md, E17). The calling thread keeps its own.
    alone = partial(torch.set_num_threads, 1)
    with ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=alone) as pool:
        waiting: list[Future[BatchT]] = [
            pool.submit(stage.prepare, s) for s in range(first, min(first + _PREFETCH, last))
        ]
        try:
            for step in range(first, last):
                batch = waiting.pop(0).result()
                if step + _PREFETCH < last:
                    waiting.append(pool.submit(stage.prepare, step + _PREFETCH))
                yield step, batch
        finally:
            for future in waiting:
                future.cancel()


class _Run(Generic[BatchT]):
    """One run of the loop: the pieces that a checkpoint gathers."""

    def __init__(
        self, encoder: CompactEncoder, stage: Stage[BatchT], folder: Path, validate: Validate | None
    ) -> None:
        self.plain, self.stage, self.folder, self.validate = encoder, stage, folder, validate
        freeze(encoder, stage.optim)
        self.cut = stage.optim.shard and world()[1] > 1
        self.encoder = encoder
        if self.cut:
            self.encoder = copy.deepcopy(encoder)
            shard(self.encoder, self.encoder.fusion)
        self.total = total_steps(stage.loop, stage.steps_per_epoch)
        self.every = max(1, round(stage.loop.evaluate_every * stage.steps_per_epoch))
        self.optimiser = make_optimiser(self.encoder, stage.parameters(), stage.optim)
        # the version covers shape and starting weights: a checkpoint of another start is refused
        asked = getattr(validate, "identity", "")  # the best so far counts on the same val queries alone
        self.key = digest([stage.name, stage.identity(), encoder.version, asked])
        self.mean: dict[str, Tensor] | None = None
        if stage.optim.average:
            self.mean = {k: v.detach().clone() for k, v in self.encoder.named_parameters() if v.requires_grad}
        self.best: tuple[float, ...] = ()
        self.best_model: dict[str, Tensor] | None = None
        self.stale = 0
        self.history: list[dict[str, float]] = []
        self.begun = self.saved_at = time.monotonic()
        self.before = 0.0  # seconds that earlier processes spent on this run

    def seconds(self) -> float:
        """Seconds spent so far, those of earlier processes included (up to their last checkpoint)."""
        return self.before + time.monotonic() - self.begun

    def resume(self) -> int:
        """Load the checkpoint if there is one; the step to go on from."""
        found = load_checkpoint(self.folder, self.key)
        if found is None:
            return 0
        take(self.encoder, found.model)
        take_optimiser(self.optimiser, found.optimiser)
        self.stage.load_state(found.stage)
        if self.mean is not None and found.average is not None:
            for name, value in self.mean.items():
                value.copy_(like(found.average[name], value))
        self.best, self.best_model = tuple(found.best), found.best_model
        self.stale, self.history, self.before = found.stale, found.history, found.seconds
        return found.step

    def save(self, step: int) -> None:
        """Write the state after ``step`` steps; rank 0's is everybody's."""
        self.saved_at = time.monotonic()
        model, optimiser, average = self.encoder.state_dict(), self.optimiser.state_dict(), self.mean
        if self.cut:  # all processes bring their pieces
            model, optimiser = whole(model), whole_optimiser(optimiser)
            average = None if average is None else whole(average)
        if world()[0]:
            return
        save_checkpoint(
            Checkpoint(
                step=step,
                config_key=self.key,
                model=model,
                stage=self.stage.state(),
                optimiser=optimiser,
                average=average,
                best_model=self.best_model,
                best=self.best,
                stale=self.stale,
                history=self.history,
                seconds=self.seconds(),
            ),
            self.folder,
        )

    def evaluate(self, step: int, log: RunLog | None) -> None:
        """Validate the running mean of the weights, keep the best one."""
        if self.validate is None:
            return
        with self.averaged():
            if self.cut:
                take(self.plain, whole(self.encoder.state_dict()))
            values = agreed({} if world()[0] else self.validate(self.plain))
            self._judge(step, values, log)

    def _judge(self, step: int, values: dict[str, float], log: RunLog | None) -> None:
        if log is not None:
            log.write(step, "val", values)
        self.history.append({"step": float(step), **values})
        score = tuple(values.values())
        if not self.best or score > self.best:
            self.best, self.stale = score, 0
            self.best_model = {k: v.detach().cpu().clone() for k, v in self.plain.state_dict().items()}
        else:
            self.stale += 1

    def _finite(self, what: str, value: Tensor, step: int) -> None:
        if not bool(torch.isfinite(value)):
            raise InputError(
                f"the {what} of {self.stage.name} is {value.item()} at step {step}",
                where=str(self.folder),
                mend="lower the learning rates (optim.*_lr), or use precision fp32",
            )

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The encoder with the mean of its weights (Polyak averaging); its own come back at the end."""
        if self.mean is None:
            yield
            return
        own = {k: v.detach().clone() for k, v in self.encoder.named_parameters() if k in self.mean}
        self.put(self.mean)
        try:
            yield
        finally:
            self.put(own)

    @torch.no_grad()
    def put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.encoder.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])

    @torch.no_grad()
    def _follow(self, step: int) -> None:
        """``mean += (1 - decay) (weights - mean)``; the decay grows from .1, so the start is soon forgotten."""
        if self.mean is None:
            return
        decay = min(self.stage.optim.average, (1 + step) / (10 + step))
        names = [k for k in self.mean]
        now = dict(self.encoder.named_parameters())
        torch._foreach_lerp_([local(self.mean[k]) for k in names], [local(now[k]) for k in names], 1 - decay)

    def step(self, step: int, batch: BatchT) -> dict[str, float]:
        """One optimiser step; what to log."""
        optim = self.stage.optim
        share = rate_at(step, self.total, optim.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share
        device = self.encoder.class_anchors.device
        gpus = [device] if device.type == "cuda" else []
        with (
            torch.random.fork_rng(gpus),
            torch.autocast(device.type, torch.bfloat16, enabled=optim.precision == "bf16"),
        ):
            # what a tower draws (dropout) is a function of the step, as batches are, so no random state is stored
            torch.manual_seed(step_seed(self.stage.seed, f"{self.stage.name} towers", step, world()[0]))
            loss, values = self.stage.loss(self.encoder, batch, step)
        self._finite("loss", loss, step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        average_gradients(parameters)
        norm = (clip_gradients if self.cut else torch.nn.utils.clip_grad_norm_)(parameters, optim.clip)
        self._finite("gradient", norm, step)
        self.optimiser.step()
        self._follow(step)
        return {"loss": loss.item(), "gradient_norm": float(norm), "rate": share, **values}


def train(
    encoder: CompactEncoder,
    stage: Stage[BatchT],
    folder: Path,
    *,
    validate: Validate | None = None,
    resume: bool = True,
) -> TrainResult:
    """Run a stage to its end, from its checkpoint when there is one.

    Args:
        encoder: trained in place; at the end it holds the weights that were best on val.
        stage: see :class:`Stage`.
        folder: gets the last two checkpoints (removed at the end by the caller), ``log.jsonl``, TensorBoard files.
        validate: metrics on val; None trains to the last step and keeps the last weights. What is validated and
            kept is the running mean of the weights (Polyak and Juditsky 1992), unless ``optim.average`` is 0: it
            swings less from one validation to the next than the weights do.
        resume: False starts again even if there is a checkpoint.

    On a CPU with the same number of threads and processes, a run that was killed and resumed ends with the same
    bytes as one that was not. Several processes share one run (see ``distributed``); rank 0 validates, logs and writes.
    """
    rank = world()[0]
    with in_turn():
        folder.mkdir(parents=True, exist_ok=True)
        if not resume and not rank:
            drop_checkpoints(folder)
    run = _Run(encoder, stage, folder, validate)
    first = run.resume()
    loop = stage.loop
    wait()  # all have read the checkpoint
    with (
        contextlib.nullcontext() if rank else RunLog(folder, first, stage.name) as log,
        Progress(run.total, stage.name, "steps", first) as progress,
    ):
        if first:
            say(f"{stage.name}: resumed at step {first} of {run.total}")
        else:
            run.evaluate(0, log)
        step = first - 1
        stopped = bool(loop.patience) and run.stale >= loop.patience
        run.encoder.train()
        if not stopped:
            for step, batch in _prefetched(stage, first, run.total):
                values = run.step(step, batch)
                if log is not None:
                    log.write(step + 1, "train", {**values, "epoch": step // stage.steps_per_epoch})
                progress.advance(1, _note(values, run))
                due = (step + 1) % run.every == 0 or step + 1 == run.total
                if due:
                    run.evaluate(step + 1, log)
                    run.encoder.train()
                stopped = bool(loop.patience) and run.stale >= loop.patience
                by_steps = loop.checkpoint_steps and (step + 1) % loop.checkpoint_steps == 0
                by_time = time.monotonic() - run.saved_at > loop.checkpoint_seconds
                if by_steps or stopped or (agreed(by_time) if run.cut else by_time):
                    run.save(step + 1)
                if stopped:
                    break
    encoder.eval()
    if run.best_model is not None:
        encoder.load_state_dict(run.best_model)
    elif run.cut:
        with run.averaged():
            take(encoder, whole(run.encoder.state_dict()))
    elif run.mean is not None:
        run.put(run.mean)
    best = max(run.history, key=lambda r: tuple(v for k, v in r.items() if k != "step"), default={})
    return TrainResult(step + 1, run.seconds(), best, run.history, stopped)


def _note(values: dict[str, float], run: _Run[BatchT]) -> str:
    recall = ""
    if run.history:
        name = next(k for k in run.history[-1] if k != "step")
        recall = f", val {name} {run.history[-1][name]:.3f} (best {run.best[0]:.3f})"
    return f"loss {values['loss']:.3f}{recall}"
