"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

Batches and views are functions of (seed, step), so no random state is stored: the step is enough.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moonshelf.errors import InputError
from moonshelf.workspace import full_disk

FILE = "checkpoint.pt"


@dataclass(slots=True)
class Checkpoint:
    """State after ``step`` optimiser steps."""

    step: int
    config_key: str
    model: dict[str, Tensor]
    stage: dict[str, Tensor]
    optimiser: dict[str, Any]
    average: dict[str, Tensor] | None = None  # running mean of the weights
    best_model: dict[str, Tensor] | None = None
    best: tuple[float, ...] = ()
    stale: int = 0  # evaluations since the best one
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0  # spent so far, in all processes that took part one after another


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write ``checkpoint.pt`` through a temporary sibling, fsync and rename.

    Raises:
        InputError: the disk is full; the previous checkpoint is untouched.
    """
    path = folder / FILE
    temporary = folder / f".{FILE}.partial"
    value = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    try:
        with temporary.open("wb") as handle:
            torch.save(value, handle)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (
        OSError,
        RuntimeError,
    ) as error:  # torch's writer reports a short write as a RuntimeError of its own
        temporary.unlink(missing_ok=True)
        short = isinstance(error, RuntimeError) and any(
            w in str(error) for w in ("Writer", "inline_container")
        )
        if short or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
            raise full_disk(error if isinstance(error, OSError) else OSError(str(error)), path) from error
        raise


def load_checkpoint(folder: Path, config_key: str) -> Checkpoint | None:
    """The checkpoint in ``folder``, or None.

    Raises:
        InputError: it is damaged, or belongs to other settings.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint = Checkpoint(**value)
    except Exception as error:  # a torn file can break the reader anywhere
        raise InputError(
            "the checkpoint is damaged", where=str(path), mend="delete it to start the stage again"
        ) from error
    if checkpoint.config_key != config_key:
        raise InputError(
            "the checkpoint was made with other settings or data",
            where=str(path),
            mend="resume with the same settings, or delete it to start the stage again",
        )
    return checkpoint
