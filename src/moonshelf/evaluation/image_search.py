"""Search recall: a query photo (or text) against every product; the intermediate metric of the method.

Protocol (our design, as the published one is not known): the gallery is every product of the shop, plus
the distractor shops'. A query is right when a product acted on for it is among the first k. Other SKUs of
the same SPU are set aside for that query (``spu="mask"``) or count as right (``spu="count"``). Ties count
against us. Three baselines on the same queries and gallery always stand beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any, Literal

import numpy as np
import torch

from moonshelf.encoder import load_encoder
from moonshelf.errors import InputError
from moonshelf.evaluation.baselines import photo_features
from moonshelf.evaluation.metrics import RESAMPLES, chance_mrr, chance_recall, first_hit_ranks
from moonshelf.evaluation.queries import Gallery, Kind, QuerySet, SpuRule, build_gallery, build_queries
from moonshelf.evaluation.result import CUTS, OURS, Metrics, SearchResult, differences, summarise
from moonshelf.shelf.embed import BOTH, Modality
from moonshelf.shelf.queries import embed_matrix
from moonshelf.shelf.stream import Embedder
from moonshelf.shelf.topk import blocks, top_k
from moonshelf.shop.shop import Shop
from moonshelf.types import Interval
from moonshelf.workspace import code_version, digest, machine

TOP = 10


def search_recall(
    shop: Shop,
    encoder: Embedder,
    *,
    kind: Kind = "image",
    split: str = "test",
    distractors: Sequence[Shop] = (),
    products: Set[str] | None = None,
    gallery_use: Sequence[Modality] = BOTH,
    spu: SpuRule = "mask",
    dim: int | None = None,
    baselines: bool | SearchResult = True,
    intervals: Literal["query", "product"] = "query",
    distractor_limit: int | None = None,
    query_limit: int | None = None,
    gallery_rows: np.ndarray | None = None,
    batch_size: int = 32,
    seed: int = 0,
    workers: int | None = None,
) -> SearchResult:
    """Recall@1/5/10 and MRR of searching the shop by photo or by text.

    Args:
        kind: ``image`` asks with the photos of ``searches``, ``text`` with their texts.
        split: which searches.
        distractors: shops whose products (or photos, without a products table) join the gallery.
        products: ask only for these products; the gallery stays whole (product-disjoint test).
        gallery_use: modalities of the gallery's vectors.
        spu: other SKUs of a right product's SPU are masked, or count as right.
        dim: width of the vectors.
        baselines: colour histogram and off-the-shelf trunk on main photos (photo queries only), and chance.
            An earlier result on the same queries and gallery lends its baselines.
        intervals: draw queries, or products with all their queries (wider, honest when queries are alike).
        distractor_limit: at most so many rows a distractor shop.
        query_limit: at most so many queries, a random sample that is the same for every encoder.
        gallery_rows: the gallery's vectors from an earlier result (``SearchResult.gallery_rows``) of the same
            encoder, shop, distractors, ``gallery_use`` and ``dim``; None computes them.
        seed: of the bootstrap, and of the distractors and queries drawn.

    Raises:
        InputError: no queries of this kind in the split, no products.

    Cost: one forward pass a product and query (two with baselines); memory ``G x (dim + 1800)`` float32.
    """
    if tuple(gallery_use) not in (("image",), ("text",), BOTH, ("text", "image")):
        raise InputError(f"unknown modalities {list(gallery_use)}", mend="use image, text or both")
    gallery = build_gallery(
        shop,
        distractors,
        use=gallery_use,
        max_images=encoder.config.max_images,
        limit=distractor_limit,
        seed=seed,
    )
    asked = build_queries(
        shop, gallery, kind=kind, split=split, products=products, spu=spu, limit=query_limit, seed=seed
    )
    groups = asked.product if intervals == "product" else None
    rows, failed = gallery_rows, list[str]()
    if rows is None:
        rows, failed = _gallery_vectors(gallery, encoder, batch_size, dim, workers)
    elif rows.shape != (len(gallery.ids), dim or encoder.width):
        raise InputError(
            f"gallery_rows are {rows.shape}, the gallery needs {(len(gallery.ids), dim or encoder.width)}",
            mend="pass the rows of a result with the same encoder, shop and distractors",
        )
    queries, unread = embed_matrix(
        asked.requests, encoder, shop.images, batch_size=batch_size, dim=dim, workers=workers, label="queries"
    )
    ranks = {OURS: first_hit_ranks(queries, rows, asked.positives, masked=asked.masked)}
    same = digest([asked.keys, gallery.ids, [p.tolist() for p in asked.positives], spu])
    if isinstance(baselines, SearchResult):
        ranks |= _lent(baselines, same)
    elif baselines and kind == "image":
        ranks |= _baseline_ranks(shop, gallery, asked, batch_size, workers)
    metrics = {name: summarise(r, seed=seed, groups=groups) for name, r in ranks.items()}
    others: dict[str, Metrics] = {
        name: metrics[name] for name in ("off_the_shelf", "colour_histogram") if name in metrics
    }
    chance = {"chance": _chance(gallery, asked)} if baselines else {}
    difference: Metrics = {}
    if "off_the_shelf" in ranks:
        difference = differences(ranks[OURS], ranks["off_the_shelf"], seed=seed, groups=groups)
    scores, found = _top(queries, rows, asked)
    protocol: dict[str, Any] = {
        "task": kind,
        "split": split,
        "gallery": len(gallery.ids),
        "gallery_use": list(gallery_use),
        "gallery_left_out": len(gallery.left_out),
        "distractors": [s.name for s in distractors],
        "distractor_rows": len(gallery.ids) - gallery.shops[0][2],
        "distractor_limit": distractor_limit,
        "query_limit": query_limit,
        "products_asked_for": len(set(asked.product)),
        "product_subset": products is not None,
        "queries_dropped": asked.dropped,
        "query_photos_also_in_gallery": len(set(asked.keys) & set(gallery.main)) if kind == "image" else 0,
        "photos_failed": len(failed) + len(unread),
        "spu": spu,
        "ties": "count against",
        "dim": dim or encoder.width,
        "intervals_over": "queries" if intervals == "query" else "products",
        "resamples": RESAMPLES,
    }
    provenance = {
        "encoder": encoder.version,
        "shop": shop.fingerprint,
        "questions": same,
        "distractors": [s.fingerprint for s in distractors],
        "seed": seed,
        "code": code_version(),
        "machine": machine(),
    }
    return SearchResult(
        metrics=metrics[OURS],
        baselines={**others, **chance},
        difference=difference,
        by_category=_by_category(asked, ranks, seed),
        ranks=ranks,
        gallery_rows=rows,
        top_ids=tuple(tuple(gallery.ids[r] for r in line if r >= 0) for line in found.tolist()),
        top_scores=scores,
        queries=asked.keys,
        right=tuple(tuple(gallery.ids[r] for r in p.tolist()) for p in asked.positives),
        protocol=protocol,
        provenance=provenance,
    )


def image_search(shop: Shop, encoder: Embedder, **options: Any) -> SearchResult:
    """``search_recall`` by photo; the options are the same."""
    return search_recall(shop, encoder, kind="image", **options)


def text_search(shop: Shop, encoder: Embedder, **options: Any) -> SearchResult:
    """``search_recall`` by text; the options are the same."""
    return search_recall(shop, encoder, kind="text", **options)


def _gallery_vectors(
    gallery: Gallery, encoder: Embedder, batch_size: int, dim: int | None, workers: int | None
) -> tuple[np.ndarray, list[str]]:
    parts: list[np.ndarray] = []
    failed: list[str] = []
    for shop, first, last in gallery.shops:
        part, failures = embed_matrix(
            gallery.requests[first:last],
            encoder,
            shop.images,
            batch_size=batch_size,
            dim=dim,
            workers=workers,
            label=f"gallery {shop.name}",
        )
        parts.append(part)
        failed += [failure.image_id for failure in failures]
    return np.concatenate(parts), failed


def _baseline_ranks(
    shop: Shop, gallery: Gallery, asked: QuerySet, batch_size: int, workers: int | None
) -> dict[str, np.ndarray]:
    trunk = load_encoder("compact", "cuda" if torch.cuda.is_available() else "cpu")

    def features(source: Shop, ids: Sequence[str | None], label: str) -> dict[str, np.ndarray]:
        return photo_features(
            source.images, ids, trunk, batch_size=batch_size, workers=workers, label=f"baselines {label}"
        )

    queries = features(shop, asked.keys, "queries")
    parts = [features(source, gallery.main[first:last], source.name) for source, first, last in gallery.shops]
    return {
        name: first_hit_ranks(
            queries[name],
            np.concatenate([part[name] for part in parts]),
            asked.positives,
            masked=asked.masked,
        )
        for name in queries
    }


def _lent(earlier: SearchResult, questions: str) -> dict[str, np.ndarray]:
    if earlier.provenance.get("questions") != questions:
        raise InputError(
            "the earlier result has other queries or another gallery", mend="compute the baselines again"
        )
    return {name: ranks for name, ranks in earlier.ranks.items() if name != OURS}


def _chance(gallery: Gallery, asked: QuerySet) -> Metrics:
    """The expectation of a random order; exact, so its interval has no width."""
    n = len(asked.keys)
    sizes: dict[tuple[int, int], int] = {}
    for right, aside in zip(asked.positives, asked.masked, strict=True):
        key = (len(gallery.ids) - len(aside), len(right))
        sizes[key] = sizes.get(key, 0) + 1

    def mean(values: dict[tuple[int, int], float]) -> Interval:
        value = sum(values[key] * count for key, count in sizes.items()) / n
        return Interval(value, value, value, n)

    out = {f"recall@{k}": mean({key: chance_recall(*key, k) for key in sizes}) for k in CUTS}
    return {**out, "mrr": mean({key: chance_mrr(*key) for key in sizes})}


def _top(queries: np.ndarray, rows: np.ndarray, asked: QuerySet) -> tuple[np.ndarray, np.ndarray]:
    """The ten best of every query without what is set aside for it."""
    most = max((len(m) for m in asked.masked), default=0)
    scores, found = top_k(queries, blocks(rows), min(TOP + most, len(rows)))
    out_scores = np.full((len(queries), min(TOP, len(rows))), -np.inf, dtype=np.float32)
    out = np.full(out_scores.shape, -1, dtype=np.int64)
    for i, aside in enumerate(asked.masked):
        keep = np.flatnonzero(~np.isin(found[i], aside))[: out.shape[1]]
        out[i, : len(keep)], out_scores[i, : len(keep)] = found[i, keep], scores[i, keep]
    return out_scores, out


def _by_category(
    asked: QuerySet, ranks: dict[str, np.ndarray], seed: int
) -> dict[str, dict[str, dict[str, Metrics]]]:
    out: dict[str, dict[str, dict[str, Metrics]]] = {"top": {}, "leaf": {}}
    if not any(asked.category):
        return out
    levels = {"top": [c.split(" > ")[0] for c in asked.category], "leaf": list(asked.category)}
    for level, names in levels.items():
        labels = np.array(names, dtype=object)
        for name in sorted(set(names)):
            here = labels == name
            out[level][name] = {system: summarise(r[here], seed=seed) for system, r in ranks.items()}
    return out
