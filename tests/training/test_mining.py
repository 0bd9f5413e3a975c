"""Mined negatives against a loop over all products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.shop.shop import Shop
from moonshelf.training import mining
from moonshelf.training.config import PosttrainConfig
from moonshelf.training.mining import load_mined, mine
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import Posttrain
from moonshelf.workspace import digest


def unit(n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def pairs(shop: Shop) -> SearchPairs:
    return SearchPairs([shop])


def test_the_most_alike_wrong_products_are_found(pairs: SearchPairs, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(mining, "BLOCK", 7)  # several blocks, the last one short
    queries, products = unit(len(pairs), 1), unit(len(pairs.products), 2)
    products[3] = np.nan  # a product whose photo cannot be read
    queries[5] = np.nan
    report = mine(queries, products, pairs, tmp_path / "mined.parquet", per_query=3, guard=0.1)
    found = load_mined(tmp_path / "mined.parquet", pairs)
    assert found.shape == (len(pairs), 3)
    guarded = 0
    for row in range(len(pairs)):
        scores, own = products @ queries[row], int(pairs.product_of[row])
        right = pairs.groups == pairs.groups[own]
        candidates = [p for p in range(len(products)) if not right[p] and np.isfinite(scores[p])]
        if own == 3:
            assert (found[row] == -1).all()  # what its own cosine is, is not known
            continue
        guarded += sum(scores[p] > scores[own] + 0.1 for p in candidates)
        kept = [p for p in candidates if scores[p] <= scores[own] + 0.1]
        expected = sorted(kept, key=lambda p: -scores[p])[:3]
        assert found[row][found[row] >= 0].tolist() == expected
    assert report.pairs == len(pairs) and report.negatives == int((found >= 0).sum()) and report.empty >= 1
    assert report.guarded == guarded


def test_the_same_vectors_give_the_same_file(pairs: SearchPairs, tmp_path: Path) -> None:
    queries, products = unit(len(pairs), 1), np.repeat(unit(1, 3), len(pairs.products), axis=0)  # all tie
    files = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for file in files:
        mine(queries, products, pairs, file, per_query=2)
    assert files[0].read_bytes() == files[1].read_bytes()
    first = load_mined(files[0], pairs)[0].tolist()
    assert first == sorted(first)


def test_a_file_that_is_there_is_mined_once(pairs: SearchPairs, tmp_path: Path, monkeypatch) -> None:
    queries, products, file = unit(len(pairs), 1), unit(len(pairs.products), 2), tmp_path / "m.parquet"
    first = mine(queries, products, pairs, file, per_query=2)
    stamp = file.stat().st_mtime_ns
    assert mine(queries, products, pairs, file, per_query=2) == first and file.stat().st_mtime_ns == stamp
    assert mine(queries, products, pairs, file, per_query=1) != first and file.stat().st_mtime_ns != stamp
    monkeypatch.setattr(mining, "_SCORES", 3 * len(products))  # a large shop: three queries at a time
    whole = load_mined(file, pairs)
    file.unlink()
    mine(queries, products, pairs, file, per_query=1)
    assert np.array_equal(load_mined(file, pairs), whole)


def test_other_pairs_and_damage_are_refused(pairs: SearchPairs, shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "mined.parquet"
    with pytest.raises(InputError, match="cannot be read"):
        load_mined(file, pairs)
    mine(unit(len(pairs), 1), unit(len(pairs.products), 2), pairs, file)
    fewer = SearchPairs([shop])
    fewer.product_of = fewer.product_of[::-1].copy()
    with pytest.raises(InputError, match="mined for other"):
        load_mined(file, fewer)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        load_mined(file, pairs)
    with pytest.raises(ValueError, match="pairs"):
        mine(unit(3, 1), unit(2, 1), pairs, file)


def test_a_run_knows_its_mined_negatives_by_what_they_are(
    pairs: SearchPairs, shop: Shop, encoder: CompactEncoder, tmp_path: Path
) -> None:
    """Mined again to the same file: another run. The same file in another place: the same run."""
    path, moved = tmp_path / "mined.parquet", tmp_path / "moved.parquet"

    def identity(file: Path) -> str:
        return digest(
            Posttrain([shop], encoder, PosttrainConfig(mined=str(file), view_size=64), 0).identity()
        )

    mine(unit(len(pairs), 1), unit(len(pairs.products), 2), pairs, path, guard=2.0)
    first = identity(path)
    moved.write_bytes(path.read_bytes())
    assert identity(moved) == first
    mine(unit(len(pairs), 3), unit(len(pairs.products), 2), pairs, path, guard=2.0)
    assert identity(path) != first
