"""The image audit and the store it leaves."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from moonshelf.errors import InputError
from moonshelf.shop.audit import audit_images, with_groups
from moonshelf.shop.images import IMAGE_INDEX, ImageError, ImageStore
from moonshelf.shop.stream import Source

Photo = Callable[..., bytes]


def audit(
    folder: Path, sources: list[Source], workers: int = 2
) -> tuple[ImageStore, list[tuple[int, str, str]]]:
    with (folder / "images.bin").open("wb") as out, (folder / "thumbs").open("wb") as thumbs:
        index, refused = audit_images(sources, out, thumbs, workers=workers)
    with_groups(index, folder / "thumbs").write_parquet(folder / "images.parquet")
    return ImageStore(folder), refused


def table(*data: bytes | None) -> list[Source]:
    return [Source(f"i{n}", d, "" if d else "missing", n + 1) for n, d in enumerate(data)]


def test_the_audit_tells_good_from_bad(tmp_path: Path, photo: Photo) -> None:
    whole = photo(1, (120, 90))
    store, refused = audit(tmp_path, table(whole, whole[:300], b"hello", None, photo(2), whole))
    assert store.table.schema == IMAGE_INDEX
    assert store.table["reason"].to_list() == [None, "truncated", "not an image", "missing", None, None]
    assert store.ids == ["i0", "i4", "i5"] and len(store) == 3 and "i0" in store and "i1" not in store
    assert refused == [(2, "i1", "truncated"), (3, "i2", "not an image"), (4, "i3", "missing")]
    first = store.table.row(0, named=True)
    assert (first["width"], first["height"], first["num_bytes"]) == (120, 90, len(whole))
    assert first["sha256"] == hashlib.sha256(whole).hexdigest()
    assert store.table["duplicate_of"].to_list() == [None] * 5 + ["i0"]
    groups = store.table["near_group"].to_list()
    assert groups[0] == groups[5] != groups[4] and groups[1] is None


def test_equal_bytes_are_stored_once(tmp_path: Path, photo: Photo) -> None:
    one, two = photo(1), photo(2)
    store, _ = audit(tmp_path, table(one, two, one, one))
    assert (tmp_path / "images.bin").stat().st_size == len(one) + len(two)
    assert [store.read(i) for i in store.ids] == [one, two, one, one]


def test_an_id_twice_keeps_the_first(tmp_path: Path, photo: Photo) -> None:
    one, two = photo(1), photo(2)
    store, refused = audit(tmp_path, [Source("a", one, row=1), Source("a", two, row=2)])
    assert store.read("a") == one and refused == [(2, "a", "duplicate id: the first row is kept")]


def test_threads_do_not_change_the_result(tmp_path: Path, photo: Photo) -> None:
    sources = table(*[photo(n) if n % 3 else b"bad" for n in range(40)])
    stores = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        stores.append(audit(folder, sources, workers)[0])
    assert stores[0].table.equals(stores[1].table)


def test_sources_are_pulled_as_they_are_needed(photo: Photo) -> None:
    pulled = done = 0
    data = photo(1)

    def sources():  # type: ignore[no-untyped-def]
        nonlocal pulled
        for n in range(200):
            pulled += 1
            assert pulled - done <= 20, "the audit runs ahead of its work"
            yield Source(str(n), data)

    def count(n: int) -> None:
        nonlocal done
        done += n

    audit_images(sources(), io.BytesIO(), io.BytesIO(), workers=2, advance=count)
    assert pulled == done == 200


def test_the_store_decodes_upright_rgb(tmp_path: Path, photo: Photo) -> None:
    store, _ = audit(tmp_path, table(photo(1, (400, 300))))
    assert store.decode("i0").size == (400, 300) and store.decode("i0").mode == "RGB"
    assert min(store.decode("i0", short_side=100).size) in range(100, 300)


def test_an_unusable_image_is_an_image_error(tmp_path: Path, photo: Photo) -> None:
    store, _ = audit(tmp_path, table(photo(1), b"bad"))
    for image_id in ("i1", "nobody"):
        with pytest.raises(ImageError, match=image_id) as caught:
            store.read(image_id)
        assert caught.value.reason == "missing"


def test_the_store_pickles_by_path_and_serves_threads(tmp_path: Path, photo: Photo) -> None:
    data = [photo(n) for n in range(12)]
    store, _ = audit(tmp_path, table(*data))
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 1000
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(copy.read, store.ids * 5)) == data * 5


def test_file_images_are_read_from_their_place(tmp_path: Path, photo: Photo) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(photo(1))
    store, _ = audit(tmp_path, [Source("a.jpg", photo(1), path=str(path))])
    assert (tmp_path / "images.bin").stat().st_size == 0 and store.read("a.jpg") == photo(1)
    path.write_bytes(photo(2, (200, 200)))
    with pytest.raises(ImageError, match="changed since"):
        store.read("a.jpg")
    path.unlink()
    with pytest.raises(ImageError, match="gone since"):
        store.read("a.jpg")


def test_a_prepared_folder_without_its_bytes_says_so(tmp_path: Path, photo: Photo) -> None:
    audit(tmp_path, table(photo(1)))
    (tmp_path / "images.bin").unlink()
    with pytest.raises(InputError, match="lost its images"):
        ImageStore(tmp_path).read("i0")


def test_no_images_at_all(tmp_path: Path) -> None:
    store, refused = audit(tmp_path, [])
    assert len(store) == 0 and refused == [] and store.table.schema == IMAGE_INDEX


def test_near_duplicates_share_a_group_across_chunks(tmp_path: Path, photo: Photo) -> None:
    again = io.BytesIO()
    Image.open(io.BytesIO(photo(1, (300, 300)))).save(again, "JPEG", quality=70)
    store, _ = audit(tmp_path, table(photo(1, (300, 300)), photo(2), again.getvalue()))
    groups = store.table["near_group"].to_list()
    assert groups[0] == groups[2] != groups[1]
    assert store.table["duplicate_of"].null_count() == 3
    assert isinstance(store.table, pl.DataFrame)
