"""Product vectors in bulk: a shop and an encoder in, a shelf out. Resumable, incremental, memory flat."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from moonshelf.encoder.inputs import product_text
from moonshelf.encoder.sentence import unmarked
from moonshelf.errors import InputError
from moonshelf.progress import Progress, say
from moonshelf.shelf.shards import SHARD_ROWS, Shard, Unfinished, discard, recover
from moonshelf.shelf.store import INFO, Shelf
from moonshelf.shelf.stream import Batch, Embedder, PhotoFailure, Request, plan_batches, run_batches
from moonshelf.shelf.vectors import NUMPY, check_format, cut, pack
from moonshelf.shop.shop import Shop
from moonshelf.types import Product
from moonshelf.workspace import digest

Modality = Literal["image", "text"]
BOTH: tuple[Modality, ...] = ("image", "text")


def product_request(product: Product, use: Sequence[Modality], max_images: int) -> Request:
    """What of a product is embedded; empty when it has none of the modalities in ``use``."""
    text = product_text(product, marked=True) if "text" in use else ""
    photos = product.image_ids[:max_images] if "image" in use else ()
    return Request(unmarked(text) or None, photos, marked=text)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A shard before it is embedded; ``copied`` maps a position to a row of the earlier shelf."""

    number: int
    products: tuple[Product, ...]
    requests: tuple[Request, ...]
    content: tuple[str, ...]
    copied: dict[int, int]
    fresh: tuple[int, ...]


def embed_shop(
    shop: Shop,
    encoder: Embedder,
    out: str | Path,
    *,
    dim: int | None = None,
    dtype: str = "f32",
    use: Sequence[Modality] = BOTH,
    batch_size: int = 32,
    resume: bool = True,
    previous: Shelf | None = None,
    workers: int | None = None,
) -> Shelf:
    """Embed every product of a shop into a shelf folder.

    Shards of 1024 products are written as they are done; a killed run that is started again with the same
    shop, encoder and settings goes on behind the last whole shard and ends with the same bytes. A finished
    shelf of the same key is opened as it is. When the shop has changed, vectors of products whose text and
    photos are the same are copied from the earlier shelf (``previous``, or the shelf at ``out``).

    Args:
        out: the shelf folder; an older shelf there is replaced at the end, other folders are refused.
        dim: one of ``encoder.widths``, default the full width.
        dtype: ``f32``, ``f16`` or ``i8`` (4, 2 or 1 byte an entry).
        use: modalities that go into the vector.
        batch_size: rows and photos in one forward pass.
        resume: False embeds everything anew.
        previous: an earlier shelf of the same encoder version, dim, dtype and modalities.
        workers: decoding threads.

    Returns:
        The shelf. ``info["counts"]``: rows, embedded, reused, products_left_out, photos_failed; the
        left-out products and photos, each with its reason, are in ``left_out``.

    Raises:
        InputError: unknown width, dtype or modality, a shop without products, an ``out`` that is something
            else, a full disk, a ``previous`` that does not fit.
    """
    dim, out, started = dim or encoder.width, Path(out), time.monotonic()
    check_format(dim, dtype, encoder.widths)
    modalities = _check_use(use)
    if shop.products is None or not len(shop.products):
        raise InputError(
            "the shop has no products to embed", where=str(shop.source), mend="add a products table"
        )
    if out.exists() and not (out / INFO).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("this is not a shelf", where=str(out), mend="choose a new folder")
    settings = {"dim": dim, "dtype": dtype, "use": list(modalities), "encoder_version": encoder.version}
    recover(out)
    earlier = _earlier(out, settings, previous, resume)
    facts = {"shop": shop.fingerprint, **settings, "batch_size": batch_size, "shard_rows": SHARD_ROWS}
    if resume and previous is None and earlier is not None and earlier.info.get("facts") == facts:
        discard(out)
        say(f"shelf: up to date, {len(earlier)} products")
        return earlier
    basis = None if earlier is None else earlier.info.get("key")
    key = digest([facts, basis])
    unfinished = Unfinished(out, key, resume=resume)
    number_of_shards = -(-len(shop.products) // SHARD_ROWS)
    todo = [number for number in range(number_of_shards) if not unfinished.has(number)]
    resumed = number_of_shards - len(todo)
    if resumed:
        say(f"shelf: resuming, {resumed} of {number_of_shards} shards are done")
    total = len(shop.products)
    with Progress(total, "embed", "products", done=min(resumed * SHARD_ROWS, total)) as progress:
        shards = _embed_shards(shop, encoder, todo, modalities, earlier, batch_size, workers, progress)
        for number, shard in _stored(shards, dim, dtype, earlier):
            unfinished.write(number, shard)
    manifest = {
        "stage": "shelf",
        "inputs": {"shop": shop.fingerprint, "encoder": encoder.version, "previous": basis},
        "config": {**settings, "batch_size": batch_size},
        "seconds": time.monotonic() - started,
        "metrics": {"shards_resumed": resumed},
    }
    unfinished.finish(
        number_of_shards, {"key": key, "facts": facts, **settings, "shop": shop.fingerprint}, manifest
    )
    shelf = Shelf.open(out)
    counts = shelf.info["counts"]
    say(
        f"shelf: {counts['rows']} products ({counts['embedded']} embedded, {counts['reused']} unchanged), "
        f"{counts['products_left_out']} left out, {counts['photos_failed']} photos failed"
    )
    return shelf


def _check_use(use: Sequence[Modality]) -> tuple[Modality, ...]:
    if not use or any(modality not in BOTH for modality in use):
        raise InputError(f"unknown modalities {list(use)}", mend="use image, text or both")
    return tuple(modality for modality in BOTH if modality in use)


def _earlier(out: Path, settings: dict[str, Any], previous: Shelf | None, resume: bool) -> Shelf | None:
    """The shelf whose unchanged rows may be copied, or None."""
    if previous is not None:
        for name, value in settings.items():
            if previous.info.get(name) != value:
                raise InputError(
                    f"the previous shelf has {name} {previous.info.get(name)}, this one {value}",
                    where=str(previous.path),
                    mend="embed without a previous shelf",
                )
        return previous
    if not resume or not (out / INFO).is_file():
        return None
    try:
        shelf = Shelf.open(out)
    except InputError as error:
        say(f"shelf: the one that is there cannot be used and is replaced: {error}")
        return None
    changed = [name for name, value in settings.items() if shelf.info.get(name) != value]
    if changed:
        say(f"shelf: the one that is there has another {' and '.join(changed)}; all is embedded again")
        return None
    return shelf


def content_hashes(shop: Shop, requests: Sequence[Request], *, marked: bool = False) -> tuple[str, ...]:
    """16 hex digits a request: its text (``marked``: as guided experts read it) and its photos' SHA-256."""
    wanted = [name for request in requests for name in request.image_ids]
    rows = (
        shop.images.table.lazy()
        .filter(pl.col("image_id").is_in(wanted))
        .select("image_id", "sha256")
        .collect()
    )
    sha = dict(rows.iter_rows())
    return tuple(
        hashlib.sha256(
            "\0".join(
                [(r.marked if marked else r.text) or "", *(str(sha.get(i)) for i in r.image_ids)]
            ).encode()
        ).hexdigest()[:16]
        for r in requests
    )


def _plan(
    shop: Shop, numbers: Sequence[int], use: Sequence[Modality], encoder: Embedder, earlier: Shelf | None
) -> Iterator[_Planned]:
    assert shop.products is not None
    ids = shop.products["product_id"]
    old: dict[tuple[str, str], int] = {}
    if earlier is not None:
        again = set(earlier.left_out["product_id"])  # a photo failed then: try once more
        keys = earlier.products.select("product_id", "content").iter_rows()
        old = {key: row for row, key in enumerate(keys) if key[0] not in again}
    for number in numbers:
        names = ids.slice(number * SHARD_ROWS, SHARD_ROWS).to_list()
        products = tuple(shop.product(name) for name in names)
        requests = tuple(product_request(product, use, encoder.config.max_images) for product in products)
        content = content_hashes(shop, requests, marked=encoder.config.guided)
        pairs = enumerate(zip(names, content, strict=True))
        copied = {i: old[pair] for i, pair in pairs if pair in old}
        fresh = tuple(i for i, r in enumerate(requests) if i not in copied and (r.text or r.image_ids))
        yield _Planned(number, products, requests, content, copied, fresh)


def _embed_shards(
    shop: Shop,
    encoder: Embedder,
    numbers: Sequence[int],
    use: Sequence[Modality],
    earlier: Shelf | None,
    batch_size: int,
    workers: int | None,
    progress: Progress,
) -> Iterator[tuple[_Planned, dict[int, np.ndarray], list[PhotoFailure]]]:
    """One pipeline over all shards, so decoding does not pause where a shard ends."""
    planned: list[_Planned] = []  # shards whose batches were handed out but not all came back: two at most

    def batches() -> Iterator[Batch]:
        for plan in _plan(shop, numbers, use, encoder, earlier):
            planned.append(plan)
            for batch in plan_batches([plan.requests[i] for i in plan.fresh], batch_size):
                yield [(plan.number * SHARD_ROWS + plan.fresh[p], request) for p, request in batch]

    def done(plan: _Planned) -> _Planned:
        progress.advance(len(plan.products) - len(plan.fresh))
        return plan

    vectors: dict[int, np.ndarray] = {}
    failures: list[PhotoFailure] = []
    seen = 0
    for chunk in run_batches(batches(), shop.images, encoder, workers=workers):
        while seen == len(planned[0].fresh):  # every batch of the first open shard is back
            yield done(planned.pop(0)), vectors, failures
            vectors, failures, seen = {}, [], 0
        start = planned[0].number * SHARD_ROWS
        vectors.update(zip((chunk.positions - start).tolist(), chunk.vectors, strict=True))
        failures += [PhotoFailure(f.position - start, f.image_id, f.reason) for f in chunk.failures]
        seen += chunk.size
        progress.advance(chunk.size)
    for plan in planned:
        yield done(plan), vectors, failures
        vectors, failures = {}, []


def _stored(
    shards: Iterable[tuple[_Planned, dict[int, np.ndarray], list[PhotoFailure]]],
    dim: int,
    dtype: str,
    earlier: Shelf | None,
) -> Iterator[tuple[int, Shard]]:
    for plan, vectors, failures in shards:
        left: list[dict[str, Any]] = [
            {"product_id": plan.products[f.position].product_id, "image_id": f.image_id, "reason": f.reason}
            for f in failures
        ]
        kept = [i for i in range(len(plan.products)) if i in vectors or i in plan.copied]
        out = np.empty((len(kept), dim), dtype=NUMPY[dtype])
        scales = np.ones(len(kept), dtype=np.float32)
        for row, i in enumerate(kept):
            if i in vectors:
                out[row : row + 1], scales[row : row + 1] = pack(cut(vectors[i][None], dim), dtype)
            else:
                assert earlier is not None
                out[row] = earlier.vectors[plan.copied[i]]
                scales[row] = 1 if earlier.scales is None else earlier.scales[plan.copied[i]]
        for i in sorted(set(range(len(plan.products))) - set(kept)):
            why = (
                "its photos cannot be decoded"
                if plan.requests[i].image_ids
                else "no usable photo and no text"
            )
            left.append({"product_id": plan.products[i].product_id, "image_id": None, "reason": why})
        ids = [_row(plan.products[i], plan.content[i]) for i in kept]
        yield plan.number, Shard(out, scales, ids, left, sum(i in plan.copied for i in kept))


def _row(product: Product, content: str) -> dict[str, Any]:
    return {
        "product_id": product.product_id,
        "title": product.title[:300],
        "category": product.category,
        "price": product.price,
        "image_id": product.image_ids[0] if product.image_ids else None,
        "content": content,
    }
