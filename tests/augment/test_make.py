"""What is made of a shop: texts with their sources, photos with theirs, the check, resuming, and training on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from moonshelf.augment import make
from moonshelf.augment.make import AugmentConfig, augment
from moonshelf.augment.scenes import RECIPES
from moonshelf.augment.store import Augmented, augmented_mark
from moonshelf.augment.texts import enrich, written
from moonshelf.encoder import CompactEncoder, product_text
from moonshelf.encoder.sentence import tokenizer
from moonshelf.errors import InputError, TooLittleData
from moonshelf.evaluation.benchmark import of_encoder
from moonshelf.shop.gazetteer import Gazetteer
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.config import LoopConfig, PosttrainConfig
from moonshelf.training.posttrain import Posttrain, posttrain
from moonshelf.types import Product, Shown


@pytest.fixture
def shop(shop_with: Callable[..., Path], shop_folder: Path) -> Shop:
    """The small shop, whose titles say all but one thing."""
    products = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        attributes=pl.lit('{"for": "for children"}')
    )
    raw = shop_with(products=products)
    return open_shop(raw, cache=raw.parent / "read")


def test_a_title_gets_what_it_does_not_say() -> None:
    product = Product(
        "1",
        title="Red Cotton Shirt",
        description="A shirt by Acme with a button-down collar. 纯棉 面料",
        category="Clothes > Tops > Shirts",
        attributes={"colour": "red", "fit": "slim fit", "year": "2011", "fabric": "纯棉"},
        brand="Acme",
    )
    names = Gazetteer(["acme", "button-down collar", "纯棉", "shirt"])
    pieces = enrich(product, names)
    assert [(p.text, p.source) for p in pieces] == [
        ("Red Cotton Shirt", "title"),
        ("Acme", "brand"),
        ("slim fit", "attributes.fit"),
        ("纯棉", "attributes.fabric"),
        ("Shirts", "category"),
        ("button down collar", "description"),
    ]
    assert written(pieces) == "Red Cotton Shirt. Acme, slim fit, 纯棉, Shirts, button down collar"
    assert enrich(replace(product, title=""), names) == []
    assert enrich(Product("2", title="Mug"), names) == []
    assert (
        len(
            written(
                enrich(replace(product, attributes={f"a{i}": "x" * 90 + str(i) for i in range(9)}), names)
            )
        )
        <= 310
    )


def test_a_shop_is_made_again_with_its_sources(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    folder = augment(shop, tmp_path / "made", of_encoder(encoder), AugmentConfig(tolerance=2.0))
    found = Augmented(folder, shop)
    assert found.texts["1"] == "green circle. for children"
    assert set(found.photos) == {str(i) for i in range(12)}
    table = found.images.table
    # of a cross only a part of what its outline encloses stands out, so it is not cut
    assert set(table["kind"]) == {"standard", *RECIPES} and len(table) == 8 * 5 + 4
    assert set(table["made_from"]) == {f"p{i}" for i in range(12)}  # never of the photos of searches
    for image_id in found.photos["4"]:
        assert found.images.decode(image_id, short_side=80).mode == "RGB" and image_id.startswith("p4#")
    texts = pl.read_parquet(folder / "texts.parquet")
    assert {piece["source"] for piece in json.loads(texts["made_from"][0])} >= {"title"}
    assert json.loads((folder / "counts.json").read_text()) == {
        "images": 44,
        "texts": 12,
        "left_out": {"only parts of the subject stand out from the ground": 16},
    }
    again = augment(shop, tmp_path / "again", of_encoder(encoder), AugmentConfig(tolerance=2.0))
    assert (again / "images.bin").read_bytes() == (folder / "images.bin").read_bytes()
    before = (again / "images.parquet").stat().st_mtime_ns
    config = AugmentConfig(tolerance=2.0)
    assert augment(shop, again, of_encoder(encoder), config) == again  # finished: not made again
    assert (again / "images.parquet").stat().st_mtime_ns == before
    augment(shop, again, of_encoder(encoder), config, checked_by=encoder.version)  # somebody else checks
    assert (again / "images.parquet").stat().st_mtime_ns != before
    other = augment(shop, tmp_path / "other", None, AugmentConfig(seed=1))
    assert (other / "images.bin").read_bytes() != (folder / "images.bin").read_bytes()


def test_what_agrees_less_is_left_out_with_its_reason(shop: Shop, tmp_path: Path) -> None:
    def dislikes_grounds(shown: Sequence[Shown]) -> np.ndarray:
        """Pictures whose corner is not white point away from every title."""
        rows = np.tile([1.0, 0.0], (len(shown), 1))
        for row, one in zip(rows, shown, strict=True):
            if one.image is not None and min(one.image.getpixel((1, 1))) < 240:  # type: ignore[type-var, arg-type]
                row[:] = (0.0, 1.0)
        return rows

    folder = augment(shop, tmp_path / "made", dislikes_grounds)
    left = pl.read_parquet(folder / "left_out.parquet")
    assert "bytes" not in left.columns
    left = left.filter(pl.col("why_not") == "title and photo agree less than before")
    assert {"ground", "view", "scale"} <= set(left["kind"])
    kept = Augmented(folder, shop).images.table
    assert {"standard"} <= set(kept["kind"])
    images = Augmented(folder, shop).images
    corners = {i: min(images.decode(i).getpixel((1, 1))) for i in kept["image_id"]}  # type: ignore[type-var, arg-type]
    assert min(corners.values()) >= 240
    assert (left["before"] - left["after"]).min() > 0.15  # type: ignore[operator]
    counts = json.loads((folder / "counts.json").read_text())
    assert counts["left_out"]["title and photo agree less than before"] == len(left) > 0


def test_a_stopped_run_goes_on(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "CHUNK", 5)
    plain, calls = make._of_product, list[str]()

    def until_the_seventh(product: Product, **rest: object) -> object:
        if len(calls) == 7:
            raise KeyboardInterrupt
        calls.append(product.product_id)
        return plain(product, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(make, "_of_product", until_the_seventh)
    with pytest.raises(KeyboardInterrupt):
        augment(shop, tmp_path / "made", None)
    assert not (tmp_path / "made").exists()
    seen: list[str] = []
    monkeypatch.setattr(
        make, "_of_product", lambda p, **rest: (seen.append(p.product_id), plain(p, **rest))[1]
    )
    folder = augment(shop, tmp_path / "made", None)
    assert sorted(seen, key=int) == [str(i) for i in range(5, 12)]  # the first chunk was there
    whole = augment(shop, tmp_path / "whole", None)
    assert (whole / "images.bin").read_bytes() == (folder / "images.bin").read_bytes()


def test_training_shows_made_things_of_products_alone(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    folder = augment(shop, tmp_path / "made", None)
    config = PosttrainConfig(
        batch=12, view_size=64, augmented=str(folder), augmented_share=1.0, modality_dropout=0.0,
        loop=LoopConfig(epochs=1.0, max_steps=2, evaluate_every=10),
    )  # fmt: skip
    stage = Posttrain([shop], encoder, config, 0)
    batch = stage.prepare(0)
    said = {tuple(i[m].tolist()) for i, m in zip(batch.products.ids, batch.products.mask, strict=True)}
    made = {
        tokenizer().ids(text, encoder.config.max_tokens) for text in Augmented(folder, shop).texts.values()
    }
    rich = {tokenizer().ids(product_text(shop.product(str(i))), encoder.config.max_tokens) for i in range(12)}
    assert said & made and said <= made | rich
    plain = Posttrain([shop], encoder, replace(config, augmented=""), 0).prepare(0)
    assert torch.equal(plain.queries.images, batch.queries.images)  # queries are what they were
    assert not torch.equal(plain.products.images, batch.products.images)
    assert posttrain(shop, encoder, tmp_path / "out", config).steps == 2
    assert stage.identity()["config"]["augmented"] == augmented_mark(str(folder)) != ""


def test_what_was_made_of_another_shop_is_refused(shop: Shop, shop_folder: Path, tmp_path: Path) -> None:
    folder = augment(shop, tmp_path / "made", None)
    with pytest.raises(InputError, match="made of another shop"):
        Augmented(folder, open_shop(shop_folder, cache=tmp_path / "other"))
    with pytest.raises(InputError, match="nothing was made here"):
        Augmented(tmp_path, shop)
    with pytest.raises(InputError):  # a folder of something else is not replaced
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("keep")
        augment(shop, tmp_path / "mine", None)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    bare = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        image_ids=pl.lit([], dtype=pl.List(pl.String))
    )
    (tmp_path / "bare").mkdir()
    bare.write_parquet(tmp_path / "bare" / "products.parquet")
    with pytest.raises(TooLittleData, match="no product has a photo"):
        augment(open_shop(tmp_path / "bare", cache=tmp_path / "bare-read"), tmp_path / "none", None)
