"""Encoders on disk: ``encoder.json`` beside ``model.safetensors`` (no pickle), and finding one by path or name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from moonshelf.encoder.compact import CompactConfig, CompactEncoder
from moonshelf.errors import InputError
from moonshelf.workspace import atomic_write, write_json

CONFIG_FILE, WEIGHTS_FILE = "encoder.json", "model.safetensors"


def save_encoder(encoder: CompactEncoder, folder: Path) -> None:
    """Write an encoder into an existing folder: its shape and its weights (the published token table excluded).

    Raises:
        InputError: the disk is full.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    atomic_write(folder / WEIGHTS_FILE, save(state))
    config = {"kind": "compact", "version": encoder.version, **dataclasses.asdict(encoder.config)}
    write_json(folder / CONFIG_FILE, config)


def find_encoder(path: str | Path) -> Path:
    """The folder that holds ``encoder.json``: the path itself, or ``encoder/`` inside a work folder.

    Raises:
        InputError: there is none.
    """
    root = Path(path)
    for candidate in (root, root / "encoder"):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    raise InputError(
        "there is no encoder here",
        where=str(path),
        mend="give a work folder that was trained, its encoder folder, or the name compact",
    )


def load_encoder(path_or_name: str | Path, device: str = "cpu") -> CompactEncoder:
    """Load a trained encoder, or ``"compact"`` for the untrained, anchored one.

    Raises:
        InputError: no encoder at the path, a damaged file, or settings this version does not know.
    """
    if str(path_or_name) == "compact":
        return CompactEncoder.untrained().to(device)
    folder = find_encoder(path_or_name)
    try:
        settings = json.loads((folder / CONFIG_FILE).read_text())
        kind, version = settings.pop("kind"), settings.pop("version")
        settings["widths"] = tuple(settings["widths"])
        config = CompactConfig(**settings)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the encoder's settings cannot be read: {error}",
            where=str(folder / CONFIG_FILE),
            mend="train it again",
        ) from error
    if kind != "compact":
        raise InputError(f"unknown kind of encoder {kind!r}", where=str(folder), mend="update moonshelf")
    encoder: CompactEncoder = CompactEncoder(config)
    try:
        encoder.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the weights cannot be read: {reason}", where=str(folder / WEIGHTS_FILE), mend="train it again"
        ) from error
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if encoder.version != version:
        raise InputError(
            f"weights and settings do not belong together (version {encoder.version}, expected {version})",
            where=str(folder),
            mend="copy the whole encoder folder again",
        )
    encoder.eval().to(device)
    return encoder
