"""What the fast selector reads of a creative, in blocks: frozen vectors, waves over them, measures, hashed words.

``waves`` are random Fourier features (Rahimi & Recht 2007), ``sqrt(2 / D) cos(W v + b)`` of unit vectors v, whose dot
products approach ``exp((cos(v, v') - 1) / WIDTH)``: a smooth function of the vector where a linear one is too stiff.
``ngrams`` are words and pairs of neighbours, hashed to cells (Weinberger et al. 2009), 1 where they occur.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from moonshelf.creative.measures import NAMES, Seen
from moonshelf.encoder.efficientnet import CHANNELS
from moonshelf.encoder.sentence import TOKEN_WIDTH
from moonshelf.shop.splits import plain_text

WIDTH = 0.3  # of the waves' kernel, as a difference of cosines
WAVES = 1536
CELLS = 8192
BLOCKS = ("sentence", "tokens", "waves", "ngrams", "measures", "picture", "picture_waves")


def block(name: str, seen: Seen, texts: Sequence[str], seed: int = 0) -> np.ndarray:
    """One block ``[N, D]`` float32, not yet scaled.

    Args:
        name: one of ``BLOCKS``.
        texts: of the creatives, "" without words; ``ngrams`` reads them.
        seed: of the waves.
    """
    if name == "sentence":
        return seen.text[:, :TOKEN_WIDTH]
    if name == "tokens":
        return _unit(seen.text[:, TOKEN_WIDTH:])
    if name == "waves":
        return waves(_unit(seen.text[:, TOKEN_WIDTH:]), seed)
    if name == "ngrams":
        return ngrams(texts)
    if name == "measures":
        return seen.measures.astype(np.float32)
    if name == "picture":
        return seen.image
    if name == "picture_waves":
        return waves(_unit(seen.image[:, :CHANNELS]), seed + 1)
    raise ValueError(f"no block {name!r}; there are {', '.join(BLOCKS)}")


def width_of(name: str, encoder_width: int) -> int:
    """Number of columns of a block."""
    return {
        "sentence": TOKEN_WIDTH, "tokens": TOKEN_WIDTH, "waves": WAVES, "ngrams": CELLS, "measures": len(NAMES),
        "picture": CHANNELS + encoder_width, "picture_waves": WAVES,
    }[name]  # fmt: skip


def waves(vectors: np.ndarray, seed: int) -> np.ndarray:
    """``[N, WAVES]`` of unit rows; rows of zeros give zeros."""
    directions, shifts = _draw(vectors.shape[1], seed)
    out = np.cos(vectors @ directions + shifts) * np.float32(np.sqrt(2 / WAVES))
    found: np.ndarray = np.where(vectors.any(1, keepdims=True), out, np.float32(0)).astype(np.float32)
    return found


@lru_cache(maxsize=8)
def _draw(width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, width))
    # |v - v'|^2 = 2 (1 - cos), so exp((cos - 1) / WIDTH) is a Gaussian of variance WIDTH
    directions = rng.normal(0, 1 / np.sqrt(WIDTH), (width, WAVES)).astype(np.float32)
    return directions, rng.uniform(0, 2 * np.pi, WAVES).astype(np.float32)


def ngrams(texts: Sequence[str]) -> np.ndarray:
    """``[N, CELLS]`` float32 of 0 and 1: words, marks and their neighbours, whatever their case."""
    out = np.zeros((len(texts), CELLS), dtype=np.float32)
    for row, text in enumerate(texts):
        parts = pieces(text)
        for gram in (*parts, *(f"{x} {y}" for x, y in pairwise(parts))):
            out[row, zlib.crc32(gram.encode()) % CELLS] = 1.0
    return out


def pieces(text: str) -> list[str]:
    """Words with their apostrophes, numbers, and single marks; plain text."""
    out: list[str] = []
    word = ""
    plain = plain_text(text).replace("’", "'")
    for before, c, after in zip(" " + plain, plain, plain[1:] + " ", strict=False):
        inside = c.isalnum() or (c in "'$%" and (before.isalnum() or after.isalnum()))
        if inside:
            word += c
            continue
        if word:
            out.append(word)
            word = ""
        if not c.isspace():
            out.append(c)
    return [*out, word] if word else out


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: np.ndarray = rows / np.maximum(length, 1e-9)
    return found
