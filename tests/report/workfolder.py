"""A small messy shop, and a work folder as a run leaves it: real formats, invented numbers."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from moonshelf import workspace
from moonshelf.evaluation.metrics import chance_recall
from moonshelf.evaluation.result import OURS, SearchResult, differences, summarise
from moonshelf.shop.shop import Shop
from moonshelf.training.runlog import RunLog
from moonshelf.types import Interval

SCRIPT = "<script>alert(1)</script>"
CATEGORIES = ("Home > Mugs", "Home > Lamps", "Shoes > Boots", "食品 > 茶")
SETTINGS: dict[str, Any] = {
    "seed": 7,
    "threads": 0,
    "encoder": {"image_size": 160, "widths": (256, 128, 64, 32)},
    "posttrain": {"optim": {"trunk_lr": 0.0003}, "batch": 48},
    "hash": "c0ffee0011223344",
    "torch_threads": 2,
}
TIMINGS = {"read the shop": 12.3, "pretrain": 312.0, "posttrain": 1405.5, "evaluate": 98.4, "embed": 20.0}
SKILL = {"untrained": 1.1, "pretrain": 0.8, "posttrain": 0.12}


def write_stage(work: Path, name: str, steps: int, start: float, end: float, *, val: bool = True) -> None:
    """``pretrain/`` or ``posttrain/``: log and manifest."""
    folder = work / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(steps)
    history = []
    with RunLog(folder, 0, name) as log:
        for step in range(steps + 1):
            share = step / steps
            if step:
                loss = 3 + 5 * np.exp(-4 * share) + rng.normal(0, 0.4)
                values = {"loss": loss, "gradient_norm": 20 + 270 * np.exp(-60 * share) + rng.normal(0, 3)}
                if name == "posttrain":
                    values |= balanced(step, steps, rng)
                log.write(
                    step,
                    "train",
                    values | {"rate": 1 - share, "scale": 16 + share, "epoch": 4 * step // steps},
                )
            if val and step % (steps // 8) == 0:
                recall = start + (end - start) * (1 - np.exp(-3 * share)) - 0.02 * (step == steps)
                record = {"recall@1": round(float(recall), 4), "mrr": round(float(recall) * 0.9 + 0.1, 4)}
                log.write(step, "val", record)
                history.append({"step": float(step), **record})
    best = max(history, key=lambda r: r["recall@1"], default={})
    metrics = {"steps": steps, "best": best, "history": history, "stopped_early": name == "posttrain"}
    workspace.write_manifest(folder, stage=name, seed=7, seconds=steps * 0.9, metrics=metrics)


def balanced(step: int, steps: int, rng: np.random.Generator) -> dict[str, float]:
    """What a stage with experts and a filter logs."""
    found = {"doubted": 0.6 - 0.4 * step / steps, "pair_weight": 0.6 + 0.3 * step / steps}
    tilt = np.linspace(1, 1 + 4 * step / steps, 10)
    counts = rng.multinomial(48, tilt / tilt.sum())
    found |= {f"phi_{k}": float(n) for k, n in enumerate(counts)}
    for view, lean in (("text", 0), ("image", 1), ("joint", 2)):
        shares = np.full(4, 0.2) + 0.2 * (np.arange(4) == lean)
        found |= {f"route_{view}_{z}": float(v) for z, v in enumerate(shares)}
    for name in ("text>joint", "image>text"):
        found |= {f"loss_{name}": 4.0 - step / steps, f"weight_{name}": 1.0}
    return found


def evaluation(shop: Shop, kind: str, step: str, *, last: bool, n: int = 400) -> dict[str, Any]:
    """An evaluation with the real result type over ranks that are drawn, not computed."""
    assert shop.products is not None and shop.searches is not None
    column = "query_image_id" if kind == "image" else "query_text"
    rows = shop.searches.filter(pl.col(column).is_not_null()).sort("query_id").head(n)
    ids = shop.products["product_id"].to_list()
    category = dict(shop.products.select("product_id", pl.col("category").fill_null("")).iter_rows())
    rng = np.random.default_rng(5)
    luck = rng.exponential(1.0, len(rows))
    ranks = {OURS: np.minimum(1 + np.floor(luck * SKILL[step] * 4), len(ids)).astype(np.int64)}
    if last and kind == "image":
        ranks["off_the_shelf"] = np.minimum(1 + np.floor(luck * 3), len(ids)).astype(np.int64)
        ranks["colour_histogram"] = np.minimum(1 + np.floor(luck * 11), len(ids)).astype(np.int64)
    metrics = {name: summarise(r, seed=0) for name, r in ranks.items()}
    chance = {
        f"recall@{k}": Interval(v, v, v, len(rows))
        for k in (1, 5, 10)
        if (v := chance_recall(len(ids), 1, k))
    }
    paths = [category[p] for p in rows["product_id"]]
    levels = {"top": [p.split(" > ")[0] for p in paths], "leaf": paths}
    by = {
        level: {
            name: {s: summarise(r[np.array(names, dtype=object) == name]) for s, r in ranks.items()}
            for name in sorted(set(names))
        }
        for level, names in levels.items()
    }
    examples = []
    for i, row in enumerate(rows.iter_rows(named=True)):
        others = [p for p in rng.permutation(ids)[:11] if p != row["product_id"]][:10]
        rank = int(ranks[OURS][i])
        if rank <= 10:
            others.insert(rank - 1, row["product_id"])
        examples.append(
            {
                "query_id": row["query_id"],
                "query_image_id": row["query_image_id"],
                "query_text": row["query_text"],
                "positives": [row["product_id"]],
                "rank": rank,
                "top": [str(p) for p in others[:10]],
            }
        )
    result = SearchResult(
        metrics=metrics.pop(OURS),
        baselines={**metrics, "chance": chance} if last else {},
        difference=differences(ranks[OURS], ranks["off_the_shelf"]) if "off_the_shelf" in ranks else {},
        by_category=by,
        ranks=ranks,
        top_ids=(),
        top_scores=np.empty((0, 10)),
        queries=(),
        right=(),
        protocol={
            "task": kind,
            "split": "test",
            "gallery": len(ids),
            "distractors": [],
            "queries_dropped": {},
        },
        provenance={
            "encoder": f"enc-{step}",
            "shop": shop.fingerprint,
            "seed": 7,
            "code": "0.1",
            "machine": {"cores": 2},
        },
    )
    return {**result.to_json(), "examples": examples[:200]}


def write_evaluations(work: Path, shop: Shop) -> None:
    """``evaluation/``: three steps by photo and by text, when the shop has such searches."""
    assert shop.searches is not None
    (work / "evaluation").mkdir(parents=True, exist_ok=True)
    for kind, column in (("image", "query_image_id"), ("text", "query_text")):
        if not len(shop.searches.drop_nulls(column)):
            continue
        for step in SKILL:
            name = step if kind == "image" else f"text-{step}"
            value = evaluation(shop, kind, step, last=step == "posttrain")
            (work / "evaluation" / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False))


def write_shelf(work: Path, rows: int) -> None:
    """``shelf/``: its description and manifest."""
    folder = work / "shelf"
    folder.mkdir(parents=True)
    counts = {"rows": rows, "embedded": rows, "reused": 0, "products_left_out": 1, "photos_failed": 0}
    info = {"rows": rows, "dim": 256, "dtype": "f32", "encoder_version": "enc-posttrain", "counts": counts}
    workspace.write_json(folder / "shelf.json", info)
    workspace.write_manifest(folder, stage="shelf", seconds=20.0, metrics=counts)


def write_work(work: Path, shop: Shop) -> Path:
    """Everything."""
    write_stage(work, "pretrain", 240, 0.31, 0.52)
    write_stage(work, "posttrain", 640, 0.5, 0.83)
    write_evaluations(work, shop)
    assert shop.products is not None
    write_shelf(work, len(shop.products))
    return work


@cache
def photo(seed: int, *, phone: bool = False, side: int = 112) -> bytes:
    """JPEG bytes of a coloured disc, on white or on noise."""
    rng = np.random.default_rng(seed)
    ground = (
        rng.integers(60, 200, (8, 8, 3), dtype=np.uint8) if phone else np.full((8, 8, 3), 250, dtype=np.uint8)
    )
    image = Image.fromarray(ground).resize((side, side), Image.Resampling.BICUBIC)
    x, y, r = (int(v) for v in rng.integers((40, 40, 18), (70, 70, 36)))
    fill = tuple(int(v) for v in rng.integers(20, 230, 3))
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=fill)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return out.getvalue()


def write_messy(folder: Path, *, products: int = 40, searches: int = 90) -> Path:
    """Products in four categories with bad prices, a text file as a photo, twins, a leaking query."""
    folder.mkdir(parents=True)
    images = [(f"p{i}", photo(i % 400)) for i in range(products)] + [
        ("broken", b"not a photo"),
        ("twin", photo(1)),
    ]
    images += [(f"q{i}", photo(i, phone=True)) for i in range(500, 500 + searches)]
    rows: list[dict[str, Any]] = [
        {
            "product_id": f"sku-{i}",
            "title": {0: SCRIPT, 1: "红色 马克杯 & <b>", 2: None}.get(i, f"product number {i}"),
            "category": None if i == 5 else CATEGORIES[i % len(CATEGORIES)],
            "price": "cheap" if i % 9 == 0 else f"{i}.5",
            "image_ids": [f"p{i}", "twin"] if i == 1 else ["broken"] if i == 3 else [f"p{i}"],
        }
        for i in range(products)
    ]
    rows.append(rows[-1] | {"title": "the same id again"})
    asked: list[dict[str, Any]] = []
    for i in range(searches):
        row = {
            "query_id": f"s{i}",
            "product_id": f"sku-{i % products}",
            "split": ("train", "val", "test")[i % 3],
        }
        text = i % 3 == 1
        asked.append(
            row
            | {
                "query_text": (SCRIPT if i == 1 else f"find 查询 {i}") if text else None,
                "query_image_id": None if text else f"q{500 + i}",
            }
        )
    asked.append(asked[2] | {"query_id": "leak", "split": "train"})
    asked.append(asked[0] | {"query_id": "nobody", "product_id": "no-such-product"})
    pl.DataFrame(rows).write_parquet(folder / "products.parquet")
    pl.DataFrame(images, schema=["image_id", "bytes"], orient="row").write_parquet(folder / "images.parquet")
    pl.DataFrame(asked).write_parquet(folder / "searches.parquet")
    return folder
