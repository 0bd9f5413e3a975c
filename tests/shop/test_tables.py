"""Whole tables: what stops the run, what costs a row, what costs a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from moonshelf.errors import InputError
from moonshelf.shop.schema import ROW, SCHEMAS
from moonshelf.shop.tables import read_table

Raw = Callable[..., Path]
KINDS = ("parquet", "csv", "jsonl")


def rejects(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.select("row", "column", "reason", "kept").rows()


@pytest.mark.parametrize("kind", KINDS)
def test_all_formats_give_the_same_table(raw: Raw, kind: str) -> None:
    columns = {
        "product_id": ["1", "02"],
        "title": ["Red mug", None],
        "price": [3.5, None],
        "image_ids": [["a.jpg", "b.jpg"], []],
        "attributes": ['{"colour": "red"}', None],
        "created_at": ["2024-05-01T00:00:00Z", None],
    }
    read = read_table(raw(kind, products=columns), "products")
    assert read.frame.columns == [ROW, *(c.name for c in SCHEMAS["products"].columns)]
    rows = read.frame.select("product_id", "title", "price", "image_ids", "attributes").rows()
    assert rows == [
        ("1", "Red mug", 3.5, ["a.jpg", "b.jpg"], '{"colour": "red"}'),
        ("02", None, None, [], None),
    ]
    assert len(read.rejects) == 0 and read.rows_read == 2


def test_an_absent_table_is_empty(raw: Raw) -> None:
    read = read_table(raw(products={"product_id": ["1"]}), "searches")
    assert read.path is None and len(read.frame) == 0 and "query_id" in read.frame.columns


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_required_column_stops_with_file_column_and_mend(raw: Raw, kind: str) -> None:
    folder = raw(kind, searches={"query_id": ["q"], "query_text": ["mug"], "sku": ["1"]})
    with pytest.raises(InputError) as caught:
        read_table(folder, "searches")
    line = str(caught.value)
    assert f"searches.{kind} has no column product_id" in line and "sku" in line and "\n" not in line


def test_searches_need_a_text_or_an_image_column(raw: Raw) -> None:
    folder = raw(searches={"query_id": ["q"], "product_id": ["1"]})
    with pytest.raises(InputError, match="no column query_text or query_image_id"):
        read_table(folder, "searches")


def test_semicolons_are_recognised_in_the_mend(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id;title\n1;mug\n")
    with pytest.raises(InputError, match="separated by commas"):
        read_table(tmp_path, "products")


def test_two_files_for_one_table_stop(raw: Raw) -> None:
    folder = raw(products={"product_id": ["1"]})
    raw("csv", products={"product_id": ["1"]})
    with pytest.raises(
        InputError, match=r"two files for the table products: products.parquet and products.csv"
    ):
        read_table(folder, "products")


def test_a_folder_in_place_of_a_table_stops(tmp_path: Path) -> None:
    (tmp_path / "products.parquet").mkdir()
    with pytest.raises(InputError, match="is not a file"):
        read_table(tmp_path, "products")


def test_half_written_parquet_stops(raw: Raw) -> None:
    folder = raw(products={"product_id": [str(i) for i in range(1000)]})
    path = folder / "products.parquet"
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:4], b"", b"PAR1" + bytes(200) + whole[-200:]):
        path.write_bytes(part)
        with pytest.raises(InputError, match="cannot be read as Parquet") as caught:
            read_table(folder, "products")
        assert "write the file again" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["products.csv", "products.jsonl"])
def test_a_file_without_bytes_stops(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="the file is empty"):
        read_table(tmp_path, "products")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_table_without_rows_is_noted(raw: Raw, kind: str) -> None:
    read = read_table(raw(kind, products={"product_id": []}), "products")
    assert len(read.frame) == 0 and read.notes == [f"products: products.{kind} has no rows"]


def test_a_column_name_twice_stops_in_csv(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id,title,product_id\n1,mug,2\n")
    with pytest.raises(InputError, match="the column product_id is there twice"):
        read_table(tmp_path, "products")


def test_a_column_name_twice_stops_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table([["1"], ["2"]], names=["product_id", "product_id"]), tmp_path / "products.parquet"
    )
    with pytest.raises(InputError, match="the column product_id is there twice"):
        read_table(tmp_path, "products")


def test_a_key_twice_in_a_json_line_costs_the_row(tmp_path: Path) -> None:
    (tmp_path / "products.jsonl").write_text('{"product_id": "1", "product_id": "2"}\n{"product_id": "3"}\n')
    read = read_table(tmp_path, "products")
    assert read.frame["product_id"].to_list() == ["3"]
    assert "a key is there twice" in read.rejects["reason"][0] and read.rejects["row"][0] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_row_of_an_id_is_kept(raw: Raw, kind: str) -> None:
    read = read_table(
        raw(kind, products={"product_id": ["1", "2", "1"], "title": ["a", "b", "c"]}), "products"
    )
    assert read.frame["title"].to_list() == ["a", "b"]
    assert rejects(read.rejects) == [(3, "product_id", "duplicate id: the first row is kept", False)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_an_id_goes(raw: Raw, kind: str) -> None:
    columns = {"product_id": ["1", None, " "], "title": ["a", "b", "c"]}
    read = read_table(raw(kind, products=columns), "products")
    assert read.frame["product_id"].to_list() == ["1"]
    assert rejects(read.rejects) == [
        (2, "product_id", "missing value", False),
        (3, "product_id", "missing value", False),
    ]


def test_bad_optional_values_go_but_their_row_stays(raw: Raw) -> None:
    columns = {"product_id": ["1", "2"], "price": ["cheap", "-3"], "image_ids": ["a.jpg", '["b.jpg"]']}
    read = read_table(raw("csv", products=columns), "products")
    assert len(read.frame) == 2 and read.frame["price"].to_list() == [None, None]
    assert rejects(read.rejects) == [
        (1, "price", "not a number", True),
        (2, "price", "below 0", True),
        (1, "image_ids", "not a JSON list of text", True),
    ]
    assert read.rejects["value"].to_list() == ["cheap", "-3", "a.jpg"]


def test_wrong_types_in_required_columns_cost_the_rows(raw: Raw) -> None:
    read = read_table(raw(products={"product_id": [["1"], ["2"]]}), "products")
    assert len(read.frame) == 0 and len(read.rejects) == 2
    assert set(read.rejects["reason"].to_list()) == {
        "wrong type: a column of List(String) where text is expected"
    }


def test_wrong_types_in_json_lines_cost_the_row(tmp_path: Path) -> None:
    (tmp_path / "products.jsonl").write_text(
        '{"product_id": ["1"]}\n{"product_id": true}\n{"product_id": 3, "title": {"en": "x"}}\n'
        '[]\nnonsense\n\n{"product_id": "5"}\n'
    )
    read = read_table(tmp_path, "products")
    assert read.frame["product_id"].to_list() == ["3", "5"] and read.rows_read == 6
    told = {(row, kept) for row, _, _, kept in rejects(read.rejects)}
    assert told == {(1, False), (2, False), (3, True), (4, False), (5, False)}
    assert len(read.rejects) == 5


def test_a_json_list_as_action_costs_the_row_and_is_not_a_click(tmp_path: Path) -> None:
    row = '{"query_id": "q", "product_id": "1", "query_text": "x", "action": %s}\n'
    (tmp_path / "searches.jsonl").write_text(row % '["buy"]' + row % '"cart"')
    read = read_table(tmp_path, "searches")
    assert read.frame["action"].to_list() == ["cart"]
    assert rejects(read.rejects) == [(1, "action", "wrong type: a JSON list", False)]


def test_ragged_csv_rows_go_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text('product_id,title\n1,"a\nb"\n2,x,y\n3\n,z\n5,mug\n')
    read = read_table(tmp_path, "products")
    assert read.frame.select(ROW, "product_id", "title").rows() == [(1, "1", "a\nb"), (5, "5", "mug")]
    told = sorted(rejects(read.rejects))
    assert [t[0] for t in told] == [2, 3, 4] and told[0][2] == "3 fields where the header has 2"


def test_empty_csv_lines_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id,title\n1,a\n\n3,b\n\n")
    read = read_table(tmp_path, "products")
    assert read.frame.select(ROW, "product_id").rows() == [(1, "1"), (3, "3")]
    assert read.rows_read == 2 and len(read.rejects) == 0
    assert read.notes == ["products.csv: 2 lines without any value are no rows"]


def test_csv_that_is_not_utf8_costs_the_value_or_the_row(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_bytes(b"product_id,title\n1,caf\xe9\n\xe9,x\n3,mug\n")
    read = read_table(tmp_path, "products")
    assert read.frame.select("product_id", "title").rows() == [("1", None), ("3", "mug")]
    assert sorted(rejects(read.rejects)) == [
        (1, "title", "text is not UTF-8", True),
        (2, "product_id", "text is not UTF-8", False),
    ]


def test_a_byte_order_mark_is_no_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_bytes(b"\xef\xbb\xbfproduct_id\n1\n")
    (tmp_path / "users.jsonl").write_bytes(b'\xef\xbb\xbf{"user_id": "1"}\n')
    assert len(read_table(tmp_path, "products").frame) == len(read_table(tmp_path, "users").frame) == 1


def test_utf16_csv_stops(tmp_path: Path) -> None:
    (tmp_path / "products.csv").write_text("product_id\n1\n", encoding="utf-16")
    with pytest.raises(InputError, match="UTF-8"):
        read_table(tmp_path, "products")


@pytest.mark.parametrize("kind", KINDS)
def test_long_titles_are_kept_whole_and_noted(raw: Raw, kind: str) -> None:
    read = read_table(raw(kind, products={"product_id": ["1"], "title": ["x" * 200_000]}), "products")
    assert len(read.frame["title"][0]) == 200_000
    assert any("1 longer than 10,000 characters" in note for note in read.notes)


def test_nan_prices_are_counted(raw: Raw) -> None:
    read = read_table(raw(products={"product_id": ["1", "2"], "price": [float("nan"), 2.0]}), "products")
    assert read.frame["price"].to_list() == [None, 2.0]
    assert "products.price: 1 NaN taken as missing" in read.notes


def test_other_columns_are_kept_typed_and_noted_once(raw: Raw) -> None:
    columns = {"product_id": ["1", "2"], "stock": ["3", None], "zip": ["007", "8"], "weight": ["1.5", "2"]}
    read = read_table(raw("csv", products=columns), "products")
    assert read.frame.schema["stock"] == pl.Int64 and read.frame.schema["weight"] == pl.Float64
    assert read.frame["zip"].to_list() == ["007", "8"]
    assert read.notes == ["products: 3 columns beside the contract are kept and not used: stock, zip, weight"]


def test_context_columns_of_impressions_need_no_note(raw: Raw) -> None:
    read = read_table(
        raw(impressions={"product_id": ["1"], "clicked": [1], "device": ["phone"]}), "impressions"
    )
    assert read.notes == [] and read.frame["device"].to_list() == ["phone"]


def test_rows_of_unknown_split_or_action_go(raw: Raw) -> None:
    columns = {
        "query_id": ["a", "b", "c", "d"],
        "product_id": ["1"] * 4,
        "query_text": ["x"] * 4,
        "split": ["train", "valid", None, "test"],
        "action": ["click", "click", "click", "buy"],
    }
    read = read_table(raw(searches=columns), "searches")
    assert read.frame["query_id"].to_list() == ["a"]
    assert {(r, c) for r, c, _, _ in rejects(read.rejects)} == {(2, "split"), (3, "split"), (4, "action")}


def test_a_search_without_text_and_image_goes(raw: Raw) -> None:
    columns = {
        "query_id": ["a", "b"],
        "product_id": ["1", "1"],
        "query_text": ["", None],
        "query_image_id": [None, "i"],
    }
    read = read_table(raw(searches=columns), "searches")
    assert read.frame["query_id"].to_list() == ["b"] and read.frame["action"].to_list() == ["click"]
    assert read.rejects["reason"].to_list() == ["missing value: neither is there"]


def test_more_clicks_than_impressions_goes(raw: Raw) -> None:
    columns = {"creative_id": ["a", "b"], "impressions": [10, 10], "clicks": [11, 10], "text": ["x", "y"]}
    read = read_table(raw(creatives=columns), "creatives")
    assert read.frame["creative_id"].to_list() == ["b"]
    assert read.rejects["reason"].to_list() == ["more clicks than impressions"]


def test_attributes_may_be_a_parquet_map(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.array([[("colour", "red")], None], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"product_id": ["1", "2"], "attributes": column}), tmp_path / "products.parquet")
    assert read_table(tmp_path, "products").frame["attributes"].to_list() == ['{"colour": "red"}', None]


def test_category_columns_of_table_libraries_are_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"product_id": ["1", "2"], "category": pa.array(["A>B", "A>B"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "products.parquet")
    assert read_table(tmp_path, "products").frame["category"].to_list() == ["A > B", "A > B"]


def test_the_images_table_is_not_read_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images"):
        read_table(tmp_path, "images")
