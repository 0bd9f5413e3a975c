"""Artefact folders: written whole or not at all, each with a manifest that can reproduce it.

A stage writes into a temporary sibling and renames it at the end, so a folder that exists is
complete. ``manifest.json`` names inputs, settings, code, seed, machine, timings and metrics.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshelf import __version__
from moonshelf.errors import InputError

if TYPE_CHECKING:
    import polars as pl

MANIFEST = "manifest.json"


def full_disk(path: Path) -> InputError:
    """The clear line for a disk that filled up while ``path`` was written."""
    return InputError(
        "the disk is full",
        where=str(path),
        mend="free some space or choose another folder, then run it again",
    )


def refuse_strangers(path: Path, marks: Sequence[str] = (MANIFEST,)) -> None:
    """Refuse to take a place that holds something else than an artefact of ours (a folder with one of ``marks``).

    Raises:
        InputError: a file is there, or a folder that is not empty and has none of the marks.
    """
    if path.is_dir():
        if any((path / mark).is_file() for mark in marks) or not any(path.iterdir()):
            return
    elif not path.exists():
        return
    raise InputError(
        "something else is here already and would be replaced",
        where=str(path),
        mend="choose another work folder, or move it away",
    )


def _sweep(path: Path) -> None:
    """Clear up after processes that were killed: half-written folders go, one that was set aside comes back."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        number, _, kind = left.name[len(path.name) + 2 :].partition(".")
        if not number.isdigit() or kind not in ("partial", "old") or _alive(int(number)):
            continue
        if kind == "old" and not path.exists():
            left.rename(path)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process != os.getpid()


@contextlib.contextmanager
def atomic_folder(path: Path, marks: Sequence[str] | None = None) -> Iterator[Path]:
    """Yield a temporary sibling folder; on success it replaces ``path`` in one rename.

    On any error the temporary folder is removed and what was at ``path`` stays as it was.

    Args:
        marks: files of which a folder at ``path`` must hold one to be replaced; None replaces whatever is there.

    Raises:
        InputError: the disk is full, the parent cannot be written, or a stranger's folder is at ``path``.
    """
    path = path.absolute()
    if marks is not None:
        refuse_strangers(path, marks)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        _undo(path, temporary)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(path) from error
        ours = str(error.filename or path).startswith(str(path.parent))  # not a file that was to be read
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and ours:
            raise InputError(
                "cannot write here", where=str(path), mend="choose a folder you may write to"
            ) from error
        raise
    except BaseException:
        _undo(path, temporary)
        raise


def _undo(path: Path, temporary: Path) -> None:
    """What was set aside comes back, what was half written goes."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(temporary, ignore_errors=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file whole: temporary sibling, fsync, rename.

    Raises:
        InputError: the disk is full.
    """
    # threads of one process may write the same file, too
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(path) from error
        raise


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as Parquet.

    Raises:
        OSError: the disk is full (Polars reports that as an error of computation), or any other I/O error.
    """
    from polars.exceptions import PolarsError

    try:
        frame.write_parquet(path)
    except PolarsError as error:
        for code in (errno.ENOSPC, errno.EDQUOT):
            if f"os error {code}" in str(error):
                raise OSError(code, os.strerror(code)) from error
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    atomic_write(path, (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode())


def digest(value: Any) -> str:
    """16 hex digits that identify a JSON-like value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """16 hex digits of the bytes of a file; "missing" when there is none (what opens it then says so)."""
    if not path.is_file():
        return "missing"
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]


@lru_cache(maxsize=1)
def code_version() -> str:
    """``version+commit`` (with ``.dirty``) of a checkout, or the plain version when installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{commit.stdout.strip()}{'.dirty' if dirty.stdout.strip() else ''}"


def peak_memory() -> float:
    """The most that this process has held, in GB; NaN where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told / (1e9 if sys.platform == "darwin" else 1e6)


def machine() -> dict[str, Any]:
    """What the work ran on, without names: cores, platform, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "system": platform.system(),
        "cpu": platform.machine(),
        "python": platform.python_version(),
    }


def write_manifest(
    folder: Path,
    *,
    stage: str,
    inputs: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    seed: int | None = None,
    seconds: float | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write ``manifest.json`` into ``folder`` and return it.

    ``key`` identifies (stage, inputs, config, seed): a later run with the same key may skip the stage.
    """
    manifest = {
        "stage": stage,
        "key": digest([stage, dict(inputs or {}), dict(config or {}), seed]),
        "inputs": dict(inputs or {}),
        "config": dict(config or {}),
        "seed": seed,
        "code": code_version(),
        "machine": machine(),
        "seconds": None if seconds is None else round(seconds, 2),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "metrics": dict(metrics or {}),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of an artefact folder, or None when there is none.

    Raises:
        InputError: the file is there but is not JSON.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "the manifest cannot be read", where=str(path), mend="delete the folder and run its stage again"
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            "the manifest is not an object", where=str(path), mend="delete the folder and run its stage again"
        )
    return value
