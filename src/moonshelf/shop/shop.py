"""Open a shop: the one door through which every other room gets its data."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from moonshelf.errors import InputError
from moonshelf.shop.duplicates import Sets
from moonshelf.shop.fetch import Reach
from moonshelf.shop.identity import READER_VERSION, files_mark
from moonshelf.shop.images import PIXEL_LIMIT, ImageStore
from moonshelf.shop.ingest import STAGE, ingest
from moonshelf.types import Product
from moonshelf.workspace import atomic_folder, read_manifest

PLACEHOLDER = 20  # a picture on photos of more designs than this is a "no photo" sign, not a shared design


class Shop:
    """An opened shop. Frames are in their normal form (every column of the contract is there).

    Attributes are None for tables that the shop does not have. Texts that are absent are null;
    ``products.image_ids`` holds usable ids only; times are ``Datetime("us", "UTC")``; ``attributes`` is
    JSON text (an object of strings) or null. Frames load when first used.

    Args:
        path: a prepared folder; use ``open_shop``.
    """

    def __init__(self, path: Path) -> None:
        manifest = read_manifest(path)
        if manifest is None or manifest.get("stage") != STAGE:
            raise InputError(
                "not a prepared shop folder", where=str(path), mend="open the raw shop folder instead"
            )
        self.path = path
        self.manifest = manifest
        self.source = Path(manifest["inputs"]["source"])
        self.name: str = manifest["inputs"]["name"]
        self.fingerprint: str = manifest["inputs"]["data"]

    def __repr__(self) -> str:
        products, images = self.check["products"].get("total", 0), self.check["images"]["ok"]
        return f"Shop({self.name!r}, {products} products, {images} images)"

    def _table(self, name: str) -> pl.DataFrame | None:
        file = self.path / f"{name}.parquet"
        return pl.read_parquet(file, memory_map=False) if file.exists() else None

    @cached_property
    def products(self) -> pl.DataFrame | None:
        """Products, schema of the contract."""
        return self._table("products")

    @cached_property
    def searches(self) -> pl.DataFrame | None:
        """Searches; ``split`` is filled, repeated queries of val and test are not in train."""
        return self._table("searches")

    @cached_property
    def events(self) -> pl.DataFrame | None:
        """What users did."""
        return self._table("events")

    @cached_property
    def impressions(self) -> pl.DataFrame | None:
        """What was shown, with the context columns of the file."""
        return self._table("impressions")

    @cached_property
    def relevance(self) -> pl.DataFrame | None:
        """Judged pairs; ``split`` is filled."""
        return self._table("relevance")

    @cached_property
    def creatives(self) -> pl.DataFrame | None:
        """Creatives with their counts; ``split`` is filled."""
        return self._table("creatives")

    @cached_property
    def users(self) -> pl.DataFrame | None:
        """Users, with the columns of the file."""
        return self._table("users")

    @cached_property
    def rejects(self) -> pl.DataFrame:
        """Every refused row and value: table, row, column, reason, value, kept (the row stayed)."""
        return pl.read_parquet(self.path / "rejects.parquet", memory_map=False)

    @cached_property
    def check(self) -> dict[str, Any]:
        """The check report."""
        value: dict[str, Any] = json.loads((self.path / "check.json").read_text())
        return value

    @cached_property
    def images(self) -> ImageStore:
        """The images."""
        return ImageStore(self.path)

    @cached_property
    def _product_rows(self) -> dict[str, int]:
        ids = [] if self.products is None else self.products["product_id"].to_list()
        return {product_id: row for row, product_id in enumerate(ids)}

    def product(self, product_id: str) -> Product:
        """One product as a record.

        Raises:
            InputError: there is no such product.
        """
        row = self._product_rows.get(product_id)
        if row is None or self.products is None:
            raise InputError(
                f"no product {product_id}", where=self.name, mend="use a product_id of the products table"
            )
        value = self.products.row(row, named=True)
        return Product(
            product_id=product_id,
            title=value["title"] or "",
            description=value["description"] or "",
            category=value["category"] or "",
            attributes=json.loads(value["attributes"] or "{}"),
            brand=value["brand"] or "",
            price=value["price"],
            spu_id=value["spu_id"] or "",
            image_ids=tuple(value["image_ids"]),
            created_at=value["created_at"],
        )

    def leak_groups(self) -> dict[str, int]:
        """Product id -> group of products that must stay on one side of a split over products.

        Products are joined by ``spu_id`` and by pictures they share (same bytes or the same picture).
        A picture shared by more than ``PLACEHOLDER`` designs is a placeholder and joins nothing.
        """
        return dict(self._leak_groups)

    @cached_property
    def _leak_groups(self) -> dict[str, int]:
        if self.products is None:
            return {}
        frame = self.products.select("product_id", "spu_id", "image_ids").with_row_index("n")
        pictures = self.images.table.filter(status="ok").select("image_id", "near_group")
        shown = frame.explode("image_ids").join(pictures, left_on="image_ids", right_on="image_id")
        design = pl.coalesce("spu_id", pl.concat_str(pl.lit("\0"), "product_id"))
        shown = shown.filter(design.n_unique().over("near_group") <= PLACEHOLDER)
        links = pl.concat(
            [
                frame.drop_nulls("spu_id").select("n", pl.concat_str(pl.lit("s"), "spu_id").alias("key")),
                shown.select("n", pl.concat_str(pl.lit("g"), "near_group").alias("key")),
            ]
        )
        sets = Sets(len(frame))
        first: dict[str, int] = {}
        for n, key in links.iter_rows():
            sets.join(first.setdefault(key, n), n)
        return {product_id: sets.find(n) for n, product_id in enumerate(frame["product_id"].to_list())}


def cache_home() -> Path:
    """``$MOONSHELF_CACHE`` or ``~/.cache/moonshelf``."""
    root = os.environ.get("MOONSHELF_CACHE")
    return Path(root) if root else Path.home() / ".cache" / "moonshelf"


def default_cache(mark: str) -> Path:
    """Where prepared shops are kept: ``shops`` in the cache folder."""
    return cache_home() / "shops" / mark


def open_shop(
    path: str | Path,
    *,
    cache: Path | None = None,
    pixel_limit: int = PIXEL_LIMIT,
    require_products: bool = True,
    fetch: Reach | None = None,
) -> Shop:
    """Open a shop folder, raw or prepared.

    A raw folder is read once into ``cache``; later calls with unchanged files open that. The prepared
    folder appears whole or not at all.

    Args:
        path: raw shop folder (see the data contract) or prepared folder.
        cache: the prepared folder to make or reuse; default ``default_cache(mark of the files)``.
        pixel_limit: images of more pixels are rejected.
        require_products: refuse a shop without usable products; False for photos only, logs only.
        fetch: fetch photos that are http(s) addresses: ``public`` from public machines, ``any`` from any. Each is
            fetched once; those that failed are tried again the next time this is asked for. None refuses them.

    Raises:
        InputError: the folder, or a table of it, cannot be used.
    """
    source = Path(path).expanduser()
    if not source.is_dir():
        what = "the shop is not a folder" if source.exists() else "there is no such shop folder"
        raise InputError(
            what, where=str(source), mend="give the folder that holds products.parquet, .csv or .jsonl"
        )
    manifest = read_manifest(source)
    if manifest is not None and manifest.get("stage") == STAGE:
        return _required(Shop(source), require_products)
    mark = files_mark(source, pixel_limit, fetch)
    folder = default_cache(mark) if cache is None else Path(cache)
    if not _is_prepared(folder, mark, retry=fetch is not None):
        with atomic_folder(folder) as temporary:
            downloads = cache_home() / "downloads"
            ingest(source, temporary, pixel_limit=pixel_limit, mark=mark, fetch=fetch, downloads=downloads)
    return _required(Shop(folder), require_products)


def _is_prepared(folder: Path, mark: str, *, retry: bool = False) -> bool:
    """Whether ``folder`` is this shop, read by this reader (and, to ``retry``, with every address fetched).

    Raises:
        InputError: the folder holds something else, which must not be replaced.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError("the cache is not a folder", where=str(folder), mend="choose another one")
    manifest = read_manifest(folder)
    if manifest is None and not any(folder.iterdir()):
        return False
    if manifest is None or manifest.get("stage") != STAGE:
        raise InputError(
            "the cache folder holds other things", where=str(folder), mend="choose a new or empty folder"
        )
    if retry and manifest["metrics"].get("unfetched"):
        return False
    return bool(
        manifest["inputs"].get("files") == mark and manifest["config"].get("reader") == READER_VERSION
    )


def _required(shop: Shop, require_products: bool) -> Shop:
    if require_products and not shop.check["products"].get("total", 0):
        why = shop.check["why"][0] if shop.check["why"] else "there are no products"
        raise InputError(
            why, where=str(shop.source), mend="add products.parquet, .csv or .jsonl with a column product_id"
        )
    return shop
