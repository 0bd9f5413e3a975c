"""Images from tables and files: streamed, and kept inside the folder."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moonshelf.errors import InputError
from moonshelf.shop import stream
from moonshelf.shop.stream import image_files, image_rows, locate

Photo = Callable[..., bytes]


def write(folder: Path, kind: str, ids: list[Any], data: list[bytes | None]) -> Path:
    path = folder / f"images.{kind}"
    if kind == "parquet":
        pl.DataFrame({"image_id": ids, "bytes": data}, schema_overrides={"bytes": pl.Binary}).write_parquet(
            path
        )
        return path
    texts = [None if d is None else base64.b64encode(d).decode() for d in data]
    if kind == "csv":
        pl.DataFrame({"image_id": ids, "bytes": texts}).write_csv(path)
    else:
        path.write_text(
            "".join(json.dumps({"image_id": i, "bytes": t}) + "\n" for i, t in zip(ids, texts, strict=True))
        )
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_all_formats_give_the_same_images(tmp_path: Path, photo: Photo, kind: str) -> None:
    data = [photo(1), photo(2, (600, 600))]
    got = list(image_rows(write(tmp_path, kind, ["a", "b"], data)))
    assert [(s.image_id, s.data, s.reason, s.row) for s in got] == [
        ("a", data[0], "", 1),
        ("b", data[1], "", 2),
    ]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_rows_without_id_or_bytes_have_a_reason(tmp_path: Path, kind: str) -> None:
    got = list(image_rows(write(tmp_path, kind, ["a", None], [None, b"x"])))
    assert [(s.image_id, s.reason) for s in got] == [("a", "missing"), ("", "missing value: image_id")]


def test_text_that_is_no_base64_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "images.jsonl").write_text(
        '{"image_id": "a", "bytes": "%%%"}\n{"image_id": "b", "bytes": 3}\n'
    )
    assert [s.reason for s in image_rows(tmp_path / "images.jsonl")] == [
        "bytes are not base64",
        "wrong type: bytes",
    ]


def test_a_missing_column_stops(tmp_path: Path) -> None:
    pl.DataFrame({"image_id": ["a"], "data": [b"x"]}).write_parquet(tmp_path / "images.parquet")
    with pytest.raises(InputError, match="no column bytes"):
        list(image_rows(tmp_path / "images.parquet"))
    (tmp_path / "images.jsonl").write_text('{"image_id": "a"}\n')
    with pytest.raises(InputError, match="no column bytes"):
        list(image_rows(tmp_path / "images.jsonl"))


def test_half_written_parquet_stops(tmp_path: Path, photo: Photo) -> None:
    path = write(tmp_path, "parquet", [str(i) for i in range(50)], [photo(i) for i in range(50)])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(image_rows(path))


def test_one_big_row_group_is_streamed(tmp_path: Path) -> None:
    count, size = 400, 100_000
    schema = pa.schema({"image_id": pa.string(), "bytes": pa.binary()})
    path = tmp_path / "images.parquet"
    data = [os.urandom(size) for _ in range(count)]
    table = pa.table({"image_id": [str(i) for i in range(count)], "bytes": data}, schema=schema)
    pq.write_table(table, path, write_batch_size=8)  # pages of 8 images: a page is what a reader must hold
    assert pq.ParquetFile(path).num_row_groups == 1
    del data, table
    pool = pa.default_memory_pool()
    before, peak, seen = pool.bytes_allocated(), 0, 0
    for source in image_rows(path):
        seen += len(source.data or b"")
        peak = max(peak, pool.bytes_allocated() - before)
    assert seen == count * size
    assert peak < count * size * 0.5, f"{peak:,} bytes held of {count * size:,}"


@pytest.mark.parametrize(
    "path", ["../x.jpg", "a/../../x.jpg", "/etc/hostname", "C:\\x.jpg", "\\\\host\\x.jpg"]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, path: str) -> None:
    home = tmp_path / "shop"
    home.mkdir()
    (tmp_path / "x.jpg").write_bytes(b"secret")
    (source,) = image_files(home, [path])
    assert source.data is None and "path leaves the shop folder" in source.reason


def test_links_that_leave_the_folder_are_refused_and_inner_links_work(tmp_path: Path) -> None:
    home = tmp_path / "shop"
    (home / "in").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for folder in (home / "in", tmp_path / "out"):
        (folder / "x.jpg").write_bytes(b"data")
    (home / "file.jpg").symlink_to(tmp_path / "out" / "x.jpg")
    (home / "folder").symlink_to(tmp_path / "out")
    (home / "inner.jpg").symlink_to(home / "in" / "x.jpg")
    (home / "loop").symlink_to(home / "loop")
    got = {s.image_id: s for s in image_files(home, ["file.jpg", "folder/x.jpg", "inner.jpg", "loop"])}
    assert got["file.jpg"].data is None and "leaves" in got["file.jpg"].reason
    assert got["folder/x.jpg"].data is None and "leaves" in got["folder/x.jpg"].reason
    assert got["inner.jpg"].data == b"data" and got["loop"].reason == "missing"


@pytest.mark.parametrize(
    "url",
    [
        "http://a.b/c.jpg",
        "HTTPS://a.b/c.jpg",
        "s3://bucket/c.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AA",
    ],
)
def test_urls_are_not_fetched(tmp_path: Path, url: str) -> None:
    (source,) = image_files(tmp_path, [url])
    assert source.data is None and "URL" in source.reason and "download" in source.reason


@pytest.mark.parametrize("path", ["none.jpg", "", ".", "x" * 5000, "a\0b", "pipe"])
def test_what_is_not_a_file_is_missing(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert locate(tmp_path.resolve(), path) == ("missing", None)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_FILE", 10)
    (tmp_path / "x.jpg").write_bytes(bytes(11))
    (source,) = image_files(tmp_path, ["x.jpg"])
    assert source.data is None and source.reason.startswith("larger than")


def test_ragged_and_garbled_csv_rows_cost_themselves_alone(tmp_path: Path, photo: Photo) -> None:
    good = base64.b64encode(photo(1)).decode()
    lines = [
        b"image_id,bytes",
        f"a,{good}".encode(),
        b"b,x,y,z",
        b"\xff\xfe," + good.encode(),
        f"d,{good}".encode(),
    ]
    (tmp_path / "images.csv").write_bytes(b"\n".join([*lines, b"e"]) + b"\n")
    got = {s.row: (s.image_id, s.reason) for s in image_rows(tmp_path / "images.csv")}
    assert got[1] == ("a", "") and got[4] == ("d", "")
    assert got[2] == ("", "4 fields where the header has 2")
    assert got[3] == ("", "image_id is not valid UTF-8")
    assert got[5] == ("", "1 fields where the header has 2")


def test_jsonl_lines_that_are_no_objects_cost_themselves_alone(tmp_path: Path, photo: Photo) -> None:
    good = json.dumps({"image_id": "a", "bytes": base64.b64encode(photo(1)).decode()})
    (tmp_path / "images.jsonl").write_text("\n".join(["[1]", "{", "[" * 100_000, good]) + "\n")
    got = [(s.row, s.image_id, s.reason) for s in image_rows(tmp_path / "images.jsonl")]
    assert got == [*((n, "", "not a JSON object") for n in (1, 2, 3)), (4, "a", "")]
