from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from moonshelf.arrays import unit
from moonshelf.errors import InputError
from moonshelf.shelf import index as index_module
from moonshelf.shelf.index import ExactIndex, allowed_rows, build_index
from moonshelf.shelf.ivf import IvfIndex
from moonshelf.shelf.store import Shelf
from moonshelf.shelf.topk import blocks, top_k
from moonshelf.shelf.vectors import pack

N, DIM = 20_000, 64


def shelf_of(vectors: np.ndarray, dtype: str = "f32", **columns: Any) -> Shelf:
    """A shelf in memory."""
    stored, scale = pack(vectors, dtype)
    n = len(vectors)
    info = {"rows": n, "dim": vectors.shape[1], "dtype": dtype, "encoder_version": "v"}
    shelf = Shelf(Path("memory"), info, stored, scale if dtype == "i8" else None)
    names = {"product_id": [str(i) for i in range(n)], "category": [""] * n, "price": [None] * n}
    shelf.products = pl.DataFrame({**names, **columns}, schema_overrides={"price": pl.Float64})
    return shelf


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of 300 clusters, the cluster of each, and queries from the same mixture."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((300, DIM))
    label = rng.integers(0, 300, N + 200)
    x = unit((centres[label] + rng.standard_normal((N + 200, DIM))).astype(np.float32))
    return x[:N], label[:N], x[N:]


@pytest.fixture(scope="module")
def ivf(clustered: tuple[np.ndarray, ...]) -> IvfIndex:
    return IvfIndex(shelf_of(clustered[0]))


def recall(found: np.ndarray, want: np.ndarray) -> float:
    return float(
        np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), want.tolist(), strict=True)])
    )


def test_ivf_recall_without_filter(clustered: tuple[np.ndarray, ...], ivf: IvfIndex) -> None:
    rows, _, queries = clustered
    scores, found = ivf.search(queries, 10)
    want_scores, want = top_k(queries, blocks(rows), 10)
    assert recall(found, want) >= 0.98 and ivf.probes <= ivf.lists / 8
    hit = found == want
    np.testing.assert_allclose(scores[hit], want_scores[hit], atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_vague_data_gets_more_probes() -> None:
    rows = unit(np.random.default_rng(3).standard_normal((5_200, 32)))
    index = IvfIndex(shelf_of(rows[:5_000]))
    few = IvfIndex(shelf_of(rows[:5_000]), probes=4)
    want = top_k(rows[5_000:], blocks(rows[:5_000]), 10)[1]
    assert (
        recall(few.search(rows[5_000:], 10)[1], want) < 0.9 < recall(index.search(rows[5_000:], 10)[1], want)
    )
    assert index.probes > 16


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.5, 0.9])
def test_filtered_recall_of_random_filters(
    clustered: tuple[np.ndarray, ...], ivf: IvfIndex, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moonshelf.shelf.ivf.EXACT_ROWS", 500)  # so that 10% does go through faiss
    queries = clustered[2]
    allowed = np.random.default_rng(1).random(N) < share
    found = ivf.search(queries, 10, allowed)[1]
    want = ExactIndex(ivf.shelf).search(queries, 10, allowed)[1]
    assert allowed[found].all() and recall(found, want) >= 0.98


def test_filtered_recall_when_the_filter_is_far_from_the_query(
    clustered: tuple[np.ndarray, ...], ivf: IvfIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moonshelf.shelf.ivf.EXACT_ROWS", 500)
    _, label, queries = clustered
    allowed = label < 60  # a fifth, whole clusters: as a category is
    found = ivf.search(queries, 10, allowed)[1]
    want = ExactIndex(ivf.shelf).search(queries, 10, allowed)[1]
    assert allowed[found].all() and recall(found, want) >= 0.98


def test_a_narrow_filter_is_exact(clustered: tuple[np.ndarray, ...], ivf: IvfIndex) -> None:
    allowed = np.zeros(N, dtype=bool)
    allowed[[5, 70, 9000]] = True
    scores, found = ivf.search(clustered[2][:4], 5, allowed)
    assert (np.sort(found[:, :3], axis=1) == [5, 70, 9000]).all()
    assert (found[:, 3:] == -1).all() and np.isneginf(scores[:, 3:]).all()


def test_more_hits_than_the_lists_hold(clustered: tuple[np.ndarray, ...], ivf: IvfIndex) -> None:
    found = ivf.search(clustered[2][:2], 3000)[1]
    assert (found >= 0).all() and all(len(set(line)) == 3000 for line in found.tolist())


def test_compressed_lists_are_compared_in_full(clustered: tuple[np.ndarray, ...]) -> None:
    rows, _, queries = clustered
    index = IvfIndex(shelf_of(rows), compress=True)
    scores, found = index.search(queries, 10)
    assert recall(found, top_k(queries, blocks(rows), 10)[1]) >= 0.95
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, rows[found]), atol=1e-5)


def test_ivf_is_deterministic(clustered: tuple[np.ndarray, ...], ivf: IvfIndex) -> None:
    again = IvfIndex(shelf_of(clustered[0])).search(clustered[2], 10)
    for a, b in zip(again, ivf.search(clustered[2], 10), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
@pytest.mark.parametrize("held", [True, False])
def test_exact_with_and_without_filter(dtype: str, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "HOLD_BYTES", 1 << 30 if held else 0)
    monkeypatch.setattr(index_module, "ROW_BLOCK", 37)
    rng = np.random.default_rng(2)
    shelf = shelf_of(unit(rng.standard_normal((500, 16))), dtype)
    queries, allowed = unit(rng.standard_normal((9, 16))), rng.random(500) < 0.4
    np.testing.assert_array_equal(
        ExactIndex(shelf).search(queries, 5)[1], top_k(queries, blocks(shelf.rows()), 5)[1]
    )
    found = ExactIndex(shelf).search(queries, 5, allowed)[1]
    want = np.where(allowed, queries @ shelf.rows().T, -9).argsort(axis=1)[:, ::-1][:, :5]
    np.testing.assert_array_equal(found, want)


def test_equal_vectors_come_in_row_order() -> None:
    shelf = shelf_of(np.tile(unit(np.ones((1, 8), np.float32)), (100, 1)))
    assert ExactIndex(shelf).search(shelf.rows(0, 1), 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_auto_goes_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = shelf_of(unit(np.random.default_rng(0).standard_normal((100, 8))))
    assert isinstance(build_index(shelf), ExactIndex)
    monkeypatch.setattr(index_module, "EXACT_UP_TO", 99)
    assert isinstance(build_index(shelf), IvfIndex)
    assert isinstance(build_index(shelf, "exact"), ExactIndex)
    with pytest.raises(InputError, match="unknown index"):
        build_index(shelf, "hnsw")  # type: ignore[arg-type]


def test_without_faiss_the_mend_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match="pip install faiss-cpu"):
        build_index(shelf_of(np.eye(4, dtype=np.float32)), "ivf")


def test_queries_that_do_not_fit_are_refused() -> None:
    index = ExactIndex(shelf_of(np.eye(4, dtype=np.float32)))
    with pytest.raises(InputError, match="width 4"):
        index.search(np.ones((1, 5), np.float32), 1)
    with pytest.raises(InputError, match="filter"):
        index.search(np.ones((1, 4), np.float32), 1, np.ones(3, dtype=bool))


def categories() -> Shelf:
    return shelf_of(
        np.eye(6, dtype=np.float32),
        category=["A > B", "A > B > C", "A > BB", "A", None, "AB"],
        price=[1.0, 2.0, None, 4.0, 5.0, 0.0],
    )


@pytest.mark.parametrize(
    ("category", "price", "want"),
    [
        ("A", None, [0, 1, 2, 3]),
        ("A > B", None, [0, 1]),
        ("A>B", None, [0, 1]),
        (None, (2, 4), [1, 3]),
        (None, (None, 2.0), [0, 1, 5]),
        (None, (4, None), [3, 4]),
        (None, (None, None), [0, 1, 3, 4, 5]),
        ("A", (1.5, None), [1, 3]),
    ],
)
def test_filters(
    category: str | None, price: tuple[float | None, float | None] | None, want: list[int]
) -> None:
    allowed = allowed_rows(categories(), category, price)
    assert allowed is not None and np.flatnonzero(allowed).tolist() == want


def test_no_filter_and_bad_filters() -> None:
    assert allowed_rows(categories()) is None
    with pytest.raises(InputError, match=r"no product is in the category 'Shoes'.*there are: A"):
        allowed_rows(categories(), "Shoes")
    with pytest.raises(InputError, match="empty"):
        allowed_rows(categories(), price=(3, 2))
