"""Vectors of queries, of photos and of any other mix, as streams or as one matrix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from moonshelf.encoder.core import Photos
from moonshelf.errors import InputError
from moonshelf.progress import Progress, say
from moonshelf.shelf.shards import SHARD_ROWS
from moonshelf.shelf.stream import (
    Batch,
    Chunk,
    Embedder,
    PhotoFailure,
    Request,
    plan_batches,
    run_batches,
)
from moonshelf.shelf.vectors import check_format, cut


def embed_requests(
    requests: Sequence[Request],
    encoder: Embedder,
    photos: Photos | None = None,
    *,
    batch_size: int = 32,
    dim: int | None = None,
    workers: int | None = None,
    label: str | None = None,
) -> Iterator[Chunk]:
    """Embed any mix of texts and photos.

    Args:
        requests: rows to embed, each with a text or a photo.
        photos: the shop's ``images``, when a request has photos.
        dim: cut the vectors to this width.
        label: show progress under this name.

    Yields:
        Chunks whose ``positions`` index ``requests``. Within a window of 1024 requests the order is the
        order of batches, so use the positions.

    Raises:
        InputError: an empty request, or a width the encoder does not have.
    """
    check_format(dim or encoder.width, "f32", encoder.widths)
    for i, request in enumerate(requests):
        if not (request.text or "").strip() and not request.image_ids:
            raise InputError(
                f"query {i} has neither text nor photo", mend="leave it out, or give it one of the two"
            )
    windows = (
        plan_batches(requests[start : start + SHARD_ROWS], batch_size, start)
        for start in range(0, len(requests), SHARD_ROWS)
    )
    chunks = run_batches((batch for window in windows for batch in window), photos, encoder, workers=workers)
    with Progress(len(requests), label) if label else contextlib.nullcontext() as progress:
        for chunk in chunks:
            if progress:
                progress.advance(chunk.size)
            yield Chunk(chunk.positions, cut(chunk.vectors, dim or encoder.width), chunk.failures, chunk.size)


def embed_matrix(
    requests: Sequence[Request],
    encoder: Embedder,
    photos: Photos | None = None,
    *,
    batch_size: int = 32,
    dim: int | None = None,
    workers: int | None = None,
    label: str | None = None,
) -> tuple[np.ndarray, list[PhotoFailure]]:
    """Like ``embed_requests``, gathered in order.

    Returns:
        ``[len(requests), dim]`` float32 unit rows, zero where every photo of a row without text failed, and
        the photos that failed.
    """
    out = np.zeros((len(requests), dim or encoder.width), dtype=np.float32)
    failures: list[PhotoFailure] = []
    for chunk in embed_requests(
        requests, encoder, photos, batch_size=batch_size, dim=dim, workers=workers, label=label
    ):
        out[chunk.positions] = chunk.vectors
        failures += chunk.failures
    return out, failures


def embed_images(
    photos: Photos,
    image_ids: Iterable[str],
    encoder: Embedder,
    *,
    batch_size: int = 32,
    dim: int | None = None,
    workers: int | None = None,
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Embed photos on their own, in order, as a stream (query photos, photos without a product).

    Args:
        image_ids: read lazily.

    Yields:
        ``(ids, vectors [n, dim])`` a batch. A photo that cannot be decoded is missing from ``ids`` and said.
    """
    check_format(dim or encoder.width, "f32", encoder.widths)

    def batches() -> Iterator[Batch]:
        batch: Batch = []
        for position, image_id in enumerate(image_ids):
            names[position] = image_id
            batch.append((position, Request(None, (image_id,))))
            if len(batch) == batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    names: dict[int, str] = {}
    for chunk in run_batches(batches(), photos, encoder, workers=workers):
        for failure in chunk.failures:
            say(f"photo {failure.image_id} left out: {failure.reason}")
            del names[failure.position]
        yield [names.pop(p) for p in chunk.positions.tolist()], cut(chunk.vectors, dim or encoder.width)


def embed_texts(
    texts: Sequence[str], encoder: Embedder, *, batch_size: int = 32, dim: int | None = None
) -> Iterator[np.ndarray]:
    """Embed texts in order, ``batch_size`` rows ``[n, dim]`` at a time."""
    for start in range(0, len(texts), batch_size):
        part = [Request(text) for text in texts[start : start + batch_size]]
        yield embed_matrix(part, encoder, batch_size=batch_size, dim=dim)[0]
