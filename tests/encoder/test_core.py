"""Core regions: found on photos, kept beside them, seen as a second photo wherever an encoder looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

from moonshelf.encoder import (
    CompactEncoder,
    Item,
    core,
    load_encoder,
    photo_reader,
    prepare_photo,
    save_encoder,
)
from moonshelf.encoder.core import CoreBoxes, core_finder, core_pixels, find_core
from moonshelf.evaluation.benchmark import of_encoder
from moonshelf.shelf import build_index, embed_shop
from moonshelf.shelf.search import search
from moonshelf.shop.shop import Shop
from moonshelf.training.config import LoopConfig, PosttrainConfig
from moonshelf.training.photos import PhotoReader
from moonshelf.training.posttrain import Posttrain, posttrain
from moonshelf.types import Shown


def scene(left: int, top: int, side: int = 90) -> Image.Image:
    """A striped ball on even ground, 400 x 300."""
    image = Image.new("RGB", (400, 300), (226, 226, 220))
    pen = ImageDraw.Draw(image)
    pen.ellipse((left, top, left + side, top + side), fill=(200, 60, 40), outline=(30, 20, 20), width=3)
    for k in range(15, side, 15):
        pen.line((left + 10, top + k, left + side - 10, top + k), fill=(250, 240, 60), width=4)
    return image


@pytest.fixture
def seeing(encoder: CompactEncoder) -> CompactEncoder:
    """An encoder of the same weights that looks at core regions."""
    twin = CompactEncoder(replace(encoder.config, core=True)).eval()
    twin.load_state_dict(encoder.state_dict())
    return twin


@pytest.mark.parametrize(("left", "top"), [(20, 20), (280, 180), (150, 100)])
def test_the_box_lies_around_the_subject(left: int, top: int) -> None:
    box = find_core(scene(left, top))
    assert all(0 <= edge <= 1 for edge in box)
    shown = (box[0] * 400, box[1] * 300, box[2] * 400, box[3] * 300)
    middle = (left + 45, top + 45)
    assert shown[0] < middle[0] < shown[2] and shown[1] < middle[1] < shown[3]
    assert (box[2] - box[0]) * (box[3] - box[1]) < 0.4  # of the photo, of which the ball fills 7%
    inside = max(0.0, min(shown[2], left + 90) - max(shown[0], left)) * max(
        0.0, min(shown[3], top + 90) - max(shown[1], top)
    )
    assert inside > 0.6 * 90 * 90


def test_of_a_photo_of_nothing_little_is_cut_away() -> None:
    left, top, right, bottom = find_core(Image.new("RGB", (80, 60), "white"))
    assert (right - left) * (bottom - top) > 0.8


def test_heat_equals_its_formula() -> None:
    finder = core_finder()
    pixels = torch.stack(
        [torch.from_numpy(prepare_photo(scene(*at), 96, core=False)[0]) for at in ((20, 20), (250, 150))]
    )
    grid = finder.trunk((pixels.float() - 127) / 128)
    chance = finder.classify(grid.mean((2, 3))).softmax(1)
    grey = (pixels.float().mean(1) / 255).numpy()
    heat = finder.heat(pixels)
    for n in range(2):
        weight = sum(p * w for p, w in zip(chance[n], finder.classify.weight, strict=True))
        activation = (grid[n] * weight[:, None, None]).sum(0).relu()
        seen = F.interpolate(
            (activation / activation.max())[None, None], size=(core.HEAT, core.HEAT), mode="bicubic"
        )
        slope = np.hypot(np.diff(grey[n], axis=1)[:-1], np.diff(grey[n], axis=0)[:, :-1])
        edges = F.adaptive_avg_pool2d(torch.from_numpy(slope)[None, None], core.HEAT)
        edges = F.avg_pool2d(edges, 5, stride=1, padding=2)
        want = (seen.clamp(min=0) * (edges / edges.max() + 0.05))[0, 0]
        torch.testing.assert_close(heat[n], want, rtol=1e-3, atol=1e-4)
    assert float(heat.std()) > 0.01


def test_crops_are_what_lies_in_the_box() -> None:
    image = Image.new("RGB", (200, 100), "blue")
    image.paste("red", (100, 0, 200, 50))
    red = core_pixels(image, (0.5, 0.0, 1.0, 0.5), 32)
    assert red.shape == (3, 32, 32) and (red[0] == 255).all() and (red[2] == 0).all()
    assert core_pixels(image, (0.999, 0.999, 1.0, 1.0), 8).shape == (3, 8, 8)


def test_boxes_are_found_once_and_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shop.images.folder / f"core-{core.VERSION}.parquet"
    path.unlink(missing_ok=True)
    some = CoreBoxes(shop.images).find(shop.images.ids[:3])
    assert len(pl.read_parquet(path)) == 3
    whole = CoreBoxes(shop.images).find()
    assert len(pl.read_parquet(path)) == len(shop.images.ids)
    first = shop.images.ids[0]
    image = shop.images.decode(first, short_side=160)
    assert whole.of(first, image) == some.of(first, image)
    with monkeypatch.context() as patch:
        patch.setattr(core, "core_finder", lambda: pytest.fail("nothing is missing"))
        again = CoreBoxes(shop.images).find()
        assert again.of(first, image) == whole.of(first, image)
    path.write_bytes(b"damaged")
    lone = CoreBoxes(shop.images)
    found = lone.of(first, shop.images.decode(first, short_side=core.SIDE))  # found when it is asked for
    assert found == pytest.approx(whole.of(first, image), abs=2 / core.STEPS)
    lone.save()
    assert pl.read_parquet(path)["image_id"].to_list() == [first]


def test_boxes_are_written_on_the_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shop.images.folder / f"core-{core.VERSION}.parquet"
    path.unlink(missing_ok=True)
    monkeypatch.setattr(core, "SAVED", 40)
    plain, calls = core.CoreFinder.boxes, list[int]()

    def until_the_third(self: core.CoreFinder, pixels: torch.Tensor) -> list[core.Box]:
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, pixels)

    monkeypatch.setattr(core.CoreFinder, "boxes", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        CoreBoxes(shop.images).find()
    assert len(pl.read_parquet(path)) == 64


def test_an_encoder_sees_the_core_wherever_it_looks(
    shop: Shop, encoder: CompactEncoder, seeing: CompactEncoder, tmp_path: Path
) -> None:
    """Shelf, search, benchmark and reader agree; whole photos alone give other vectors."""
    size, photo = seeing.image_size, shop.images.ids[0]
    assert seeing.version != encoder.version
    read = photo_reader(shop.images, size, core=True)
    assert len(read(photo)) == 2 and len(photo_reader(shop.images, size, core=False)(photo)) == 1
    row = seeing.encode([Item(images=read(photo))])
    plain = encoder.encode([Item(images=read(photo)[:1])])
    assert float((row * plain).sum()) < 0.9999
    image = shop.images.decode(photo)
    assert np.allclose(of_encoder(seeing)([Shown(None, image)]), row, atol=2e-3)
    shelf = embed_shop(shop, seeing, tmp_path / "shelf", use=("image",))
    product = next(p for p in shop.products["product_id"] if photo in shop.product(p).image_ids)  # type: ignore[index]
    hit = search(shelf, seeing, image=image, index=build_index(shelf), k=1)[0]
    assert hit.product_id == product and hit.score > 0.995
    (tmp_path / "encoder").mkdir()
    save_encoder(seeing, tmp_path / "encoder")
    assert load_encoder(tmp_path / "encoder").config.core
    assert [p.shape for p in prepare_photo(image, size, core=True)] == [(3, size, size)] * 2


def test_training_shows_every_photo_twice(
    shop: Shop, encoder: CompactEncoder, seeing: CompactEncoder, tmp_path: Path
) -> None:
    reader = PhotoReader([shop.images], 64, core=True)
    read = reader.read([(0, shop.images.ids[0]), (0, shop.images.ids[1])])
    assert reader.copies == 2 and read.shape == (4, 3, 80, 80)
    assert torch.equal(read[2:], reader.read([(0, shop.images.ids[1])]))
    config = PosttrainConfig(
        batch=8,
        view_size=64,
        self_weight=0.1,
        modality_dropout=0.0,
        loop=LoopConfig(epochs=1.0, max_steps=2, evaluate_every=10),
    )
    batch = Posttrain([shop], seeing, config, 0).prepare(0)
    plain = Posttrain([shop], encoder, config, 0).prepare(0)
    for name in ("queries", "products"):
        ours, theirs = getattr(batch, name), getattr(plain, name)
        assert torch.equal(ours.owner, theirs.owner.repeat_interleave(2)) and torch.equal(
            ours.ids, theirs.ids
        )
        assert len(ours.images) == 2 * len(theirs.images)
    assert len(batch.second.images) == len(plain.second.images)
    assert posttrain(shop, seeing, tmp_path / "out", config).steps == 2
