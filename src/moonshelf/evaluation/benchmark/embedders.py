"""Who embeds for the benchmark: our encoder, any function, or a file of vectors that somebody else made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf.arrays import unit
from moonshelf.encoder import CompactEncoder, Item, prepare_image, prepare_photo
from moonshelf.errors import InputError
from moonshelf.evaluation.benchmark.inputs import Source, load
from moonshelf.progress import Progress
from moonshelf.shop.shop import Shop
from moonshelf.types import Shown
from moonshelf.workspace import atomic_folder, write_json

Embed = Callable[[Sequence[Shown]], np.ndarray]
"""Inputs to rows ``[n, D]``, any length and width; ``text`` or ``image`` of an input may be None, not both."""
_CHUNK = 64


def of_encoder(encoder: CompactEncoder) -> Embed:
    """Our encoder as an embedding function."""
    look = partial(prepare_photo, size=encoder.image_size, core=encoder.config.core)

    def embed(shown: Sequence[Shown]) -> np.ndarray:
        guided = encoder.config.guided
        texts = [s.marked or s.text if guided else s.text for s in shown]
        photos = [look(s.image) if s.image is not None else () for s in shown]
        return encoder.encode([Item(t, p) for t, p in zip(texts, photos, strict=True)])

    return embed


def of_trunk(encoder: CompactEncoder) -> Embed:
    """Photos alone by the trunk's features, whatever stands beside them: the baseline for photo against photo."""
    from moonshelf.encoder.inputs import stack_pixels

    def embed(shown: Sequence[Shown]) -> np.ndarray:
        pixels = [prepare_image(s.image, encoder.image_size) for s in shown if s.image is not None]
        rows = np.zeros((len(shown), 1280), dtype=np.float32)
        if pixels:
            rows[[s.image is not None for s in shown]] = encoder.trunk_features(stack_pixels(pixels)).numpy()
        return rows

    return embed


def embed_sources(
    sources: Sequence[Source], shop: Shop, embed: Embed, label: str = "benchmark"
) -> dict[Source, np.ndarray]:
    """Unit rows of distinct sources, ``_CHUNK`` photos in memory at a time.

    Raises:
        InputError: the function gives another number of rows, another width, or numbers that are not finite.
    """
    distinct = list(dict.fromkeys(sources))
    found: dict[Source, np.ndarray] = {}
    width = None
    with Progress(len(distinct), label) as bar:
        for start in range(0, len(distinct), _CHUNK):
            part = distinct[start : start + _CHUNK]
            rows = np.asarray(embed(load(part, shop)), dtype=np.float32)
            width = width or (rows.shape[1] if rows.ndim == 2 else None)
            if rows.shape != (len(part), width):
                raise InputError(
                    f"the embedding function gave {rows.shape} for {len(part)} inputs",
                    mend="let it give one row an input, all of one width",
                )
            if not np.isfinite(rows).all():
                raise InputError(
                    "the embedding function gave NaN or infinity", mend="look at the inputs of its batch"
                )
            found |= zip(part, unit(rows), strict=True)
            bar.advance(len(part))
    return found


def write_inputs(sources: Sequence[Source], shop: Shop, folder: Path) -> int:
    """Everything that is to be embedded, for programs that are not Python or not here.

    ``inputs.jsonl`` has a line an input: ``key``, ``text`` or null, ``image`` (a file in the folder) or null.
    """
    distinct = list(dict.fromkeys(sources))
    with atomic_folder(folder, ("inputs.jsonl",)) as out:
        (out / "images").mkdir()
        written: dict[tuple[str, bool], str] = {}
        with (out / "inputs.jsonl").open("w") as lines, Progress(len(distinct), "benchmark inputs") as bar:
            for source in distinct:
                image = None
                if source.photo is not None:
                    at = (source.photo, source.made)
                    if at not in written:
                        written[at] = f"images/{len(written)}.png"
                        shown = load([Source(None, source.photo, source.made)], shop)[0].image
                        assert shown is not None
                        shown.save(out / written[at])
                    image = written[at]
                lines.write(
                    json.dumps({"key": source.key, "text": source.text, "image": image}, ensure_ascii=False)
                    + "\n"
                )
                bar.advance(1)
        write_json(out / "about.json", {"shop": shop.name, "inputs": len(distinct)})
    return len(distinct)


def read_vectors(path: Path, sources: Sequence[Source]) -> dict[Source, np.ndarray]:
    """Unit rows of sources from a file: Parquet with ``key`` and ``vector`` (lists), or ``.npz`` with both arrays.

    Raises:
        InputError: no such file, another layout, keys that are missing, vectors that are not finite.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                keys, rows = arrays["key"].astype(str).tolist(), arrays["vector"].astype(np.float32)
        else:
            frame = pl.read_parquet(path, columns=["key", "vector"])
            keys, rows = frame["key"].to_list(), np.array(frame["vector"].to_list(), np.float32)
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"the vectors cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            mend="give .parquet with the columns key and vector, or .npz with these arrays",
        ) from error
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise InputError(
            "the vectors are not finite rows of one width", where=str(path), mend="write them again"
        )
    row = {key: i for i, key in enumerate(keys)}
    missing = [s.key for s in dict.fromkeys(sources) if s.key not in row]
    if missing:
        raise InputError(
            f"{len(missing)} inputs have no vector, the first is {missing[0]!r}",
            where=str(path),
            mend="embed every line of inputs.jsonl of this shop, split and seed",
        )
    rows = unit(rows)
    return {source: rows[row[source.key]] for source in dict.fromkeys(sources)}
