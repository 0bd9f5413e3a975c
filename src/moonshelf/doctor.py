"""``moonshelf doctor``: what is installed, what is broken, and how to mend it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, what was seen, what to do."""

    level: Level
    what: str
    seen: str
    mend: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}[self.level]
        return f"{mark}  {self.what:<22} {self.seen}" + (f"\n         -> {self.mend}" if self.mend else "")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu_present() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


def _torch() -> Iterator[Finding]:
    version = _version("torch")
    if version is None:
        yield Finding(
            "problem",
            "torch",
            "not installed",
            "pip install 'torch>=2.6,<2.14' (see README for the CPU build)",
        )
        return
    try:
        import torch
    except Exception as error:  # a broken build can raise anything
        yield Finding(
            "problem", "torch", f"{version} does not import: {error}", "make a new environment: make install"
        )
        return
    cuda = torch.cuda.is_available()
    place = f"GPU {torch.cuda.get_device_name(0)}" if cuda else f"CPU, {torch.get_num_threads()} threads"
    yield Finding("ok", "torch", f"{version} on {place}")
    wheels = sorted(
        d.name for d in importlib.metadata.distributions() if d.name and d.name.startswith("nvidia-")
    )
    if wheels and not cuda and not _gpu_present():
        yield Finding(
            "problem",
            "CUDA wheels",
            f"{len(wheels)} nvidia packages, but no GPU: gigabytes for nothing",
            "make a new environment with TORCH_INDEX=https://download.pytorch.org/whl/cpu make install",
        )
    if _gpu_present() and not cuda:
        yield Finding(
            "note", "GPU", "there is one, but this torch cannot use it", "install the CUDA build of torch"
        )


def _torchvision() -> Iterator[Finding]:
    version = _version("torchvision")
    if version is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # the usual one: operator torchvision::nms does not exist
        yield Finding(
            "problem",
            "torchvision",
            f"{version} is installed but broken ({str(error).splitlines()[0][:80]}); transformers fails beside it",
            "pip uninstall torchvision (moonshelf does not use it)",
        )
    else:
        yield Finding("note", "torchvision", f"{version} works; moonshelf does not use it")


def _weights() -> Iterator[Finding]:
    from moonshelf.encoder import weights
    from moonshelf.errors import InputError

    for file in weights.ALL:
        try:
            weights.locate(file)
        except InputError as error:
            yield Finding("problem", "weights", str(error))
        else:
            yield Finding("ok", "weights", f"{Path(file.path).name} ({file.package}, {file.licence})")


def _machine() -> Iterator[Finding]:
    yield Finding("ok", "Python", platform.python_version())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        level: Level = "ok" if memory >= 4 else "problem"
        yield Finding(
            level,
            "machine",
            f"{cores} cores, {memory:.0f} GB memory",
            "" if memory >= 4 else "4 GB are needed",
        )
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= 2
    yield Finding(
        "ok" if enough else "problem", "disk", f"{free:.0f} GB free here", "" if enough else "free some space"
    )


def _packages() -> Iterator[Finding]:
    for package in ("numpy", "pillow", "pyarrow", "polars", "safetensors", "faiss-cpu"):
        version = _version(package)
        if version is None:
            yield Finding("problem", package, "not installed", f"pip install {package}")
        else:
            yield Finding("ok", package, version)
    if _version("tensorboard") is None:
        yield Finding(
            "note",
            "tensorboard",
            "not installed; training writes log.jsonl only",
            "pip install 'moonshelf[tensorboard]'",
        )


def examine() -> list[Finding]:
    """Everything the doctor looks at, in the order of the printout."""
    findings: list[Finding] = []
    for part in (_machine, _torch, _torchvision, _packages, _weights):
        try:
            findings.extend(part())
        except Exception as error:  # a doctor must outlive whatever is broken
            name = part.__name__.strip("_")
            findings.append(
                Finding("problem", name, f"could not be examined: {error}", "mend the problems above first")
            )
    return findings
