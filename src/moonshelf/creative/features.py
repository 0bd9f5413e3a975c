"""What the fast selector reads of a creative, in blocks: frozen vectors, waves over them, measures, hashed words.

``waves`` are random Fourier features (Rahimi & Recht 2007), ``sqrt(2 / D) cos(W v + b)`` of unit vectors v, whose dot
products approach ``exp((cos(v, v') - 1) / WIDTH)``: a smooth function of the vector where a linear one is too stiff.
``measure_waves`` and ``layout_waves`` are the same of standardised numbers, by their mean squared difference;
``found_waves`` of size and place of the product where its own photo was found, ``match_waves`` of how well words
suit the searches.
``curves`` bend what a measure is worth (broken lines; ``additive``). ``ngrams`` are words and pairs of neighbours,
hashed to cells (Weinberger et al. 2009), 1 where they occur. ``language`` is what a frozen language model makes of the
words (``encoder.language``), where one was asked.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from moonshelf.creative.facts import INDEX, PHRASES
from moonshelf.creative.looks import GRID, LAYOUT
from moonshelf.creative.measures import NAMES, Seen
from moonshelf.encoder.efficientnet import CHANNELS
from moonshelf.encoder.sentence import TOKEN_WIDTH
from moonshelf.errors import InputError
from moonshelf.shop.splits import plain_text

WIDTH = 0.3  # of the waves' kernel, as a difference of cosines
MEASURE_WIDTH, LAYOUT_WIDTH = 3.0, 1.0  # as half a mean squared difference of standardised numbers
WAVES = 1536
KNOTS = (0.2, 0.4, 0.6, 0.8)  # quantiles at which the curve of a measure may bend
CELLS = 8192
BLOCKS = (
    "sentence", "tokens", "waves", "ngrams", "measures", "measure_waves",
    "picture", "picture_waves", "layout", "layout_waves", "grid", "found_waves", "match_waves", "curves", "language",
)  # fmt: skip
_PICTURED = ("picture", "picture_waves", "layout", "layout_waves", "grid")
Standard = tuple[np.ndarray, np.ndarray]
"""Mean and standard deviation of the columns of a block; columns of deviation 0 are not looked at."""


def block(
    name: str,
    seen: Seen,
    texts: Sequence[str],
    seed: int = 0,
    standards: Mapping[str, Standard] | None = None,
) -> np.ndarray:
    """One block ``[N, D]`` float32, not yet scaled.

    Args:
        name: one of ``BLOCKS``.
        texts: of the creatives, "" without words; ``ngrams`` reads them.
        seed: of the waves.
        standards: by which ``measure_waves`` and ``layout_waves`` standardise (:func:`standards_of`).
    """
    own = seen.image.shape[1] - LAYOUT - GRID
    if own <= 0 and name in _PICTURED:
        raise InputError(
            "the selector reads pictures, and none of the creatives has one",
            mend="give image files, or train on texts",
        )
    if name == "sentence":
        return seen.text[:, :TOKEN_WIDTH]
    if name == "tokens":
        return _unit(seen.text[:, TOKEN_WIDTH:])
    if name == "waves":
        return waves(_unit(seen.text[:, TOKEN_WIDTH:]), seed)
    if name == "ngrams":
        return ngrams(texts)
    if name == "language":
        if seen.language is None:
            raise InputError(
                "the selector reads texts with a language model, and none was asked",
                mend="give the one that it was trained with",
            )
        return seen.language
    if name == "measures":
        known = standards is not None and "present" in standards
        return (
            filled(seen.measures, standards["present"][0]) if known and standards else seen.measures
        ).astype(np.float32)
    if name == "picture":
        return seen.image[:, :own]
    if name == "picture_waves":
        return waves(_unit(seen.image[:, :CHANNELS]), seed + 1)
    if name == "layout":
        return seen.image[:, own : own + LAYOUT]
    if name == "grid":
        return seen.image[:, own + LAYOUT :]
    if name == "curves":
        if standards is None or "curves" not in standards:
            raise ValueError("curves need their knots")
        whole = filled(seen.measures, standards["present"][0])
        return curves(whole, standards["curves"][0]).astype(np.float32)
    if name == "found_waves":
        return _found(seen, seed)
    if name == "match_waves":
        return _match(seen, seed)
    if name in ("measure_waves", "layout_waves"):
        of = {"measure_waves": "measures", "layout_waves": "layout"}[name]
        if standards is None or of not in standards:
            raise ValueError(f"{name} needs the standard of {of}")
        mean, spread = standards[of]
        away = (block(of, seen, texts, seed, standards).astype(np.float64) - mean) / np.where(
            spread > 0, spread, np.inf
        )
        rows = np.clip(away, -6, 6) / np.sqrt(max(1, int((spread > 0).sum())))
        return waves(rows.astype(np.float32), seed + 2, MEASURE_WIDTH if of == "measures" else LAYOUT_WIDTH)
    raise ValueError(f"no block {name!r}; there are {', '.join(BLOCKS)}")


def filled(measures: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Measures, with the mean in place of what is not there (``facts``: ``Phrase.needs``); rows ``[..., M]``."""
    return np.where(there(measures), measures, means)


def there(measures: np.ndarray) -> np.ndarray:
    """Where a measure means something: what it is about was there to be measured."""
    out = np.ones(measures.shape, dtype=bool)
    for name, phrase in PHRASES.items():
        if phrase.needs and phrase.needs != name:
            out[..., INDEX[name]] = measures[..., INDEX[phrase.needs]] > 0
    return out


def means_of(measures: np.ndarray) -> np.ndarray:
    """``[M]`` mean of each measure over the creatives where it means something; 0 where it never does."""
    known = there(measures)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, measures, 0.0).sum(0) / np.maximum(count, 1), 0.0)


def curves(measures: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """``[N, M x KNOTS]``: ``max(0, x - t)`` of each measure beyond each of its knots, so that a sum of them is a broken
    line: the best size of a product is neither the largest nor the smallest.
    """
    own = knots.reshape(len(NAMES), len(KNOTS))
    out: np.ndarray = np.maximum(0.0, measures[:, :, None] - own).reshape(len(measures), -1)
    return out


def knots_of(measures: np.ndarray) -> np.ndarray:
    """``[M x KNOTS]`` quantiles of each measure over the creatives where it is not 0; infinite where it never differs
    enough to have them apart: those bend nothing.
    """
    out = np.full((len(NAMES), len(KNOTS)), np.inf)
    for at, values in enumerate(measures.T):
        some = values[values != 0]
        if len(some) >= 10 * len(KNOTS):
            found = np.quantile(some, KNOTS)
            apart = np.diff(found, prepend=-np.inf) > 1e-9
            out[at, apart] = found[apart]
    return out.ravel()


def _found(seen: Seen, seed: int) -> np.ndarray:
    """Waves over size (as a logarithm) and place of the product, in units at which they matter; 0 where not found."""
    found, size, off = (
        seen.measures[:, NAMES.index(f"image.{n}")] for n in ("found", "found_size", "found_off")
    )
    there = found > 0
    rows = np.stack((np.log(np.where(there, size, 1.0)) / 0.25, off / 0.15), axis=1)
    made: np.ndarray = waves(rows.astype(np.float32), seed + 3, 1.0) * there[:, None].astype(np.float32)
    return made


def _match(seen: Seen, seed: int) -> np.ndarray:
    """Waves over how well the words suit the searches, in units at which it matters; 0 where nothing is compared."""
    cosine, share = (seen.measures[:, NAMES.index(f"match.{n}")] for n in ("text_queries", "text_among"))
    rows = np.stack((cosine / 0.1, share / 0.2), axis=1).astype(np.float32)
    made: np.ndarray = waves(rows, seed + 4, 1.0) * (cosine != 0)[:, None].astype(np.float32)
    return made


def standards_of(seen: Seen, texts: Sequence[str]) -> dict[str, Standard]:
    """Mean and deviation of measures and layout over some creatives; knots of curves; means of what is there."""
    means, knots = means_of(seen.measures), knots_of(seen.measures)
    out: dict[str, Standard] = {"present": (means, means), "curves": (knots, knots)}
    for name in ("measures", "layout") if seen.image.shape[1] else ("measures",):
        rows = block(name, seen, texts, standards=out).astype(np.float64)
        spread = rows.std(0)
        out[name] = rows.mean(0), np.where(spread > 1e-6, spread, 0.0)
    return out


def width_of(name: str, encoder_width: int) -> int:
    """Number of columns of a block."""
    return {
        "sentence": TOKEN_WIDTH, "tokens": TOKEN_WIDTH, "ngrams": CELLS,
        "measures": len(NAMES), "curves": len(NAMES) * len(KNOTS),
        "picture": CHANNELS + encoder_width, "layout": LAYOUT, "grid": GRID,
    }.get(name, WAVES)  # fmt: skip


def waves(vectors: np.ndarray, seed: int, width: float = WIDTH) -> np.ndarray:
    """``[N, WAVES]`` of rows; rows of zeros give zeros. The kernel is ``exp(-|v - v'|^2 / (2 width))``."""
    directions, shifts = _draw(vectors.shape[1], seed, width)
    out = np.cos(vectors @ directions + shifts) * np.float32(np.sqrt(2 / WAVES))
    found: np.ndarray = np.where(vectors.any(1, keepdims=True), out, np.float32(0)).astype(np.float32)
    return found


@lru_cache(maxsize=8)
def _draw(columns: int, seed: int, width: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, columns))
    # of unit vectors |v - v'|^2 = 2 (1 - cos), hence exp((cos - 1) / width)
    directions = rng.normal(0, 1 / np.sqrt(width), (columns, WAVES)).astype(np.float32)
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
