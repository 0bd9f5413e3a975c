"""Relevance as ``run`` and the command line call it: a model trained, and measured on a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf.errors import InputError
from moonshelf.evaluation import grades
from moonshelf.relevance.model import RelevanceModel, open_relevance, reads_vectors, trained_on
from moonshelf.relevance.train import grade_pairs, train_relevance, usable_pairs
from moonshelf.shop.shop import Shop
from moonshelf.workspace import code_version, digest, machine, read_manifest, write_json


def measure_relevance(
    model: RelevanceModel, shop: Shop, split: str, *, seed: int, where: str
) -> dict[str, Any]:
    """Metrics of a model on the judged pairs of a split, with 95% intervals over queries, and how they were taken.

    Args:
        where: of the model, for errors.

    Raises:
        InputError: the split has no pairs, all of one grade, or the model grades all alike.
    """
    pairs = usable_pairs(shop).filter(pl.col("split") == split)
    if pairs["grade"].n_unique() < 2:
        what = "there are no judged pairs" if not len(pairs) else "all grades are equal"
        raise InputError(f"{what} in split {split}", where=shop.name, mend="choose another with --split")
    query = np.unique(pairs["query_text"].to_numpy(), return_inverse=True)[1]
    rows = grades.Graded(grade_pairs(model, pairs, shop), pairs["grade"].to_numpy(), query)
    if (rows.score == rows.score[0]).all():
        raise InputError(
            f"the model gives all pairs of split {split} one grade",
            where=where,
            mend="judge more pairs, and train it again",
        )
    metrics = {
        "spearman": grades.spearman(rows, seed=seed),
        "rmse": grades.rmse(rows, seed=seed),
        "calibration_gap": grades.calibration_gap(rows, seed=seed),
    }
    if (rows.grade >= 0).all() and (rows.grade > 0).any():
        metrics["ndcg@10"] = grades.ndcg_at(rows, 10, seed=seed)
    return {
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
        "protocol": {
            "split": split,
            "pairs": len(pairs),
            "queries": int(query.max()) + 1,
            "intervals_over": "queries",
            "resamples": grades.DRAWS,
        },
        "provenance": {"shop": shop.fingerprint, "seed": seed, "code": code_version(), "machine": machine()},
    }


def relevance_stage(shop: Shop, work: Path, seed: int) -> dict[str, Any]:
    """The relevance stage of ``moonshelf run``: ``work/relevance`` and ``work/evaluation/relevance.json``.

    A model of the same shop that is there is measured, and not trained again.

    Raises:
        InputError: too few judged pairs to learn from or to measure on; LightGBM is missing; the model that is there
            reads product vectors.
    """
    folder, path = work / "relevance", work / "evaluation" / "relevance.json"
    there = folder.is_dir() and trained_on(folder) == shop.fingerprint
    if there and reads_vectors(folder):
        raise InputError(
            "the model that is there reads product vectors, and run measures none such",
            where=str(folder),
            mend="moonshelf evaluate relevance SHOP --model WORK --shelf DIR --encoder PATH",
        )
    if not there:
        train_relevance(shop, folder, seed=seed)
    manifest = read_manifest(folder)
    key = digest([shop.fingerprint, seed, manifest])
    held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if held.get("key") == key:
        return held
    found = measure_relevance(open_relevance(folder), shop, "test", seed=seed, where=str(folder))
    held = {**found, "shop": shop.fingerprint, "key": key}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, held)
    return held


def line(result: dict[str, Any]) -> str:
    """What ``moonshelf run`` prints of it."""
    m = result["metrics"]["spearman"]
    return f"{'relevance':<32} Spearman {m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]  n = {m['n']}"
