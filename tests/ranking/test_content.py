"""Vectors looked up a batch at a time: right rows, gaps, versions, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.encoder import CompactEncoder, Item
from moonshelf.errors import InputError
from moonshelf.ranking import content as content_module
from moonshelf.ranking.content import Content, distinct, query_vectors
from moonshelf.ranking.history import build_history
from moonshelf.shelf import Shelf, embed_shop
from moonshelf.shop.shop import Shop, open_shop


@pytest.fixture
def acted(shop_with: Callable[..., Path], tmp_path: Path) -> Shop:
    """Two acts, one after a query."""
    when = datetime(2025, 3, 1, tzinfo=UTC)
    events = pl.DataFrame(
        {
            "user_id": ["a", "a"],
            "time": [when, when + timedelta(days=1)],
            "product_id": ["3", "5"],
            "action": ["click", "purchase"],
            "query_text": ["red circle", None],
        }
    )
    return open_shop(shop_with(events=events), cache=tmp_path / "read")


@pytest.fixture
def shelf(acted: Shop, encoder: CompactEncoder, tmp_path: Path) -> Shelf:
    return embed_shop(acted, encoder, tmp_path / "shelf", dim=64)


def test_products_and_queries_share_one_space(
    acted: Shop, shelf: Shelf, encoder: CompactEncoder, tmp_path: Path
) -> None:
    history = build_history(acted)
    queries = query_vectors(history, encoder, acted, tmp_path / "queries", 64)
    content = Content(shelf, history, queries, expect=encoder.version)
    asked = history.queries.index("red circle") + len(history.items)
    three = history.items.index("3")
    rows, there = content.fetch(np.array([asked, three, -1, three]))
    assert there.tolist() == [True, True, False, True]
    own = encoder.encode([Item("red circle")])[0, :64]
    assert np.allclose(rows[0], own / np.linalg.norm(own), atol=1e-5)
    assert np.array_equal(rows[1], shelf.rows()[shelf.product_ids.index("3")]) and not rows[2].any()
    assert np.array_equal(rows[1], rows[3])
    before = (tmp_path / "queries" / "queries.npy").stat().st_mtime_ns
    again = query_vectors(history, encoder, acted, tmp_path / "queries", 64)
    assert np.array_equal(again, queries)
    assert (tmp_path / "queries" / "queries.npy").stat().st_mtime_ns == before
    assert content.covered == 1.0


def test_products_without_a_vector_are_zeros(shelf: Shelf, acted: Shop) -> None:
    history = build_history(acted)
    longer = replace(history, items=(*history.items, "new"))
    rows, there = Content(shelf, longer).fetch(np.array([len(longer.items) - 1, 0]))
    assert there.tolist() == [False, True] and not rows[0].any()
    assert Content(shelf, longer).covered == pytest.approx(12 / 13)
    # queries without vectors are nothing, too
    assert not Content(shelf, history).fetch(np.array([len(history.items)]))[1].any()


def test_vectors_of_another_encoder_are_refused_by_name(shelf: Shelf, acted: Shop) -> None:
    history = build_history(acted)
    with pytest.raises(
        InputError, match=f"of encoder {shelf.encoder_version}, the model was trained with abc"
    ):
        Content(shelf, history, expect="abc")
    with pytest.raises(InputError, match=r"the queries' vectors are \(1, 9\)"):
        Content(shelf, history, np.zeros((1, 9), dtype=np.float32))


def test_one_fetch_serves_several_arrays() -> None:
    values, (a, b) = distinct(np.array([[5, 3], [3, -1]]), np.array([7, 5]), size=9)
    assert values.tolist() == [-1, 3, 5, 7]
    assert values[a].tolist() == [[5, 3], [3, -1]] and values[b].tolist() == [7, 5]


def test_pages_let_go_are_read_again(shelf: Shelf, acted: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little may stay mapped, the vectors are the same, and the pages are let go."""
    history = build_history(acted)
    what = np.array([3, 0, -1, 7, 3])
    want, there = Content(shelf, history).fetch(what)
    gone = []
    monkeypatch.setattr(content_module, "AROUND", 32)
    monkeypatch.setattr(content_module, "MAPPED", 32)
    monkeypatch.setattr(Shelf, "let_go", lambda self, own=Shelf.let_go: (gone.append(1), own(self)))
    found, also = Content(shelf, history).fetch(what)
    assert np.array_equal(want, found) and np.array_equal(there, also) and len(gone) > 1
