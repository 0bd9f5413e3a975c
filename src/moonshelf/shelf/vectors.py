"""Vectors as they are stored: cut to a width, and as f32, f16 or i8 with one scale a row."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from moonshelf.arrays import unit
from moonshelf.errors import InputError

Dtype = Literal["f32", "f16", "i8"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
NUMPY: dict[str, np.dtype[np.generic]] = {
    "f32": np.dtype("<f4"),
    "f16": np.dtype("<f2"),
    "i8": np.dtype("i1"),
}


def check_format(dim: int, dtype: str, widths: tuple[int, ...]) -> None:
    """Refuse a width the encoder was not trained to be cut at, or an unknown dtype.

    Raises:
        InputError: with the values that are allowed.
    """
    if dim not in widths:
        raise InputError(f"the encoder has no vectors of width {dim}", mend=f"choose one of {sorted(widths)}")
    if dtype not in DTYPES:
        raise InputError(f"unknown vector type {dtype!r}", mend=f"choose one of {', '.join(DTYPES)}")


def cut(rows: np.ndarray, dim: int) -> np.ndarray:
    """Matryoshka prefix of unit rows ``[N, W]``: the first ``dim`` entries, unit length again."""
    return rows if rows.shape[1] == dim else unit(rows[:, :dim])


def pack(rows: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Float32 rows ``[N, D]`` to stored form.

    Returns:
        ``[N, D]`` in the stored dtype and ``[N]`` float32 scales. i8 is symmetric a row:
        ``scale = max|x| / 127``, ``q = round(x / scale)``, so the error of an entry is at most ``scale / 2``.
        Scales of f32 and f16 are all one.
    """
    if dtype != "i8":
        return rows.astype(NUMPY[dtype]), np.ones(len(rows), dtype=np.float32)
    scale = (np.abs(rows).max(axis=1, initial=0.0) / 127).astype(np.float32)
    safe = np.where(scale > 0, scale, 1)[:, None]
    return np.clip(np.rint(rows / safe), -127, 127).astype(np.int8), scale


def unpack(stored: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """Stored rows to float32 unit rows.

    f16 and i8 are normalised again, as rounding changes a row's length and scores are to be cosines.
    """
    if stored.dtype == np.float32:
        return np.asarray(stored, dtype=np.float32)
    rows = stored.astype(np.float32)
    return unit(rows if scale is None else rows * scale[:, None])
