"""A small shop with impressions and events whose truth is known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

START = datetime(2025, 3, 1, tzinfo=UTC)
COLOURS, KINDS = ("red", "blue", "green", "white"), ("mug", "lamp", "shoe")
N, USERS = 60, 30


def write_shop(folder: Path, products: int = N) -> Path:
    """Users like one colour; a page shows six products for a query by kind, and places further down get fewer looks."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    colour = [COLOURS[i % 4] for i in range(products)]
    kind = [KINDS[i % 3] for i in range(products)]
    pl.DataFrame(
        {
            "product_id": [f"p{i}" for i in range(products)],
            "title": [f"{c} {k} {i}" for i, (c, k) in enumerate(zip(colour, kind, strict=True))],
            "category": [f"Shop > {k}" for k in kind],
            "attributes": [json.dumps({"colour": c}) for c in colour],
        }
    ).write_csv(folder / "products.csv")
    shown, acts = [], []
    for page in range(400):
        user, time = int(rng.integers(0, USERS)), START + timedelta(hours=page)
        k = int(rng.integers(0, 3))
        items = rng.choice(np.arange(k, N, 3), 6, replace=False)
        for place, item in enumerate(items.tolist(), 1):
            likes = 0.75 if item % 4 == user % 4 else 0.05
            click = int(rng.random() < likes / place**0.5)
            shown.append((f"u{user}", time, f"p{item}", click, place, f"page{page}", KINDS[k]))
            if click:
                acts.append((f"u{user}", time + timedelta(seconds=30), f"p{item}", "click", KINDS[k]))
    names = ["user_id", "time", "product_id", "clicked", "position", "query_id", "query_text"]
    pl.DataFrame(shown, schema=names, orient="row").write_parquet(folder / "impressions.parquet")
    names = ["user_id", "time", "product_id", "action", "query_text"]
    pl.DataFrame(acts, schema=names, orient="row").write_parquet(folder / "events.parquet")
    return folder
