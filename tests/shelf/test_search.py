from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.shelf.embed import embed_shop
from moonshelf.shelf.search import Hit, fit, format_hits, hits_json, search, shown_width
from moonshelf.shop.shop import Shop


def test_a_product_finds_itself_by_photo_text_and_both(make_many, tiny, tmp_path: Path) -> None:
    shop = make_many(30)
    photo = shop.images.decode("i5-0")
    by_image = embed_shop(shop, tiny, tmp_path / "i", use=("image",))
    assert search(by_image, tiny, image=photo, k=3)[0].product_id == "p5"
    (tmp_path / "q.png").write_bytes(shop.images.read("i5-0"))
    assert search(by_image, tiny, image=tmp_path / "q.png", k=3) == search(by_image, tiny, image=photo, k=3)
    both = embed_shop(shop, tiny, tmp_path / "b", dim=8)
    text = f"{shop.product('p5').title}. A, C"
    hits = search(both, tiny, text=text, image=photo, k=30)
    assert hits[0].product_id == "p5" and [h.rank for h in hits] == list(range(1, 31))
    assert len(search(both, tiny, text="x", k=99)) == 30
    assert all(h.category == "A > B" for h in search(both, tiny, text=text, category="A > B", k=30))
    assert {h.price for h in search(both, tiny, text=text, price=(3, 4), k=30)} == {3.0, 4.0}


def test_the_real_encoder_finds_by_text(shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    shelf = embed_shop(shop, encoder, tmp_path / "shelf", dim=128, dtype="i8")
    hits = search(shelf, encoder, text="red circle", k=3)
    assert hits[0].title.startswith("red") and len(hits) == 3
    everything = search(shelf, encoder, text="red circle", k=12)
    assert [h.product_id for h in everything[:3]] == [h.product_id for h in hits] and "玩具" in format_hits(
        everything
    )


def test_bad_queries(make_many, tiny, tmp_path: Path) -> None:
    shelf = embed_shop(make_many(3), tiny, tmp_path / "s")
    (tmp_path / "a.jpg").write_text("no photo")
    with pytest.raises(InputError, match="nothing to search for"):
        search(shelf, tiny, text="  ")
    with pytest.raises(InputError, match=r"not an image \(.*a.jpg\)"):
        search(shelf, tiny, image=tmp_path / "a.jpg")
    with pytest.raises(InputError, match="cannot be read"):
        search(shelf, tiny, image=tmp_path / "none.jpg")
    with pytest.raises(InputError, match="at least 1"):
        search(shelf, tiny, text="a", k=0)
    tiny.version = "other"
    with pytest.raises(InputError, match="the shelf was made by encoder tiny, this is other"):
        search(shelf, tiny, text="a")


HITS = [
    Hit(1, "a1", 0.91234, "Red kettle", "Home > Kettle", 12.5, "i"),
    Hit(10, "很长的编号", 0.5, "红色保温水壶，大容量，" * 6, "", None, None),
]


def test_columns_line_up_with_chinese_titles() -> None:
    lines = format_hits(HITS).splitlines()
    assert lines[1].startswith(" 1  0.912  a1          Red kettle")
    at = lines[1].index("Red kettle")
    before = lines[2][: lines[2].index("红")]
    assert shown_width(before) == at
    assert shown_width(lines[2]) <= at + 44 and lines[2].endswith("…")
    assert lines[1].endswith("12.50")


def test_no_hits_and_json() -> None:
    assert format_hits([]) == "nothing found"
    assert json.loads(json.dumps(hits_json(HITS)))[0]["title"] == "Red kettle"


@given(st.text(max_size=60), st.integers(2, 30))
def test_fit_never_exceeds_the_width_and_is_one_line(text: str, width: int) -> None:
    assert shown_width(fit(text, width)) <= width and len(fit(text, width).splitlines()) <= 1


def test_width() -> None:
    assert shown_width("abc") == 3 and shown_width("水壶") == 4 and shown_width("e\u0301") == 1
