"""CSV files that end inside a quoted value."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonshelf.errors import InputError
from moonshelf.shop.quotes import check_quotes
from moonshelf.shop.shop import open_shop

VALUE = st.text(st.sampled_from('ab",\n 鞋'), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.lists(VALUE, min_size=2, max_size=2), max_size=5),
    st.booleans(),
    st.integers(0, 2),
    st.booleans(),
)
def test_what_a_writer_wrote_passes_and_one_more_quote_does_not(
    tmp_path: Path, rows: list[list[str]], mark: bool, inches: int, names: bool
) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([*([["x", "y"]] if names else []), *rows])
    path = tmp_path / "t.csv"
    text = (
        ("\ufeff" if mark else "") + out.getvalue() + 'a,27" wide\n' * inches
    )  # text, so no count of quotes helps
    path.write_text(text, encoding="utf-8")
    check_quotes(path)
    path.write_text(text + 'a,"never closed\nb,c\n', encoding="utf-8")
    with pytest.raises(InputError, match=rf"line {text.count(chr(10)) + 1} is never closed"):
        check_quotes(path)


def test_a_quote_inside_an_unquoted_value_is_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('x,y\n5" plate,1\n')
    check_quotes(tmp_path / "t.csv")


@pytest.mark.parametrize("table", ["products", "images"])
def test_a_shop_with_an_open_quote_is_refused_whole(table: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "products.csv").write_text("product_id,title\n1,mug\n")
    columns = "product_id,title" if table == "products" else "image_id,bytes"
    (raw / f"{table}.csv").write_text(f'{columns}\n1,"unclosed\n2,x\n')
    with pytest.raises(InputError, match="opened in line 2"):
        open_shop(raw, cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["images.jsonl", "images.csv", "products.jsonl"])
def test_a_file_of_no_bytes_is_said(name: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "products.csv").write_text("product_id,title\n1,mug\n")
    (raw / name).write_bytes(b"")
    if name.startswith("products"):
        (raw / "products.csv").unlink()
    with pytest.raises(InputError, match=f"{name}.*empty|empty.*{name}"):
        open_shop(raw, cache=tmp_path / "cache")
