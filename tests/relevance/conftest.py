"""A made shop with judged pairs: made data, whose grades follow a rule that the model should find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf import progress
from moonshelf.relevance.model import RelevanceModel
from moonshelf.relevance.train import train_relevance
from moonshelf.shop.shop import Shop, open_shop

THINGS = ("shelf", "lamp", "curtain", "faucet", "drill", "mirror", "hose", "连衣裙")
COLOURS = ("red", "white", "black", "bronze")
BRANDS = ("Acmera", "Boltek", "Corvan")


def made_tables(seed: int = 0) -> dict[str, pl.DataFrame]:
    """96 products; 90 queries of 8 products each; grade 1, +1 right thing, +0.5 colour, +0.5 size."""
    rng = np.random.default_rng(seed)
    products = [
        {
            "product_id": f"p{i}",
            "title": f"{BRANDS[b]} {size} in. {colour.title()} {thing} with Steel Bracket",
            "category": f"Home > {thing}",
            "what": (thing, colour, size),
        }
        for i, (thing, colour, b) in enumerate((t, c, b) for t in THINGS for c in COLOURS for b in range(3))
        for size in (int(rng.integers(1, 5)) * 6,)
    ]
    pairs = []
    for q in range(90):
        thing, colour, size = THINGS[q % 8], COLOURS[rng.integers(4)], int(rng.integers(1, 5)) * 6
        text = [f"{colour} {thing}", f"{size} inch {thing}", f"{colour} {thing}s {size}in"][q % 3] + " " * (
            q // 24
        )
        text = f"{text.strip()} {['', 'for home', 'cheap', 'best'][q // 24]}".strip()
        alike = [i for i, p in enumerate(products) if p["what"][0] == thing]
        for i in {*rng.choice(alike, 4).tolist(), *rng.choice(len(products), 4).tolist()}:
            got = products[i]["what"]
            grade = 1.0 + (got[0] == thing) + (0.5 if colour not in text or got[1] == colour else 0)
            pairs.append(
                {
                    "query_id": f"q{q}",
                    "query_text": text,
                    "product_id": f"p{i}",
                    "grade": grade + (0.5 if str(size) not in text or got[2] == size else 0) - 0.5,
                    "split": "test" if q % 5 == 0 else "train",
                }
            )
    return {
        "products": pl.DataFrame([{k: v for k, v in p.items() if k != "what"} for p in products]),
        "relevance": pl.DataFrame(pairs),
    }


def write(tables: dict[str, pl.DataFrame], folder: Path) -> Shop:
    raw = folder / "raw"
    raw.mkdir(parents=True)
    for name, frame in tables.items():
        frame.write_parquet(raw / f"{name}.parquet")
    with progress.quiet():
        return open_shop(raw, cache=folder / "prepared")


@pytest.fixture(scope="session")
def write_made() -> Callable[..., Shop]:
    """``write_made(folder, events=frame)``: the made shop with other tables, in a folder."""
    return lambda folder, **tables: write({**made_tables(), **tables}, folder)


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The made shop."""
    return write(made_tables(), tmp_path_factory.mktemp("judged"))


@pytest.fixture
def shop_of(tmp_path: Path, write_made: Callable[..., Shop]) -> Callable[..., Shop]:
    """``shop_of(relevance=frame)``: the made shop with other tables."""
    return lambda **tables: write_made(tmp_path, **tables)


@pytest.fixture(scope="session")
def trained(judged: Shop, tmp_path_factory: pytest.TempPathFactory) -> tuple[RelevanceModel, Path]:
    """A model of the made shop, and its folder."""
    folder = tmp_path_factory.mktemp("work") / "relevance"
    with progress.quiet():
        return train_relevance(judged, folder), folder
