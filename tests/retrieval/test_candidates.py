"""Candidates against a search by hand; a past of two tastes is not halfway between them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.arrays import unit
from moonshelf.errors import InputError
from moonshelf.retrieval.candidates import find_candidates, interests, recall_of_exact
from moonshelf.shelf import Shelf, build_index, embed_shop
from moonshelf.shelf.index import ExactIndex
from moonshelf.shop.shop import open_shop

sys.path.append(str(Path(__file__).parents[1] / "shelf"))
from tinyshop import TinyEncoder


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("retrieval")
    rng = np.random.default_rng(0)
    words = ["mug", "lamp", "shoe", "bag", "vase", "chair"]
    titles = [f"{words[i % 6]} {rng.integers(0, 10**9):x}" for i in range(300)]
    pl.DataFrame({"product_id": [f"p{i:03d}" for i in range(300)], "title": titles}).write_csv(
        folder / "products.csv"
    )
    return embed_shop(open_shop(folder, cache=folder / "cache"), TinyEncoder(), folder / "shelf")


def test_candidates_are_the_nearest_over_all_queries(shelf: Shelf) -> None:
    rows = np.array(shelf.rows())
    queries = unit(np.random.default_rng(1).normal(size=(3, rows.shape[1])))
    allowed = np.arange(300) % 5 != 0
    known = [1, 2, 3]
    found = find_candidates(build_index(shelf), queries, 20, allowed=allowed, known=known)
    best = (queries @ rows.T).max(0)
    best[~allowed] = -2
    best[known] = -2
    wanted = np.argsort(-best, kind="stable")[:20]
    assert sorted(found.rows.tolist()) == sorted(wanted.tolist()) and len(found) == 20
    assert np.allclose(found.score, best[found.rows], atol=1e-5) and (np.diff(found.score) <= 0).all()
    assert (found.source == (queries @ rows.T).argmax(0)[found.rows]).all()


def test_filters_may_leave_little_and_queries_may_be_missing(shelf: Shelf) -> None:
    index = build_index(shelf)
    queries = np.array(shelf.rows(0, 1))
    allowed = np.zeros(300, dtype=bool)
    allowed[[4, 7]] = True
    assert sorted(find_candidates(index, queries, 10, allowed=allowed).rows.tolist()) == [4, 7]
    assert len(find_candidates(index, queries[:0], 10)) == 0
    with pytest.raises(InputError, match="cannot find 0 products"):
        find_candidates(index, queries, 0)


def test_a_past_of_two_tastes_has_two_interests() -> None:
    rng = np.random.default_rng(0)
    a, b = np.eye(8)[0], np.eye(8)[1]
    past = unit(np.concatenate((a + 0.05 * rng.normal(size=(9, 8)), b + 0.05 * rng.normal(size=(3, 8)))))
    found = interests(past, np.ones(12), most=5, least=0.05)
    assert len(found) == 2 and found[0] @ a > 0.98 and found[1] @ b > 0.98  # the heavier one first
    recent = np.concatenate((np.full(9, 0.01), np.ones(3)))
    assert interests(past, recent, most=1)[0] @ b > 0.98
    assert interests(past, np.zeros(12)).shape == (0, 8) and interests(past[:0], np.ones(0)).shape == (0, 8)
    lacking = past.copy()
    lacking[:9] = 0  # no vector
    assert len(interests(lacking, np.ones(12), least=0.05)) == 1


def test_interests_choose_greedily_what_covers_most() -> None:
    rng = np.random.default_rng(3)
    past, weight = unit(rng.normal(size=(15, 6))), rng.random(15)
    found = interests(past, weight, most=1)
    gains = [weight @ (past @ past[j] + 1) for j in range(15)]
    assert np.allclose(found[0], unit((weight @ past)[None])[0], atol=1e-5)  # one interest: the mean of all
    two = interests(past, weight, most=2, least=0.0)
    first = int(np.argmax(gains))
    reached = past @ past[first]
    second = int(np.argmax([weight @ np.maximum(past @ past[j] - reached, 0) for j in range(15)]))
    own = np.where(past @ past[second] > reached, 1, 0)
    means = [unit((weight[own == j] @ past[own == j])[None])[0] for j in (0, 1)]
    heavy = [weight[own == j].sum() for j in (0, 1)]
    assert np.allclose(two, np.stack([means[j] for j in np.argsort(-np.array(heavy))]), atol=1e-5)


def test_recall_against_the_exact_answer(shelf: Shelf) -> None:
    queries = unit(np.random.default_rng(2).normal(size=(6, shelf.dim)))
    exact = ExactIndex(shelf)
    assert (recall_of_exact(exact, exact, queries, 10) == 1).all()
    approximate = build_index(shelf, "ivf")
    found = recall_of_exact(approximate, exact, queries, 10)
    by_hand = [
        len(set(approximate.search(q[None], 10)[1][0]) & set(exact.search(q[None], 10)[1][0])) / 10
        for q in queries
    ]
    assert found.tolist() == pytest.approx(by_hand)
