"""Co-augmentation of a shop: enriched titles and other photos of its products, checked and with their provenance.

Made offline, for training alone: of product photos and titles, never of the queries of searches, and not for measuring.
"""

from __future__ import annotations

import io
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from moonshelf.arrays import unit
from moonshelf.augment.makers import Makers, Rules
from moonshelf.augment.scenes import RECIPES, SIDE
from moonshelf.augment.texts import written
from moonshelf.errors import TooLittleData
from moonshelf.progress import Progress
from moonshelf.remote import Refused
from moonshelf.shop.gazetteer import Gazetteer
from moonshelf.shop.images import IMAGE_INDEX
from moonshelf.shop.shop import Shop
from moonshelf.types import Product, Shown
from moonshelf.workspace import (
    digest,
    read_manifest,
    refuse_strangers,
    write_frame,
    write_json,
    write_manifest,
)

STAGE = "augment"
CHECKED = 512  # pixels of a photo in the check
CHUNK = 128  # products whose made photos are in memory at a time
Embed = Callable[[Sequence[Shown]], np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """What is made of each product."""

    recipes: tuple[str, ...] = tuple(RECIPES)
    texts: bool = True
    tolerance: float = 0.15  # how much less alike title and photo may be than they were before
    quality: int = 88  # of the JPEGs
    seed: int = 0


def augment(
    shop: Shop,
    folder: Path,
    embed: Embed | None,
    config: AugmentConfig | None = None,
    *,
    makers: Makers | None = None,
    checked_by: str = "",
) -> Path:
    """Write ``folder``: ``texts.parquet``, ``images.parquet`` with ``images.bin``, ``left_out.parquet``, a manifest.

    A made photo stays if it is as much like the product's title as the photo it was made from, less a tolerance; a made
    title likewise beside the photo. What is left out is listed with the reason. A run that was stopped goes on, one
    that is finished is not made again.

    Args:
        embed: texts and photos to rows of one space; None leaves the check out, and the manifest says so.
        makers: who writes and paints; default: rules on this machine.
        checked_by: what tells one ``embed`` from another, such as the encoder's version.

    Raises:
        TooLittleData: the shop has no product with a photo.
        InputError: an endpoint fails for good or its budget is spent; what was made is kept.
    """
    config = config or AugmentConfig()
    if shop.products is None or not any(shop.products["image_ids"].list.len()):
        raise TooLittleData(
            "no product has a photo to work on", where=shop.name, mend="add photos of products"
        )
    if makers is None:
        rules = Rules(Gazetteer.of_products(shop.products))
        makers = Makers(rules, rules)
    made_by = {"titles": makers.writer.name, "photos": makers.painter.name}
    key = digest(
        [shop.fingerprint, asdict(config), made_by, (embed is not None) and (checked_by or "a function")]
    )
    refuse_strangers(folder)
    before = read_manifest(folder)
    if before is not None and before["stage"] == STAGE and before["inputs"]["key"] == key:
        return folder
    work = folder.with_name(f".{folder.name}.unfinished")
    if (work / "key").is_file() and (work / "key").read_text() != key:
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    (work / "key").write_text(key)
    ids = shop.products["product_id"].to_list()
    make = partial(_of_product, shop=shop, makers=makers, config=config)
    with ThreadPoolExecutor(makers.at_a_time) as pool, Progress(len(ids), "augment") as bar:
        for at in range(0, len(ids), CHUNK):
            part = work / f"part-{at:09d}.parquet"
            products = [shop.product(p) for p in ids[at : at + CHUNK]]
            if not part.is_file():
                try:
                    rows = [row for own in pool.map(make, products) for row in own]
                except BaseException:
                    pool.shutdown(
                        wait=False, cancel_futures=True
                    )  # calls that cost money are not begun any more
                    raise
                _check(rows, shop, embed, config.tolerance)
                write_frame(pl.DataFrame([_flat(row) for row in rows], schema=_PART), part)
            bar.advance(len(products))
    return _finish(work, folder, shop, config, {"shop": shop.fingerprint, "key": key, "made_by": made_by})


@dataclass(slots=True)
class _Made:
    product: Product
    kind: str  # a recipe, or text
    text: str = ""
    data: bytes = b""
    made_from: str = ""  # the photo, or JSON of the pieces
    why_not: str = ""
    before: float = float("nan")
    after: float = float("nan")


_SCORES = {"before": pl.Float64(), "after": pl.Float64()}
_PART = pl.Schema(
    {
        "product_id": pl.String(), "kind": pl.String(), "text": pl.String(), "bytes": pl.Binary(),
        "made_from": pl.String(), "why_not": pl.String(), "before": pl.Float64(), "after": pl.Float64(),
    }
)  # fmt: skip


def _of_product(product: Product, *, shop: Shop, makers: Makers, config: AugmentConfig) -> list[_Made]:
    found: list[_Made] = []
    photo = product.image_ids[0] if product.image_ids else None
    image = None if photo is None else shop.images.decode(photo).convert("RGB")
    if config.texts:
        try:
            pieces = makers.writer.write(product, image if makers.writer.pictured else None)
        except Refused as error:
            found.append(_Made(product, "text", why_not=str(error)))
        else:
            if pieces:
                sources = json.dumps([asdict(p) for p in pieces], ensure_ascii=False)
                found.append(_Made(product, "text", text=written(pieces), made_from=sources))
    if photo is None or image is None:
        return found

    def rng(recipe: str) -> np.random.Generator:
        return np.random.default_rng([config.seed, zlib.crc32(f"{photo} {recipe}".encode())])

    for recipe, made in makers.painter.paint(image, config.recipes, rng):
        if isinstance(made, str):
            found.append(_Made(product, recipe, made_from=photo, why_not=made))
            continue
        made.thumbnail((SIDE, SIDE))  # more pixels than training looks at would only take room
        out = io.BytesIO()
        made.convert("RGB").save(out, "JPEG", quality=config.quality)
        found.append(_Made(product, recipe, data=out.getvalue(), made_from=photo))
    return found


def _check(rows: list[_Made], shop: Shop, embed: Embed | None, tolerance: float) -> None:
    """Mark what is less like the other side of its product than what it was made from."""
    rows = [r for r in rows if not r.why_not and r.product.title and r.product.image_ids]
    if embed is None or not rows:
        return
    products = {r.product.product_id: r.product for r in rows}
    titles = _rows(embed, [Shown(p.title, None) for p in products.values()])
    photos = _rows(embed, [Shown(None, _small(shop, p.image_ids[0])) for p in products.values()])
    row = {product_id: i for i, product_id in enumerate(products)}
    made = _rows(
        embed,
        [
            Shown(r.text, None)
            if r.kind == "text"
            else Shown(None, Image.open(io.BytesIO(r.data)).convert("RGB"))
            for r in rows
        ],
    )
    for one, vector in zip(rows, made, strict=True):
        at = row[one.product.product_id]
        one.before = float(titles[at] @ photos[at])
        one.after = float(vector @ (photos[at] if one.kind == "text" else titles[at]))
        if one.after < one.before - tolerance:
            one.why_not = "title and photo agree less than before"


def _small(shop: Shop, photo: str) -> Image.Image:
    """A photo no larger than any encoder looks at: many of them are in memory at once."""
    image = shop.images.decode(photo, short_side=CHECKED)
    image.thumbnail((2 * CHECKED, 2 * CHECKED))
    return image


def _rows(embed: Embed, shown: list[Shown]) -> np.ndarray:
    rows = np.concatenate([np.asarray(embed(shown[i : i + 64])) for i in range(0, len(shown), 64)])
    return unit(rows)


def _flat(row: _Made) -> dict[str, Any]:
    return {
        "product_id": row.product.product_id,
        "kind": row.kind,
        "text": row.text,
        "bytes": b"" if row.why_not else row.data,
        "made_from": row.made_from,
        "why_not": row.why_not,
        "before": row.before,
        "after": row.after,
    }


def _finish(work: Path, folder: Path, shop: Shop, config: AugmentConfig, inputs: dict[str, Any]) -> Path:
    """The parts as one folder, which takes its place at the end."""
    offset, index, texts, out = 0, list[dict[str, Any]](), list[pl.DataFrame](), list[pl.DataFrame]()
    with (work / "images.bin").open("wb") as store:
        for part in sorted(work.glob("part-*.parquet")):
            frame = pl.read_parquet(part)
            out.append(frame.filter(pl.col("why_not") != "").drop("bytes"))
            kept = frame.filter(pl.col("why_not") == "")
            texts.append(
                kept.filter(pl.col("kind") == "text").select(
                    "product_id", "text", "made_from", "before", "after"
                )
            )
            for row in kept.filter(pl.col("kind") != "text").iter_rows(named=True):
                data = row.pop("bytes")
                store.write(data)
                image_id = f"{row['made_from']}#{row['kind']}"
                index.append(
                    {**row, "image_id": image_id, "status": "ok", "num_bytes": len(data), "offset": offset}
                )
                offset += len(data)
    extra = {**dict.fromkeys(("product_id", "kind", "made_from"), pl.String()), **_SCORES}
    write_frame(pl.DataFrame(index, schema={**IMAGE_INDEX, **extra}), work / "images.parquet")
    write_frame(pl.concat(texts), work / "texts.parquet")
    left = pl.concat(out)
    write_frame(left, work / "left_out.parquet")
    why = dict(left.group_by("why_not").len().sort("why_not").iter_rows())
    counts = {"images": len(index), "texts": int(sum(map(len, texts))), "left_out": why}
    write_json(work / "counts.json", counts)
    for part in (*work.glob("part-*.parquet"), work / "key"):
        part.unlink()
    write_manifest(
        work, stage=STAGE, inputs=inputs, config=asdict(config), seed=config.seed,
        seconds=0.0, metrics=counts,
    )  # fmt: skip
    if folder.exists():
        shutil.rmtree(folder)
    work.rename(folder)
    return folder
