"""The bulk embedding engine: photos are decoded in threads while the network works on the batch before.

Pillow lets go of the interpreter lock while it decodes, so a few threads keep the forward pass fed. Only
``ahead`` batches exist at any time: memory does not grow with the number of products. Our design.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from moonshelf.encoder.core import Photos, photo_reader
from moonshelf.encoder.inputs import Item, Pixels
from moonshelf.errors import InputError
from moonshelf.shop.images import ImageError
from moonshelf.types import ProductBatch

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 3  # batches that are being decoded while one is computed; more only costs memory


class _Limits(Protocol):
    @property
    def max_images(self) -> int: ...
    @property
    def core(self) -> bool: ...
    @property
    def guided(self) -> bool: ...


class Embedder(Protocol):
    """What the shelf asks of an encoder; every product encoder has it."""

    @property
    def version(self) -> str:
        """Hex digits that change with the weights."""

    @property
    def width(self) -> int:
        """Length of the full vector."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Lengths at which the vector may be cut."""

    @property
    def image_size(self) -> int:
        """Side in pixels of a prepared photo."""

    @property
    def config(self) -> _Limits:
        """At least ``max_images``, ``core`` and ``guided``."""

    def collate(self, items: Sequence[Item]) -> ProductBatch:
        """Items to tensors."""

    def embed(self, batch: ProductBatch) -> Tensor:
        """Unit rows ``[B, width]`` float32."""


@dataclass(frozen=True, slots=True)
class Request:
    """One row to embed: a text, photos by id, or both; ``marked``: the text as guided experts read it."""

    text: str | None = None
    image_ids: tuple[str, ...] = ()
    marked: str = ""


@dataclass(frozen=True, slots=True)
class PhotoFailure:
    """A photo that passed the audit but could not be decoded now; the row goes on without it."""

    position: int
    image_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Result of one batch.

    Attributes:
        positions: ``[n]`` int64, which requests the rows belong to.
        vectors: ``[n, width]`` float32, unit rows.
        failures: photos that could not be decoded. A request left with neither photo nor text has no row.
        size: requests in the batch, those without a row counted.
    """

    positions: np.ndarray
    vectors: np.ndarray
    failures: tuple[PhotoFailure, ...]
    size: int


Batch = list[tuple[int, Request]]


def plan_batches(requests: Sequence[Request], batch_size: int, first: int = 0) -> list[Batch]:
    """Group requests so that little is padded: alike in number of photos, then in length of text.

    A batch holds at most ``batch_size`` rows and at most ``batch_size`` photos (one row may hold more), as
    the photos set the cost. The grouping depends on ``requests`` alone, so a resumed run
    makes the same batches.

    Args:
        first: position of ``requests[0]``.
    """
    order = sorted(
        range(len(requests)), key=lambda i: (len(requests[i].image_ids), len(requests[i].text or ""), i)
    )
    batches: list[Batch] = []
    photos = 0
    for i in order:
        count = len(requests[i].image_ids)
        if not batches or len(batches[-1]) == batch_size or photos + count > batch_size:
            batches.append([])
            photos = 0
        batches[-1].append((first + i, requests[i]))
        photos += count
    return batches


def default_workers() -> int:
    """Decoding threads: one a core, at most four (one Pillow thread feeds about 500 photos a second)."""
    return max(1, min(4, os.cpu_count() or 1))


def windowed_map(
    function: Callable[[A], B], items: Iterable[A], workers: int | None = None, window: int = 128
) -> Iterator[B]:
    """``map`` in threads, in order, with at most ``window`` results waiting: memory stays flat."""
    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="decode")
    source = iter(items)
    waiting = deque(pool.submit(function, item) for item in islice(source, window))
    try:
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(source, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_batches(
    batches: Iterable[Batch],
    photos: Photos | None,
    encoder: Embedder,
    *,
    workers: int | None = None,
    ahead: int = AHEAD,
) -> Iterator[Chunk]:
    """Embed batches in order, decoding up to ``ahead`` batches in front of the forward pass.

    Args:
        batches: read lazily.
        photos: needed when a request has photos.
        workers: decoding threads, see ``default_workers``.

    Raises:
        InputError: requests have photos but ``photos`` is None.
    """
    most = encoder.config.max_images
    read = None if photos is None else photo_reader(photos, encoder.image_size, core=encoder.config.core)

    def decode(image_id: str) -> tuple[Pixels, ...] | ImageError:
        assert read is not None
        try:
            return read(image_id)
        except ImageError as error:
            return error

    pool = ThreadPoolExecutor(workers or default_workers(), thread_name_prefix="decode")

    def submit(batch: Batch) -> list[list[Future[tuple[Pixels, ...] | ImageError]]]:
        if photos is None and any(request.image_ids for _, request in batch):
            raise InputError(
                "these queries have photos but no shop was given", mend="pass the shop's image store"
            )
        return [[pool.submit(decode, name) for name in request.image_ids[:most]] for _, request in batch]

    source = iter(batches)
    waiting: deque[tuple[Batch, list[list[Future[tuple[Pixels, ...] | ImageError]]]]] = deque()
    try:
        while True:
            while len(waiting) <= ahead and (batch := next(source, None)) is not None:
                waiting.append((batch, submit(batch)))
            if not waiting:
                return
            yield _compute(*waiting.popleft(), encoder)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _compute(
    batch: Batch, decoded: list[list[Future[tuple[Pixels, ...] | ImageError]]], encoder: Embedder
) -> Chunk:
    positions: list[int] = []
    items: list[Item] = []
    failures: list[PhotoFailure] = []
    for (position, request), futures in zip(batch, decoded, strict=True):
        pixels: list[Pixels] = []
        for image_id, future in zip(
            request.image_ids, futures, strict=False
        ):  # photos past the limit have none
            outcome = future.result()
            if isinstance(outcome, ImageError):
                failures.append(PhotoFailure(position, image_id, outcome.reason))
            else:
                pixels += outcome
        text = (request.text or "").strip() or None
        if text and encoder.config.guided:
            text = request.marked or text
        if text or pixels:
            positions.append(position)
            items.append(Item(text, tuple(pixels)))
    if items:
        vectors = encoder.embed(encoder.collate(items)).numpy()
    else:
        vectors = np.empty((0, encoder.width), dtype=np.float32)
    return Chunk(np.array(positions, dtype=np.int64), vectors, tuple(failures), len(batch))
