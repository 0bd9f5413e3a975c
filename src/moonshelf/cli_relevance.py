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
    from moonshelf.grading import measure_relevance
    from moonshelf.progress import say
    from moonshelf.relevance.model import open_relevance
    from moonshelf.shop.shop import open_shop
    from moonshelf.types import Interval
    from moonshelf.workspace import write_json

    given = [name for name in _ELSEWHERE if getattr(a, name) is not None]
    if given:
        raise InputError(f"--{given[0]} does not belong to evaluate relevance", mend="leave it out")
    if a.model is None:
        raise InputError("no model is named", mend="add --model PATH")
    model = open_relevance(a.model, shelf_vectors(a.shelf, a.encoder))
    shop = open_shop(a.shop, fetch=a.fetch)
    if a.split != "test":
        say(
            f"relevance: pairs of {a.split} are learned from or calibrated on; test tells how good the model is"
        )
    value = measure_relevance(model, shop, a.split, seed=a.seed or 0, where=str(a.model))
    protocol = value["protocol"]
    if a.json:
        write_json(Path(a.json), value)
    print(
        f"split {a.split}: {protocol['pairs']} pairs of {protocol['queries']} queries, 95% intervals over queries"
    )
    for name, interval in value["metrics"].items():
        print(f"{name:<16} {Interval(**interval)}")
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
