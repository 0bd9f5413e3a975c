"""Small shops for a small encoder, so that the room is tested in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tinyshop import TinyEncoder, png

from moonshelf.shop.shop import Shop, open_shop


@pytest.fixture
def tiny() -> TinyEncoder:
    return TinyEncoder()


@pytest.fixture
def make_shop(tmp_path: Path) -> Callable[..., Shop]:
    """``make_shop(products=[{...}], images={id: bytes}, searches=[...])`` -> an opened shop."""

    def make(
        products: list[dict[str, Any]] | None = None,
        images: dict[str, bytes] | None = None,
        name: str = "shop",
        searches: list[dict[str, Any]] | None = None,
        require_products: bool = True,
    ) -> Shop:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        if products is not None:
            pl.DataFrame(products, infer_schema_length=None).write_parquet(folder / "products.parquet")
        if images:
            frame = pl.DataFrame({"image_id": list(images), "bytes": list(images.values())})
            frame.write_parquet(folder / "images.parquet")
        if searches:
            pl.DataFrame(searches, infer_schema_length=None).write_parquet(folder / "searches.parquet")
        return open_shop(folder, cache=tmp_path / f"{name}-cache", require_products=require_products)

    return make


@pytest.fixture
def make_many(make_shop: Callable[..., Shop]) -> Callable[..., Shop]:
    """``make_many(n)``: n products, each with a title, a price, a category and 0-3 photos."""

    def make(n: int, name: str = "shop", change: Sequence[int] = ()) -> Shop:
        images = {f"i{i}-{j}": png(i * 10 + j) for i in range(n) for j in range(i % 4)}
        products = [
            {
                "product_id": f"p{i}",
                "title": f"title {i}" + (" changed" if i in change else "") + " x" * (i % 7),
                "category": ["A > B", "A > C", "AB"][i % 3],
                "price": None if i % 5 == 0 else float(i),
                "image_ids": [f"i{i}-{j}" for j in range(i % 4)],
            }
            for i in range(n)
        ]
        return make_shop(products, images, name)

    return make
