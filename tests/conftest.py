"""Shared fixtures: a small real shop of drawn photos, and quiet progress."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import settings
from PIL import Image, ImageDraw

from moonshelf import progress
from moonshelf.encoder import CompactConfig, CompactEncoder
from moonshelf.shop.shop import Shop, open_shop

COLOURS = {"red": (200, 30, 40), "green": (30, 160, 60), "blue": (40, 60, 200), "black": (30, 30, 30)}
SHAPES = ("circle", "square", "cross")


def pytest_configure() -> None:
    """Tests never read or write the user's own cache, and use one thread so that runs are comparable."""
    os.environ.pop("MOONSHELF_CACHE", None)
    torch.set_num_threads(1)
    # CI repeats the same examples, so that its verdict is about the change; runs by hand go on exploring
    settings.register_profile("ci", derandomize=True)
    settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with progress.quiet():
        yield


def draw(shape: str, colour: str, *, phone: bool, seed: int) -> bytes:
    """JPEG bytes of a coloured shape: centred on white, or turned on a noisy background as a phone would."""
    rng = np.random.default_rng(seed)
    side = 96
    if phone:
        pixels = rng.integers(90, 200, (side, side, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((side, side))
        x, y, r = (int(v) for v in rng.integers((35, 35, 20), (60, 60, 30)))
    else:
        image, (x, y, r) = Image.new("RGB", (side, side), "white"), (48, 48, 34)
    pen, fill = ImageDraw.Draw(image), COLOURS[colour]
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    else:
        pen.line((x - r, y - r, x + r, y + r), fill=fill, width=12)
        pen.line((x - r, y + r, x + r, y - r), fill=fill, width=12)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def write_shop(folder: Path) -> Path:
    """A shop of 12 products (3 shapes x 4 colours), 6 query photos and a text query each, explicit splits."""
    folder.mkdir(parents=True, exist_ok=True)
    products, images, searches = [], [], []
    for i, (shape, colour) in enumerate((s, c) for s in SHAPES for c in COLOURS):
        images.append({"image_id": f"p{i}", "bytes": draw(shape, colour, phone=False, seed=i)})
        products.append(
            {
                "product_id": str(i),
                "title": f"{colour} {shape}" if i % 2 else f"{colour} {shape} 玩具",
                "category": f"Toys > {shape}",
                "attributes": f'{{"colour": "{colour}"}}',
                "price": 1.0 + i,
                "spu_id": shape if colour in ("red", "green") else f"{shape}-{colour}",
                "image_ids": [f"p{i}"],
            }
        )
        for q in range(6):
            name = f"q{i}-{q}"
            images.append(
                {"image_id": name, "bytes": draw(shape, colour, phone=True, seed=1000 + 10 * i + q)}
            )
            split = "test" if q == 0 else "val" if q == 1 else "train"
            row = {"query_id": name, "product_id": str(i), "split": split, "action": "click"}
            searches.append(row | {"query_image_id": name, "query_text": None})
        text = {"query_id": f"t{i}", "product_id": str(i), "split": "train", "action": "purchase"}
        searches.append(text | {"query_image_id": None, "query_text": f"{colour} {shape}"})
    pl.DataFrame(products).write_parquet(folder / "products.parquet")
    pl.DataFrame(images).write_parquet(folder / "images.parquet")
    pl.DataFrame(searches).write_parquet(folder / "searches.parquet")
    return folder


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw folder of the small shop."""
    return write_shop(tmp_path_factory.mktemp("raw") / "toys")


@pytest.fixture
def shop_with(shop_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """``shop_with(searches=frame, images=None)``: the small shop with that table instead, without that one."""

    def write(**tables: pl.DataFrame | None) -> Path:
        raw = tmp_path / "raw"
        raw.mkdir()
        for name in {"products": 0, "images": 0, "searches": 0, **tables}:
            frame = tables.get(name)
            if frame is not None:
                frame.write_parquet(raw / f"{name}.parquet")
            elif name not in tables:
                (raw / f"{name}.parquet").write_bytes((shop_folder / f"{name}.parquet").read_bytes())
        return raw

    return write


@pytest.fixture(scope="session")
def shop(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The small shop, opened."""
    with progress.quiet():
        return open_shop(shop_folder, cache=tmp_path_factory.mktemp("prepared") / "toys")


@pytest.fixture(scope="session")
def _untrained() -> CompactEncoder:
    return CompactEncoder.untrained(CompactConfig(image_size=64))


@pytest.fixture
def encoder(_untrained: CompactEncoder) -> CompactEncoder:
    """A fresh untrained encoder at 64 px, cheap to copy."""
    copy = CompactEncoder(_untrained.config)
    copy.load_state_dict(_untrained.state_dict())
    return copy.eval()


@pytest.fixture
def openai_like(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a script of ``servers`` (with a key, if any) and gives its address; stopped after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(key: str = "", name: str = "openai_like") -> str:
        port = tmp_path / f"port{len(started)}"
        script = Path(__file__).parent / "servers" / f"{name}.py"
        started.append(subprocess.Popen([sys.executable, str(script), str(port), *([key] if key else [])]))
        until = time.monotonic() + 60
        while not port.is_file():
            assert started[-1].poll() is None and time.monotonic() < until, "the server did not start"
            time.sleep(0.02)
        return f"http://127.0.0.1:{port.read_text()}/v1"

    yield start
    for process in started:
        process.kill()
        process.wait()
