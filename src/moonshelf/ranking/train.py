"""Training of click models: user-grouped batches, lazy table updates, early stopping on GAUC, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.errors import InputError, TooLittleData
from moonshelf.evaluation.clicks import Scored, user_aucs
from moonshelf.progress import Progress, say
from moonshelf.ranking.batches import ClickBatch, ClickBatches
from moonshelf.ranking.debias import Contrast, DebiasConfig
from moonshelf.ranking.models.click_model import ClickModel
from moonshelf.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from moonshelf.training.runlog import RunLog
from moonshelf.training.sampler import step_seed
from moonshelf.workspace import digest

STAGE = "ranking"
PLACES = 30.0  # times the rate for what places are worth


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickTrainConfig:
    """How a click model learns.

    Attributes:
        batch: rows a step.
        epochs: at most; click models often begin to memorise in the second.
        rate: of Adam on everything but the id tables. table_rate: of the rows of the id tables.
        decay: weight decay of the former.
        clip: largest norm of all gradients together (FuxiCTR: 10).
        patience: epochs without a better GAUC on val before it stops; 0: never.
        precision: bf16 autocast of the network; tables stay float32.
        checkpoint_seconds: between checkpoints.
        debias: how the debiasing network learns, of a model that has one.
    """

    batch: int = 1024
    epochs: int = 5
    rate: float = 1e-3
    table_rate: float = 1e-3
    decay: float = 0.0
    clip: float = 10.0
    patience: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_seconds: float = 60.0
    debias: DebiasConfig = field(default_factory=DebiasConfig)


@dataclass(frozen=True, slots=True)
class ClickTrained:
    """How it went; the model holds the weights best on val.

    Attributes:
        best: ``gauc`` and ``auc`` on val, first label. history: of each epoch.
    """

    best: dict[str, float]
    history: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


def train_clicks(
    model: ClickModel,
    train: ClickBatches,
    val: ClickBatches,
    config: ClickTrainConfig,
    folder: Path,
    *,
    seed: int = 0,
    resume: bool = True,
    mark: str = "",
) -> ClickTrained:
    """Train ``model`` in place, logging into ``folder``.

    Loss: mean over labels of the weighted binary cross-entropy, and with a debiasing network ``debias.weight`` times
        its
    contrast (``ranking.debias``), whose partners are chosen anew every epoch. Batches are a function of (seed,
    epoch) and hidden ids one of (seed, step), so a run that was stopped ends with the same bytes on a CPU.

    Args:
        mark: what the data is (a digest of shop, vectors, cuts), so that a checkpoint of other data is refused.

    Raises:
        TooLittleData: all labels of the rows to learn from are alike.
        InputError: the loss is not finite, or the checkpoint is of other settings.
    """
    labels = train.rows.clicked(model.config.labels[0])
    if labels.all() or not labels.any():
        raise TooLittleData(
            f"all {len(labels):,} rows to learn from have the same label {model.config.labels[0]}",
            mend="name another label, or add rows",
        )
    folder.mkdir(parents=True, exist_ok=True)
    key = digest([STAGE, asdict(config), asdict(model.config), asdict(model.sizes), seed, mark])
    quick = [p for name, p in model.named_parameters() if name.startswith(("examination.", "offset."))]
    fast = {id(p) for p in quick}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in fast]},
        # a handful of numbers that every row speaks of, on the scale of logits
        {"params": quick, "lr": PLACES * config.rate, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(
        groups if quick else groups[:1], lr=config.rate, weight_decay=config.decay, fused=True
    )
    contrast = Contrast(train, config.debias) if model.debias is not None else None
    begun, spent, step = time.monotonic(), 0.0, 0
    history: list[dict[str, float]] = []
    best: dict[str, float] = {}
    best_model: dict[str, Tensor] | None = None
    stale, losses = 0, list[float]()  # of the epoch that is under way
    found = load_checkpoint(folder, key) if resume else None
    if found is not None:
        model.load_state_dict(found.model)
        optimiser.load_state_dict(found.optimiser)
        _load_tables(model, found.stage)
        step, stale, spent, history = found.step, found.stale, found.seconds, found.history
        best_model, best = found.best_model, dict(zip(("gauc", "auc"), found.best, strict=False))
        losses = found.stage["losses"].tolist()
        if contrast is not None:
            contrast.load_state(found.stage["partners"])
    each = -(-len(train) // config.batch)
    total, saved = each * config.epochs, time.monotonic()
    stopped = bool(config.patience) and stale >= config.patience

    def save() -> None:
        stage = _tables(model) | {"losses": torch.tensor(losses)}
        if contrast is not None:
            stage["partners"] = contrast.state()
        save_checkpoint(
            Checkpoint(
                step, key, model.state_dict(), stage, optimiser.state_dict(), None, best_model,
                tuple(best.values()), stale, history, spent + time.monotonic() - begun,
            ),
            folder,
        )  # fmt: skip

    with RunLog(folder, step, STAGE) as log, Progress(total, STAGE, done=step) as bar:
        while step < total and not stopped:
            epoch, at = divmod(step, each)
            model.train()
            if contrast is not None and not at:
                contrast.refresh(model)
            for batch in _ahead(train, train.epoch(config.batch, _rng(seed, epoch))[at:]):
                loss = _step(
                    model,
                    optimiser,
                    batch,
                    config,
                    torch.Generator().manual_seed(step_seed(seed, STAGE, step)),
                    None if contrast is None else partial(contrast.loss, seed=step_seed(seed, "pairs", step)),
                )
                if not np.isfinite(loss):
                    raise InputError(
                        f"the loss is {loss} at step {step}",
                        where=str(folder),
                        mend="lower the rate, or look at the features",
                    )
                step += 1
                losses.append(loss)
                bar.advance(1, note=f"loss {np.mean(losses[-50:]):.4f}")
                if step % each and time.monotonic() - saved > config.checkpoint_seconds:
                    save()
                    saved = time.monotonic()
            values = validate(model, val, config.batch)
            history.append({"epoch": float(epoch + 1), "loss": float(np.mean(losses)), **values})
            log.write(step, "train", {"loss": float(np.mean(losses)), "epoch": epoch + 1})
            losses = []
            log.write(step, "val", values)
            if not best or values["gauc"] > best["gauc"]:
                best, stale = values, 0
                best_model = {name: value.clone() for name, value in model.state_dict().items()}
            else:
                stale += 1
            stopped = bool(config.patience) and stale >= config.patience
            save()
            saved = time.monotonic()
    if best_model is not None:
        model.load_state_dict(best_model)
    model.eval()
    seconds = spent + time.monotonic() - begun
    say(
        f"{STAGE}: {step} steps, val GAUC {best.get('gauc', float('nan')):.4f}, AUC {best.get('auc', float('nan')):.4f}"
    )
    return ClickTrained(best, history, step, seconds, stopped)


def _step(
    model: ClickModel,
    optimiser: torch.optim.Optimizer,
    batch: ClickBatch,
    config: ClickTrainConfig,
    generator: torch.Generator,
    contrast: Callable[[ClickModel], Tensor] | None = None,
) -> float:
    device = model.heads.weight.device
    batch = batch.to(device)
    # dropout draws from torch's own generator: a function of the step too, or a resumed run would end elsewhere
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(generator.initial_seed())
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = model(batch, generator)
    each = F.binary_cross_entropy_with_logits(logits.float(), model.targets(batch), reduction="none")
    loss = (each.mean(1) * batch.weight).sum() / batch.weight.sum().clamp(min=1e-6)
    clicks = float(loss.detach())
    if contrast is not None:
        loss = loss + config.debias.weight * contrast(model)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    grads += [grad for table in model.tables() for grad in table.gradients()]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    if norm > config.clip:
        for grad in grads:
            grad.mul_(config.clip / norm)
    optimiser.step()
    for table in model.tables():
        table.step(config.table_rate)
    return clicks if math.isfinite(float(loss.detach())) else math.nan


@torch.no_grad()
def score(model: ClickModel, batches: ClickBatches, size: int = 4096, *, placed: bool = True) -> np.ndarray:
    """``[N, labels]`` probabilities of all rows, in their own order; ``placed`` as in ``ClickModel.forward``."""
    was = model.training
    model.eval()
    device = model.heads.weight.device
    out = np.empty((len(batches), len(model.config.labels)), dtype=np.float32)
    try:
        parts = batches.epoch(size)
        for at, batch in zip(parts, _ahead(batches, parts), strict=True):
            out[at] = torch.sigmoid(model(batch.to(device), placed=placed).float()).cpu().numpy()
    finally:
        model.train(was)
    return out


def validate(model: ClickModel, batches: ClickBatches, size: int = 4096) -> dict[str, float]:
    """GAUC and AUC of the first label; 0.5 where no user (or nobody) has both."""
    name = model.config.labels[0]
    rows = Scored(score(model, batches, size)[:, 0], batches.rows.clicked(name), batches.rows.units())
    _, value, n = user_aucs(rows)
    everybody = Scored(rows.score, rows.label, np.zeros(len(rows.user), np.int64))
    _, whole, _ = user_aucs(everybody)
    return {
        "gauc": float((value * n).sum() / n.sum()) if len(n) else 0.5,
        "auc": float(whole[0]) if len(whole) else 0.5,
    }


def _ahead(batches: ClickBatches, parts: list[np.ndarray]) -> Iterator[ClickBatch]:
    """Batches in order, the next one made while one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="rows") as pool:
        coming = [pool.submit(batches.make, part) for part in parts[:1]]
        for number in range(len(parts)):
            batch = coming.pop().result()
            coming += [pool.submit(batches.make, part) for part in parts[number + 1 : number + 2]]
            yield batch


def _rng(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng(step_seed(seed, f"{STAGE} epoch", epoch))


def _tables(model: ClickModel) -> dict[str, Tensor]:
    return {
        f"{i}.{name}": value
        for i, table in enumerate(model.tables())
        for name, value in table.state().items()
    }


def _load_tables(model: ClickModel, state: dict[str, Any]) -> None:
    for i, table in enumerate(model.tables()):
        table.load_state(
            {name.removeprefix(f"{i}."): v for name, v in state.items() if name.startswith(f"{i}.")}
        )
