"""Checkpoints: everything a run needs to go on as if it had never stopped, written whole or not at all.

Batches, views and what towers draw are functions of (seed, step), so no random state is stored: the step is enough.
The last two are kept: disks and file systems do lose what was said to be written, and then the run goes on from the
one before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.workspace import full_disk

FILE = "checkpoint.pt"
BEFORE = "checkpoint.before.pt"
DAMAGED = "checkpoint.damaged.pt"


_SEAL = 32  # bytes of SHA-256 behind the archive


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
    """Write ``checkpoint.pt`` through a temporary sibling, fsync and rename; the one there was becomes the one before.

    Raises:
        InputError: the disk is full; what there was is untouched.
    """
    path = folder / FILE
    temporary = folder / f".{FILE}.partial"
    value = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
    try:
        with temporary.open("wb") as handle:
            torch.save(value, handle)
        with temporary.open("rb+") as handle:  # the zip's own checksums leave out bytes of its directory
            seal = hashlib.file_digest(handle, "sha256").digest()
            handle.write(seal)
            handle.flush()
            os.fsync(handle.fileno())
        if path.exists():
            path.replace(folder / BEFORE)
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
            raise full_disk(path) from error
        raise


def has_checkpoint(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return any((folder / name).exists() for name in (FILE, BEFORE))


def drop_checkpoints(folder: Path) -> None:
    """Remove them, for a new start or after the end."""
    for name in (FILE, BEFORE, DAMAGED):
        (folder / name).unlink(missing_ok=True)


def load_checkpoint(folder: Path, config_key: str) -> Checkpoint | None:
    """The newest whole checkpoint in ``folder``, or None; every byte is checked against the checksum at its end.

    Raises:
        InputError: all are damaged, or the newest whole one belongs to other settings.
    """
    found = None
    damaged: Exception | None = None
    for path in (folder / FILE, folder / BEFORE):
        if not path.is_file():
            continue
        try:
            whole = path.read_bytes()
            payload, seal = memoryview(whole)[:-_SEAL], whole[-_SEAL:]
            if hashlib.sha256(payload).digest() != seal:
                raise ValueError("the checksum does not fit")
            found = Checkpoint(**torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True))
            break
        except Exception as error:  # a torn file can break the reader anywhere
            damaged = error
    if found is None and damaged is not None:
        raise InputError(
            "the checkpoint is damaged",
            where=str(folder / FILE),
            mend="delete it (and the one before) to start the stage again",
        ) from damaged
    if found is None:
        return None
    if found.config_key != config_key:
        raise InputError(
            "the checkpoint was made with other settings or data",
            where=str(path),
            mend="resume with the same settings, or delete it to start the stage again",
        )
    if damaged is not None:
        say(f"{folder / FILE}: damaged; going on from the checkpoint before it, step {found.step}")
        with contextlib.suppress(FileNotFoundError):  # another process has done it
            (folder / FILE).replace(
                folder / DAMAGED
            )  # or the next save would put it in the place of the whole one
    return found
