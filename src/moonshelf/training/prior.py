"""What an earlier encoder makes of the pairs: needed to keep the hardest queries and to mine negatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moonshelf.encoder import CompactEncoder, Item, photo_reader, product_text
from moonshelf.errors import InputError
from moonshelf.progress import Progress
from moonshelf.training.pairs import SearchPairs

FILE = "prior.safetensors"
_CHUNK = 256


def prior_vectors(pairs: SearchPairs, encoder: CompactEncoder, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of all queries and products; kept in ``folder``, so that a resumed run need not embed again.

    Returns:
        ``[len(pairs), D]`` and ``[len(pairs.products), D]`` float32 unit rows; NaN where there is nothing to embed.

    Cost: one forward pass a pair and a product, 256 at a time in memory.
    """
    marks = {"pairs": pairs.fingerprint, "encoder": encoder.version}
    path = folder / FILE
    held = _held(path, marks)
    if held is not None:
        return held
    c = encoder.config
    most = c.max_images
    read = [photo_reader(shop.images, c.image_size, core=c.core) for shop in pairs.shops]

    def item(shop: int, text: str | None, photos: Iterable[str]) -> Item:
        return Item(text or None, tuple(pixels for p in photos for pixels in read[shop](p)))

    queries = (item(shop, text, [image] if image else []) for shop, image, text in pairs.queries)
    products = (
        item(
            shop,
            product_text(pairs.shops[shop].product(product_id), marked=c.guided),
            pairs.photos(number)[:most],
        )
        for number, (shop, product_id) in enumerate(pairs.products)
    )
    found = (
        _encoded(queries, len(pairs), encoder, "queries, for the earlier encoder"),
        _encoded(products, len(pairs.products), encoder, "products, for the earlier encoder"),
    )
    temporary = path.with_name(f".{FILE}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(zip(("queries", "products"), found, strict=True)), temporary, metadata=marks)
    temporary.replace(path)
    return found


def similarity(pairs: SearchPairs, queries: np.ndarray, products: np.ndarray) -> np.ndarray:
    """``[len(pairs)]`` cosine of every query and the product that it led to; -1 where either has no vector."""
    own = np.einsum("nd,nd->n", queries, products[pairs.product_of])
    return np.where(np.isfinite(own), own, -1.0)


def _encoded(items: Iterator[Item], total: int, encoder: CompactEncoder, label: str) -> np.ndarray:
    out = np.full((total, encoder.width), np.nan, dtype=np.float32)
    at = 0
    with Progress(total, label) as bar:
        while at < total:
            chunk = [next(items) for _ in range(min(_CHUNK, total - at))]
            there = [i for i, one in enumerate(chunk) if one.text or one.images]
            if there:
                out[at + np.array(there)] = encoder.encode([chunk[i] for i in there])
            at += len(chunk)
            bar.advance(len(chunk))
    return out


def _held(path: Path, marks: dict[str, str]) -> tuple[np.ndarray, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, "np") as file:
            if file.metadata() != marks:
                return None
            return file.get_tensor("queries"), file.get_tensor("products")
    except (OSError, SafetensorError) as error:
        raise InputError(
            "the vectors of the earlier encoder cannot be read", where=str(path), mend="delete the file"
        ) from error
