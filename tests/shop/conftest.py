"""Small shops on disk, made by hand for each test."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from moonshelf import progress
from moonshelf.shop.shop import Shop, open_shop


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
