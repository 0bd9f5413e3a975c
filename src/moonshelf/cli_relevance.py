"""The verb ``relevance``, and ``evaluate relevance``: a model of how well products answer queries."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from moonshelf.errors import InputError

if TYPE_CHECKING:
    from moonshelf.relevance.vectors import ShelfVectors


_ELSEWHERE = ("vectors", "inputs", "against", "ask", "limit", "distractors", "products")


def relevance_options(p: argparse.ArgumentParser) -> None:
    """The options of the verb, beside the shop."""
    p.add_argument("--work", required=True, metavar="DIR", help="the model goes to DIR/relevance")
    p.add_argument(
        "--shelf", metavar="DIR", help="use product vectors too: a shelf of this shop (with --encoder)"
    )
    p.add_argument("--encoder", metavar="PATH", help="the encoder that made the shelf")


def relevance_verb(a: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    from moonshelf.relevance.train import train_relevance
    from moonshelf.shop.shop import open_shop

    vectors = shelf_vectors(a.shelf, a.encoder)
    work = Path(a.work)
    folder = work / "relevance"
    shop = open_shop(a.shop, cache=work / "shop", fetch=a.fetch)
    model = train_relevance(shop, folder, vectors=vectors, seed=a.seed or 0)
    print(f"relevance  {folder}  {model.trees.count} trees, {len(model.trees.names)} features")
    return 0


def evaluate_relevance(a: argparse.Namespace) -> int:
    """Grade the judged pairs of a split; returns the exit code."""
    import numpy as np
    import polars as pl

    from moonshelf.evaluation import grades
    from moonshelf.progress import say
    from moonshelf.relevance.model import open_relevance
    from moonshelf.relevance.train import grade_pairs, usable_pairs
    from moonshelf.shop.shop import open_shop
    from moonshelf.workspace import code_version, machine, write_json

    given = [name for name in _ELSEWHERE if getattr(a, name) is not None]
    if given:
        raise InputError(f"--{given[0]} does not belong to evaluate relevance", mend="leave it out")
    if a.model is None:
        raise InputError("no model is named", mend="add --model PATH")
    model = open_relevance(a.model, shelf_vectors(a.shelf, a.encoder))
    shop = open_shop(a.shop, fetch=a.fetch)
    pairs = usable_pairs(shop).filter(pl.col("split") == a.split)
    if pairs["grade"].n_unique() < 2:
        what = "there are no judged pairs" if not len(pairs) else "all grades are equal"
        raise InputError(f"{what} in split {a.split}", where=shop.name, mend="choose another with --split")
    if a.split != "test":
        say(
            f"relevance: pairs of {a.split} are learned from or calibrated on; test tells how good the model is"
        )
    query = np.unique(pairs["query_text"].to_numpy(), return_inverse=True)[1]
    rows = grades.Graded(grade_pairs(model, pairs, shop), pairs["grade"].to_numpy(), query)
    if (rows.score == rows.score[0]).all():
        raise InputError(
            f"the model gives all pairs of split {a.split} one grade",
            where=str(a.model),
            mend="judge more pairs, and train it again",
        )
    seed = a.seed or 0
    metrics = {
        "spearman": grades.spearman(rows, seed=seed),
        "rmse": grades.rmse(rows, seed=seed),
        "calibration_gap": grades.calibration_gap(rows, seed=seed),
    }
    if (rows.grade >= 0).all() and (rows.grade > 0).any():
        metrics["ndcg@10"] = grades.ndcg_at(rows, 10, seed=seed)
    value = {
        "metrics": {name: interval.as_dict() for name, interval in metrics.items()},
        "protocol": {
            "split": a.split,
            "pairs": len(pairs),
            "intervals_over": "queries",
            "resamples": grades.DRAWS,
        },
        "provenance": {"shop": shop.fingerprint, "seed": seed, "code": code_version(), "machine": machine()},
    }
    if a.json:
        write_json(Path(a.json), value)
    print(f"split {a.split}: {len(pairs)} pairs of {query.max() + 1} queries, 95% intervals over queries")
    for name, interval in metrics.items():
        print(f"{name:<16} {interval}")
    return 0


def shelf_vectors(shelf: str | None, encoder: str | None) -> ShelfVectors | None:
    """The shelf and its encoder, when both are named.

    Raises:
        InputError: one is named without the other.
    """
    if shelf is None and encoder is None:
        return None
    if shelf is None or encoder is None:
        raise InputError("--shelf and --encoder belong together", mend="name both, or neither")
    from moonshelf.encoder import load_encoder
    from moonshelf.pipeline import device
    from moonshelf.relevance.vectors import ShelfVectors
    from moonshelf.shelf import Shelf

    return ShelfVectors(Shelf.open(shelf), load_encoder(encoder, device()))
