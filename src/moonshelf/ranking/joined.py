"""Retrieval, relevance and ranking joined: from a query and a user to products, each with what every stage said and
why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.ranking.apply import Ranker, after, candidate_rows
from moonshelf.ranking.features import shop_came
from moonshelf.retrieval.candidates import find_candidates, interests
from moonshelf.shelf.index import Index, allowed_rows, build_index
from moonshelf.shelf.search import fit, shown_width
from moonshelf.shelf.store import Shelf
from moonshelf.types import ACTIONS

POOL = 100
PAST = 50  # newest acts of a user that are looked at
HALF_LIFE = 10.0  # acts after which an act of the past weighs half
PAIRS = 4000  # random pairs of products that say what "alike" means on a shelf
DONE = {"click": "looked at", "cart": "put into your cart", "purchase": "bought"}


class Grader(Protocol):
    """What is needed of a relevance model."""

    def grades(self, query_text: str, product_ids: Sequence[str]) -> np.ndarray:
        """``[n]`` float32."""
        ...

    def reasons(self, query_text: str, product_ids: Sequence[str]) -> list[str]:
        """A few plain words a product."""
        ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """A product as the three stages see it.

    Attributes:
        similarity: cosine to the query, or to the nearest interest of the user.
        grade: of relevance, None without a relevance model or a text.
        click: probability of a click if it is looked at, by a calibration that was fitted where products were shown at
            their places (without places nothing measures it); a score and no more where the model learned from acts
            beside drawn negatives.
        reason: why, in plain words.
    """

    rank: int
    product_id: str
    title: str
    category: str
    price: float | None
    image_id: str | None
    similarity: float
    grade: float | None
    click: float
    reason: str


class Stages:
    """The three stages over one shelf.

    Args:
        shelf: of the products.
        ranker: a click model bound to the shop.
        grader: a relevance model, where there is one.
        index: over ``shelf``; None builds one.
    """

    def __init__(
        self, shelf: Shelf, ranker: Ranker, grader: Grader | None = None, index: Index | None = None
    ) -> None:
        self.shelf, self.ranker, self.grader = shelf, ranker, grader
        self.index = index or build_index(shelf)
        history = ranker.history
        number = {product: i for i, product in enumerate(history.items)}
        self._item = np.array([number.get(p, -1) for p in shelf.product_ids], dtype=np.int64)
        self._row = np.full(len(history.items), -1, dtype=np.int64)
        self._row[self._item[self._item >= 0]] = np.flatnonzero(self._item >= 0)
        came = shop_came(ranker.shop)
        self._came = np.where(came >= 0, came + 1, 0)
        self._user = {user: i for i, user in enumerate(history.users)}
        self._query = {query: i for i, query in enumerate(history.queries)}
        self.alike = _alike(shelf)

    def rank(
        self,
        *,
        query: np.ndarray | None = None,
        text: str | None = None,
        photo: bool = False,
        user: str | None = None,
        k: int = 10,
        pool: int = POOL,
        least: float | None = None,
        category: str | None = None,
        price: tuple[float | None, float | None] | None = None,
        again: bool = True,
    ) -> list[Ranked]:
        """The ``k`` products for a query, a user, or both.

        Candidates are the ``pool`` products nearest to the query, or without one to the interests of the user's past.
        With a text and a relevance model, candidates graded below ``least`` are left out; without ``least`` those that
        are graded nearer to the worst of them than to the best come last. The probability of a click orders the rest.

        Args:
            query: ``[dim]`` vector of the text, the photo or both (``shelf.search.query_vector``).
            text: of the query, for relevance and reasons. photo: whether the query has one, for reasons.
            user: an id; somebody unknown has no past.
            category, price: filters, see ``shelf.index.allowed_rows``.
            again: whether products that the user has acted on may come.

        Raises:
            InputError: neither a query nor a user with a past; ``least`` without a text or a relevance model; ``k``
                below 1.
        """
        if k < 1:
            raise InputError(f"cannot rank {k} products", where="k", mend="give a number of at least 1")
        history = self.ranker.history
        number = self._user.get(user, -1) if user is not None else -1
        if user is not None and number < 0:
            say(f"rank: user {user!r} has no past in this shop")
        past = self._past(number)
        if query is None and not len(past):
            who = "nobody is named" if user is None else f"user {user!r} has no past that is on the shelf"
            raise InputError(f"there is no query, and {who}", mend="give --text, --image, or another --user")
        text = (text or "").strip() or None
        if least is not None and (text is None or self.grader is None):
            raise InputError(
                "a least grade needs a text and a relevance model",
                mend="train one with moonshelf relevance train, or leave --least-grade out",
            )
        if query is not None:
            asked = query[None]
        else:
            weight = 0.5 ** (np.arange(len(past))[::-1] / HALF_LIFE)
            asked = interests(self.shelf.take(self._row[past["what"]]), weight)
        allowed = self._allowed(number, category, price, again)
        found = find_candidates(self.index, asked, max(pool, k), allowed=allowed)
        rows, score = found.rows, found.score
        ids = [self.shelf.product_ids[int(row)] for row in rows]
        grade = None
        if text is not None and self.grader is not None and ids:
            grade = self.grader.grades(text, ids)
            if least is not None:
                kept = np.flatnonzero(grade >= least)
                rows, score, grade = rows[kept], score[kept], grade[kept]
                ids = [ids[i] for i in kept]
        if not ids:
            return []
        items = self._item[rows]
        place, content = -1, self.ranker.content
        if query is not None:  # a query of now, unless its text was asked before
            place = self._query.get(text, -1) if text is not None and not photo else -1
            if place < 0:
                place = len(history.queries)
                if content is not None and content.asks:  # a model that learned without them is given none
                    content = content.asking(query)
        moment = np.maximum(
            after(history), self._came[items]
        )  # what came since the log ended is new, not unknown
        candidates = candidate_rows(history, number, items, moment, place)
        raw = self.ranker.raw(candidates, placed=False, content=content, asked=text)
        # by raw scores: calibration may tie what the model tells apart
        best = np.lexsort((-raw, _behind(grade if least is None else None, len(raw))))[:k]
        click = self.ranker.calibrated(raw)
        matched = None
        if grade is not None and text is not None and self.grader is not None:
            matched = self.grader.reasons(text, [ids[i] for i in best])
        why = self._reasons(
            items[best], rows[best], score[best], number, past, matched, query is not None, photo
        )
        out = []
        for at, (i, reason) in enumerate(zip(best.tolist(), why, strict=True)):
            row = self.shelf.products.row(int(rows[i]), named=True)
            out.append(
                Ranked(
                    at + 1, ids[i], row["title"] or "", row["category"] or "", row["price"], row["image_id"],
                    float(score[i]), None if grade is None else float(grade[i]), float(click[i]), reason,
                )
            )  # fmt: skip
        return out

    def _log(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """``what`` and ``kind`` of all acts of a user, in order of time."""
        history = self.ranker.history
        if user < 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        own = slice(int(history.start[user]), int(history.start[user + 1]))
        what, did = history.what[own].astype(np.int64), history.kind[own].astype(np.int64)
        acts = did < len(ACTIONS)
        return what[acts], did[acts]

    def _past(self, user: int) -> np.ndarray:
        """``what`` and ``kind`` of the newest acts of a user on products of the shelf, in order of time."""
        what, did = self._log(user)
        kept = np.flatnonzero(self._row[what] >= 0)[-PAST:]
        out = np.zeros(len(kept), dtype=np.dtype([("what", np.int64), ("kind", np.int64)]))
        out["what"], out["kind"] = what[kept], did[kept]
        return out

    def _allowed(
        self, user: int, category: str | None, price: tuple[float | None, float | None] | None, again: bool
    ) -> np.ndarray | None:
        """Rows that may be found: of the shop, past the filters, and without ``again`` none that was acted on."""
        allowed = allowed_rows(self.shelf, category, price)
        if (self._item < 0).any():
            allowed = (self._item >= 0) & (True if allowed is None else allowed)
        if not again and len(done := self._row[self._log(user)[0]]):
            allowed = np.ones(len(self.shelf), dtype=np.bool_) if allowed is None else allowed
            allowed[done[done >= 0]] = False
        return allowed

    def _reasons(
        self,
        items: np.ndarray,
        rows: np.ndarray,
        score: np.ndarray,
        user: int,
        past: np.ndarray,
        matched: Sequence[str] | None,
        asked: bool,
        photo: bool,
    ) -> list[str]:
        vectors = self.shelf.take(rows)
        cosines = vectors @ self.shelf.take(self._row[past["what"]]).T if len(past) else None
        log, did = self._log(user)
        out = []
        for i, item in enumerate(items.tolist()):
            said: list[str] = []
            before = did[log == item]
            if len(before):
                said.append(f"you {DONE[ACTIONS[int(before.max())]]} it before")
            elif cosines is not None:
                nearest = int(np.argmax(cosines[i]))
                if cosines[i, nearest] >= self.alike:
                    name, act = self._name(int(past["what"][nearest])), ACTIONS[int(past["kind"][nearest])]
                    said.append(f"looks like the {name} you {DONE[act]}")
            if asked and photo and score[i] >= self.alike:
                said.append("looks like your photo")
            if matched is not None and matched[i]:
                said.append(matched[i])
            if not said:
                said.append("near your query" if asked else "near what you did before")
            out.append("; ".join(said))
        return out

    def _name(self, item: int) -> str:
        row = self.shelf.products.row(int(self._row[item]), named=True)
        leaf = (row["category"] or "").rsplit(" > ", 1)[-1]
        return fit(row["title"] or leaf or row["product_id"], 40)


def _behind(grade: np.ndarray | None, n: int) -> np.ndarray:
    """``[n]`` bool: candidates that answer the query badly beside others that answer it well (our design).

    A click model has seen few queries and knows tastes better than words: without this a liked black bag comes before
    the red one that was asked for.
    """
    if grade is None or not n:
        return np.zeros(n, dtype=np.bool_)
    return np.asarray(grade < (grade.min() + grade.max()) / 2)


def _alike(shelf: Shelf) -> float:
    """The cosine that one of a hundred random pairs of different products reaches; 1 on a shelf of one product."""
    rng, n = np.random.default_rng(0), len(shelf)
    if n < 2:
        return 1.0
    some = np.sort(rng.permutation(n)[: min(n, PAIRS)])  # in order, for the sake of pages
    vectors = shelf.take(some)
    a = rng.integers(0, len(some), PAIRS)
    b = (a + rng.integers(1, len(some), PAIRS)) % len(some)
    return float(np.quantile(np.einsum("nd,nd->n", vectors[a], vectors[b]), 0.99))


def ranked_json(found: Sequence[Ranked]) -> list[dict[str, Any]]:
    """Products as plain objects, for ``--json``."""
    return [asdict(r) for r in found]


def format_ranked(found: Sequence[Ranked]) -> str:
    """A table with aligned columns; one line when nothing was found."""
    if not found:
        return "nothing found"
    head = ("", "click", "grade", "similar", "product", "title", "why")
    cells = [
        (
            str(r.rank), f"{r.click:.3f}", "" if r.grade is None else f"{r.grade:.2f}", f"{r.similarity:.3f}",
            fit(r.product_id, 20), fit(r.title or r.category, 40), fit(r.reason, 100),
        )
        for r in found
    ]  # fmt: skip
    keep = [i for i in range(len(head)) if any(row[i] for row in cells)]
    widths = [max(shown_width(row[i]) for row in (head, *cells)) for i in range(len(head))]
    lines = []
    for row in (head, *cells):
        line = [
            (" " * (widths[i] - shown_width(row[i])) + row[i])
            if i < 4
            else row[i] + " " * (widths[i] - shown_width(row[i]))
            for i in keep
        ]
        lines.append("  ".join(line).rstrip())
    return "\n".join(lines)
