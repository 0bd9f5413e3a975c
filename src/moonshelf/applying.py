"""The apply stage as the command line calls it: click models trained, measured, and asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.pipeline import encoder_of, open_shelf
from moonshelf.progress import say
from moonshelf.ranking.apply import open_ranker, train_ranker, wants_content
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.content import Content, query_vectors
from moonshelf.ranking.history import History, build_history
from moonshelf.ranking.joined import Grader, Ranked, Stages
from moonshelf.ranking.measure import RankResult, measure
from moonshelf.ranking.parts import parts_of
from moonshelf.ranking.store import find_ranker, load_ranker
from moonshelf.recipes import RunConfig
from moonshelf.relevance.grader import open_shop_grader
from moonshelf.relevance.model import STAGE as RELEVANCE
from moonshelf.relevance.model import reads_vectors
from moonshelf.relevance.vectors import ShelfVectors
from moonshelf.shelf import Shelf
from moonshelf.shelf.search import query_vector
from moonshelf.shop.fetch import Reach
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.workspace import digest, read_manifest, write_json

SHELF_FILE = "shelf.txt"  # in a work folder: where the shelf lies that its click model was trained on


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A shop's past with the vectors behind it."""

    history: History
    shelf: Shelf | None
    content: Content | None


def behaviour(shop: Shop, work: Path, shelf: str | None, encoder: str | None, *, needed: bool) -> Behaviour:
    """History and content vectors of a shop.

    Queries of the past get vectors when the shelf's encoder is found; without it they have none, and that is said.
    """
    history = build_history(shop)
    for reason, n in history.told.items():
        say(f"history: {n:,} acts left out: {reason}")
    if not needed:
        return Behaviour(history, None, None)
    opened, folder = open_shelf(Path(shelf) if shelf else work)
    queries = None
    if history.queries:
        try:
            model = encoder_of(folder, encoder, opened)
        except InputError as error:
            if encoder is not None:
                raise
            say(f"ranking: past queries have no vectors: {error}")
        else:
            queries = query_vectors(history, model, shop, work / "query-vectors", opened.dim)
    content = Content(opened, history, queries)
    if content.covered < 1:
        say(f"ranking: {1 - content.covered:.1%} of the products are not on the shelf; they have no vector")
    return Behaviour(history, opened, content)


def train_rank(shop: Shop, work: Path, config: RunConfig, shelf: str | None, encoder: str | None) -> Path:
    """``moonshelf rank train``; returns the model's folder."""
    found = behaviour(shop, work, shelf, encoder, needed=wants_content(config.ranking))
    folder = train_ranker(shop, found.history, found.content, work, config.ranking, seed=config.seed)
    if found.shelf is not None:
        place, home = found.shelf.path.resolve(), work.resolve()
        inside = place.is_relative_to(home)  # then the work folder may move
        (work / SHELF_FILE).write_text(f"{place.relative_to(home) if inside else place}\n")
    return folder


def can_rank(shop: Shop) -> bool:
    """Whether a shop's tables allow a click model: acts of users."""
    return any(table is not None and len(table) > 0 for table in (shop.events, shop.impressions))


def ranked(shop: Shop, work: Path, config: RunConfig) -> dict[str, Any]:
    """The ranking stage of ``moonshelf run``: train, measure on test, write ``evaluation/ranking.json``.

    Raises:
        TooLittleData: the shop's acts are too few to learn from, or to measure on.
    """
    folder = train_rank(shop, work, config, None, None)
    manifest = read_manifest(folder)
    key = digest([manifest["key"] if manifest else "", config.seed])
    path = work / "evaluation" / "ranking.json"
    held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    if held.get("key") != key:
        result = evaluate_rank(shop, str(work), seed=config.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        held = {**result.to_json(), "shop": shop.fingerprint, "key": key, "model": load_ranker(folder).about}
        write_json(path, held)
    return held


def lines(result: dict[str, Any]) -> list[str]:
    """What ``moonshelf run`` prints of the ranking stage."""

    def shown(m: dict[str, Any]) -> str:
        return f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]  n = {m['n']}"

    return [
        f"{'click model':<32} GAUC {shown(result['metrics']['gauc without places'])}",
        f"{'click model, popularity':<32} GAUC {shown(result['popularity']['gauc'])}",
    ]


def _shelf_of(model: str, given: str | None) -> str | None:
    """The shelf named, or the one that the work folder's model was trained on."""
    folder = find_ranker(model)
    if given is not None:
        return given
    note = folder.parent / SHELF_FILE
    if note.is_file() and (place := folder.parent / note.read_text().strip()).is_dir():
        return str(place)
    return str(folder.parent)


def evaluate_rank(
    shop: Shop, model: str, *, shelf: str | None = None, encoder: str | None = None, seed: int = 0
) -> RankResult:
    """``moonshelf rank evaluate``: the model on the rows of test, which begin where they began when it was trained.

    Raises:
        InputError: see ``open_ranker``.
        TooLittleData: the shop has no rows from then on.
    """
    stored = load_ranker(model)
    config: RankConfig = stored.config
    work = find_ranker(model).parent
    place = _shelf_of(model, shelf) if stored.encoder else None
    found = behaviour(shop, work, place, encoder, needed=bool(stored.encoder))
    ranker = open_ranker(model, shop, found.history, found.content)
    if shop.fingerprint != stored.about["fingerprint"]:
        say(
            "rank: the shop is not as it was when the click model was trained; test begins at the same moment"
        )
    val, test = stored.about["at"]
    parts = parts_of(shop, found.history, config, int(stored.about["seed"]), (int(val), int(test)))
    return measure(ranker, parts["train"], parts["test"], seed=seed)


def open_stages(
    shop: Shop,
    model: str,
    *,
    shelf: str | None = None,
    encoder: str | None = None,
    grader: Grader | None = None,
) -> tuple[Stages, CompactEncoder]:
    """The three stages of a work folder, and the encoder for queries; open once, ask often.

    Raises:
        InputError: the work folder has no click model, no shelf, or the shelf's encoder is not found.
    """
    stored = load_ranker(model)
    work = find_ranker(model).parent
    opened, folder = open_shelf(Path(_shelf_of(model, shelf) or work))
    asks = encoder_of(folder, encoder, opened)
    found = behaviour(shop, work, str(folder), encoder, needed=bool(stored.encoder))
    return Stages(opened, open_ranker(model, shop, found.history, found.content), grader), asks


def rank(
    stages: Stages, encoder: CompactEncoder, *, text: str | None = None, image: str | None = None, **how: Any
) -> list[Ranked]:
    """Products for a query (text, photo or both) and a user; ``how`` as in ``Stages.rank``."""
    query: np.ndarray | None = None
    if (text or "").strip() or image is not None:
        query = query_vector(stages.shelf, encoder, text=text, image=image)
    return stages.rank(query=query, text=text, photo=image is not None, **how)


def shop_of(model: str, given: str | None, fetch: Reach | None = None) -> Shop:
    """The shop named, or the one that the work folder has read.

    Raises:
        InputError: there is none.
    """
    if given is not None:
        return open_shop(given, fetch=fetch)
    source = find_ranker(model).parent / "shop"
    if not source.is_dir():
        raise InputError(
            "the shop of this work folder was not found", where=str(source), mend="name it with --shop SHOP"
        )
    return open_shop(source)


def open_grader(
    model: str, given: str | None, shop: Shop, *, shelf: str | None = None, encoder: str | None = None
) -> Grader | None:
    """The relevance model named, or that of the work folder; None where there is none.

    Args:
        model: the click model, in whose work folder the relevance model is looked for.
        given: a relevance model: a work folder, or the stage's folder.
        shelf, encoder: for one trained with vectors; default those of the click model.

    Raises:
        InputError: what was named is no relevance model; or the model is damaged, needs LightGBM and it is missing, or
            is one of another shop.
    """
    place = Path(given) if given is not None else find_ranker(model).parent / RELEVANCE
    if given is None and not place.exists():
        return None
    vectors = None
    if reads_vectors(place):
        opened, folder = open_shelf(Path(_shelf_of(model, shelf) or find_ranker(model).parent))
        vectors = ShelfVectors(opened, encoder_of(folder, encoder, opened))
    return open_shop_grader(place, shop, vectors)
