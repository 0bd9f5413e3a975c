"""Measuring as a stage: an encoder's search results in files, with sample searches for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moonshelf import pipeline, workspace
from moonshelf.config import as_dict
from moonshelf.encoder import CompactEncoder
from moonshelf.errors import TooLittleData
from moonshelf.evaluation.image_search import search_recall
from moonshelf.evaluation.queries import Kind, build_gallery
from moonshelf.evaluation.result import OURS, SearchResult
from moonshelf.progress import say
from moonshelf.recipes import RunConfig
from moonshelf.shelf import Shelf
from moonshelf.shop.shop import Shop

EXAMPLES = 200  # searches kept with their answers in an evaluation file, for the report


def evaluate(
    shop: Shop,
    encoder: CompactEncoder,
    config: RunConfig,
    *,
    kind: Kind,
    distractors: Sequence[Shop] = (),
    products: set[str] | None = None,
    baselines: bool = True,
    limit: int | None = None,
    rows: np.ndarray | None = None,
) -> tuple[SearchResult, dict[str, Any]]:
    """Search recall of an encoder, and the object that ``--json`` writes, with sample searches for the report."""
    result = search_recall(
        shop,
        encoder,
        kind=kind,
        split=config.evaluation.split,
        distractors=distractors,
        products=products,
        seed=config.seed,
        baselines=baselines,
        query_limit=limit,
        gallery_rows=rows,
    )
    return result, {**result.to_json(), "examples": examples(result, kind, config.seed)}


def examples(result: SearchResult, kind: Kind, seed: int) -> list[dict[str, Any]]:
    """A sample of searches with their answers, for the report to draw."""
    chosen = np.random.default_rng(seed).permutation(len(result.queries))[:EXAMPLES]
    key = "query_image_id" if kind == "image" else "query_text"
    return [
        {
            "query_id": result.queries[i],
            "query_image_id": None,
            "query_text": None,
            key: result.queries[i],
            "positives": list(result.right[i]),
            "rank": int(result.ranks[OURS][i]),
            "top": list(result.top_ids[i]),
        }
        for i in np.sort(chosen)
    ]


def has_searches(shop: Shop, split: str, kind: Kind) -> bool:
    """Whether a shop has queries of a kind (``image``, ``text``) in a split."""
    if shop.searches is None:
        return False
    rows = shop.searches.filter(shop.searches["split"] == split)
    if kind == "text":
        rows = rows.filter(rows["query_image_id"].is_null())
    return len(rows.drop_nulls("query_image_id" if kind == "image" else "query_text")) > 0


def evaluated(
    work: Path,
    name: str,
    shop: Shop,
    encoder: CompactEncoder,
    config: RunConfig,
    noise: Sequence[Shop],
    *,
    baselines: bool,
    rows: np.ndarray | None,
) -> dict[str, dict[str, Any]]:
    """Results by kind of query in ``work/evaluation``, made again only when encoder, shop or settings changed.

    ``rows``: the gallery's vectors where they are known already; else they are made once for both kinds of query.
    """
    limits = {k: v for k, v in as_dict(config.evaluation).items() if k != "heatmaps"}
    key = workspace.digest(
        [encoder.version, shop.fingerprint, [s.fingerprint for s in noise], limits, baselines, config.seed]
    )
    kinds: tuple[Kind, ...] = ("image", "text")
    out: dict[str, dict[str, Any]] = {}
    for kind in kinds:
        if not has_searches(shop, config.evaluation.split, kind):
            continue
        path = work / "evaluation" / (f"{name}.json" if kind == "image" else f"{kind}-{name}.json")
        held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        if held.get("key") != key:
            say(f"evaluate: {kind} search, {name}")
            try:
                result, held = evaluate(
                    shop,
                    encoder.to(pipeline.device()),
                    config,
                    kind=kind,
                    distractors=noise,
                    baselines=baselines,
                    limit=config.evaluation.test_queries or None,
                    rows=rows,
                )
            except TooLittleData as error:
                say(f"evaluate: {kind} search left out: {error}")
                continue
            rows = result.gallery_rows
            path.parent.mkdir(parents=True, exist_ok=True)
            workspace.write_json(path, {**held, "key": key})
        out[kind] = held
    return out


def shelf_rows(shelf: Shelf, shop: Shop, encoder: CompactEncoder) -> np.ndarray | None:
    """The shelf's vectors as the gallery of an evaluation, where they are the very same; else None."""
    same = (shelf.encoder_version, shelf.dtype, shelf.dim) == (encoder.version, "f32", encoder.width)
    if (
        not same
        or tuple(shelf.product_ids) != build_gallery(shop, (), max_images=encoder.config.max_images).ids
    ):
        return None
    return shelf.rows()


def beside(results: dict[str, dict[str, Any]]) -> list[str]:
    """The baselines of each kind of search: measured once, on the same questions and gallery as our last stage."""
    lines = []
    for name, result in results.items():
        for other, metrics in result["baselines"].items():
            what = f"{name.partition(',')[0]}, {other.replace('_', ' ')}"
            lines.append(f"{what:<32} recall@1 {shown({'metrics': metrics})}")
    return lines


def shown(result: dict[str, Any]) -> str:
    m = result["metrics"]["recall@1"]
    return f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]  n = {m['n']}"
