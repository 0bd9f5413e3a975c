"""Small shops on disk, made by hand for each test."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from moonshelf import progress
from moonshelf.shop.shop import Shop, open_shop

Raw = Callable[..., Path]
Photo = Callable[..., bytes]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with progress.quiet():
        yield


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """A smooth random colour picture: no two seeds look alike."""

    def make(seed: int = 0, size: tuple[int, int] = (96, 80)) -> Image.Image:
        noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        return Image.fromarray(noise, "RGB").resize(size, Image.Resampling.BICUBIC)

    return make


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """A PIL image as the bytes of a file."""

    def make(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
        out = io.BytesIO()
        image.save(out, kind, **options)
        return out.getvalue()

    return make


@pytest.fixture
def photo(picture: Callable[..., Image.Image], encode: Callable[..., bytes]) -> Callable[..., bytes]:
    """JPEG bytes of a random picture."""

    def make(seed: int = 0, size: tuple[int, int] = (96, 80)) -> bytes:
        return encode(picture(seed, size), quality=90)

    return make


@pytest.fixture
def raw(tmp_path: Path) -> Callable[..., Path]:
    """Write tables (name -> dict of columns) as Parquet, CSV or JSONL into one raw shop folder."""

    def make(kind: str = "parquet", **tables: dict[str, list[Any]]) -> Path:
        folder = tmp_path / "raw"
        folder.mkdir(exist_ok=True)
        for name, columns in tables.items():
            frame = pl.DataFrame(columns, strict=False)
            if kind == "parquet":
                frame.write_parquet(folder / f"{name}.parquet")
            elif kind == "csv":
                texts = {k: [_cell(v) for v in values] for k, values in columns.items()}
                pl.DataFrame(texts).write_csv(folder / f"{name}.csv")
            else:
                rows = [
                    dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
                ]
                (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder

    return make


def _cell(value: Any) -> str | None:
    return json.dumps(value) if isinstance(value, (list, dict)) else None if value is None else str(value)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Shop]:
    """Open a raw shop into a cache of its own."""

    def make(folder: Path, **options: Any) -> Shop:
        return open_shop(folder, cache=tmp_path / "prepared", **options)

    return make


@pytest.fixture
def full(raw: Raw, photo: Photo) -> Path:
    """A shop with a bit of everything, good and bad."""
    cut = photo(9)[:400]
    return raw(
        products={
            "product_id": ["1", "2", "3", "4"],
            "title": ["Red mug", "Blue mug", None, "Lamp"],
            "price": [3.0, float("nan"), None, 20.0],
            "spu_id": ["mug", "mug", None, None],
            "attributes": ['{"colour": "red"}', None, None, None],
            "image_ids": [["a", "b"], ["c", "cut"], ["a"], ["nowhere"]],
        },
        images={
            "image_id": ["a", "b", "c", "cut", "q"],
            "bytes": [photo(1), photo(2), photo(3), cut, photo(4)],
        },
        searches={
            "query_id": ["q1", "q2", "q3", "q4", "q5"],
            "product_id": ["1", "2", "99", "1", "2"],
            "query_text": [None, "blue", "x", None, "mug"],
            "query_image_id": ["q", None, None, "cut", "cut"],
            "split": ["train", "test", "test", "train", "val"],
        },
        events={
            "user_id": ["u", "u"],
            "time": [datetime(2024, 1, 1)] * 2,
            "product_id": ["1", "77"],
            "action": ["view", "view"],
        },
    )
