"""What was made for a shop, as training reads it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from moonshelf.errors import InputError
from moonshelf.shop.images import ImageStore
from moonshelf.shop.shop import Shop
from moonshelf.workspace import read_manifest


def augmented_mark(folder: str) -> str:
    """What a folder of made things holds, not where it lies; "" for no folder."""
    manifest = read_manifest(Path(folder)) if folder else None
    return manifest["inputs"]["key"] if manifest else ""


class Augmented:
    """Made titles and photos of a shop's products.

    Args:
        folder: what ``augment`` wrote.
        shop: it must have been made of this shop.

    Attributes:
        texts: product id -> enriched title.
        photos: product id -> ids of its made photos, to be decoded with ``images``.
        images: the made photos.

    Raises:
        InputError: there is no such folder, or it was made of another shop.
    """

    def __init__(self, folder: Path, shop: Shop) -> None:
        manifest = read_manifest(folder)
        if manifest is None or manifest.get("stage") != "augment":
            raise InputError(
                "nothing was made here", where=str(folder), mend="run moonshelf augment SHOP --out DIR"
            )
        if manifest["inputs"]["shop"] != shop.fingerprint:
            raise InputError(
                "this was made of another shop", where=str(folder), mend="run moonshelf augment again"
            )
        self.key: str = manifest["inputs"]["key"]
        self.images = ImageStore(folder)
        self.texts = dict(pl.read_parquet(folder / "texts.parquet").select("product_id", "text").iter_rows())
        self.photos: dict[str, tuple[str, ...]] = {
            product_id: tuple(ids)
            for product_id, ids in self.images.table.group_by("product_id", maintain_order=True)
            .agg(pl.col("image_id"))
            .iter_rows()
        }
