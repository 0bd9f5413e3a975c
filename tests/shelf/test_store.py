from __future__ import annotations

import json
from pathlib import Path

import pytest

from moonshelf.errors import InputError
from moonshelf.shelf.embed import embed_shop
from moonshelf.shelf.store import Shelf


def test_no_shelf_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no shelf here"):
        Shelf.open(tmp_path)


@pytest.mark.parametrize("name", ["vectors.bin", "scales.bin"])
def test_a_file_of_the_wrong_size_is_told(make_many, tiny, tmp_path: Path, name: str) -> None:
    embed_shop(make_many(4), tiny, tmp_path / "s", dtype="i8")
    path = tmp_path / "s" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged"):
        Shelf.open(tmp_path / "s")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"rows": 1}', '{"rows": 4, "dim": 16, "dtype": "f99"}'])
def test_a_description_that_cannot_be_read_is_told(make_many, tiny, tmp_path: Path, text: str) -> None:
    embed_shop(make_many(4), tiny, tmp_path / "s")
    (tmp_path / "s" / "shelf.json").write_text(text)
    with pytest.raises(InputError, match="description cannot be read"):
        Shelf.open(tmp_path / "s")


def test_another_format_is_told(make_many, tiny, tmp_path: Path) -> None:
    embed_shop(make_many(4), tiny, tmp_path / "s")
    info = json.loads((tmp_path / "s" / "shelf.json").read_text())
    (tmp_path / "s" / "shelf.json").write_text(json.dumps({**info, "format": 99}))
    with pytest.raises(InputError, match="format 99"):
        Shelf.open(tmp_path / "s")


def test_a_shelf_without_any_vector_opens(make_shop, tiny, tmp_path: Path) -> None:
    shop = make_shop([{"product_id": "a"}, {"product_id": "b"}])
    shelf = embed_shop(shop, tiny, tmp_path / "s")
    assert len(shelf) == 0 and shelf.rows().shape == (0, 16) and shelf.product_ids == []
    assert shelf.left_out["product_id"].to_list() == ["a", "b"]
