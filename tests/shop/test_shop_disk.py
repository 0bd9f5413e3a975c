"""A disk that fills while a shop is prepared: one clear line, nothing half-made left behind."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from moonshelf.errors import InputError
from moonshelf.shop.shop import open_shop
from moonshelf.workspace import write_frame


class _Full:
    """A file on a disk with room for a few bytes."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.close()

    def tell(self) -> int:
        return 0

    def write(self, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("file", ["images.bin", "searches.parquet", "rejects.parquet"])
def test_a_disk_that_fills_is_one_clear_line_and_leaves_nothing(
    full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    frames, opener = pl.DataFrame.write_parquet, Path.open

    def write(self: pl.DataFrame, path: Any, *args: Any, **options: Any) -> Any:
        if str(path).endswith(file):  # the words of Polars on a full disk
            raise pl.exceptions.ComputeError(
                "parquet: underlying IO error: No space left on device (os error 28)"
            )
        return frames(self, path, *args, **options)

    def open_(self: Path, *args: Any, **options: Any) -> Any:
        handle = opener(self, *args, **options)
        return _Full(handle) if self.name == file else handle

    monkeypatch.setattr(pl.DataFrame, "write_parquet", write)
    monkeypatch.setattr(Path, "open", open_)
    with pytest.raises(InputError, match="the disk is full") as caught:
        open_shop(full, cache=tmp_path / "cache" / "shop")
    assert "\n" not in str(caught.value) and list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device_is_an_os_error() -> None:
    with pytest.raises(OSError) as caught:
        write_frame(pl.DataFrame({"a": range(1000)}), Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC
