from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tinyshop import png

from moonshelf.encoder.inputs import Item, prepare_image, product_text
from moonshelf.errors import InputError
from moonshelf.shelf import embed, shards
from moonshelf.shelf.embed import embed_shop
from moonshelf.shelf.store import Shelf
from moonshelf.shop.shop import Shop
from moonshelf.workspace import read_manifest

MakeMany = Callable[..., Shop]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "SHARD_ROWS", 16)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which has the time."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.name != "manifest.json"}


def test_rows_are_the_encoders_in_the_shops_order(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    shop = make_many(50)
    shelf = embed_shop(shop, tiny, tmp_path / "out", batch_size=5)
    assert shelf.product_ids == [f"p{i}" for i in range(50)]
    for row, name in enumerate(shelf.product_ids):
        product = shop.product(name)
        pixels = tuple(prepare_image(shop.images.decode(i), 16) for i in product.image_ids[:2])
        want = tiny.embed(tiny.collate([Item(product_text(product), pixels)])).numpy()[0]
        np.testing.assert_allclose(shelf.rows()[row], want, atol=1e-6)
    assert shelf.products["title"][1] == "title 1 x" and shelf.products["price"][0] is None
    assert shelf.products["image_id"][:2].to_list() == [None, "i1-0"]
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None and manifest["stage"] == "shelf" and manifest["metrics"]["rows"] == 50
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("dtype", ["f32", "f16", "i8"])
def test_dtypes_and_widths(make_many: MakeMany, tiny, tmp_path: Path, dtype: str) -> None:
    shop = make_many(20)
    full = embed_shop(shop, tiny, tmp_path / "full").rows()
    shelf = embed_shop(shop, tiny, tmp_path / "small", dim=8, dtype=dtype)
    want = full[:, :8] / np.linalg.norm(full[:, :8], axis=1, keepdims=True)
    assert shelf.rows().shape == (20, 8) and (shelf.rows() * want).sum(1).min() > 0.999
    size = (tmp_path / "small" / "vectors.bin").stat().st_size
    assert size == 20 * 8 * {"f32": 4, "f16": 2, "i8": 1}[dtype]
    np.testing.assert_array_equal(shelf.take(np.array([3, 1])), shelf.rows()[[3, 1]])


def test_modalities_can_be_chosen(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    shop = make_many(8)
    text = embed_shop(shop, tiny, tmp_path / "t", use=("text",))
    image = embed_shop(shop, tiny, tmp_path / "i", use=("image",))
    assert len(text) == 8 and image.product_ids == ["p1", "p2", "p3", "p5", "p6", "p7"]
    assert image.left_out.rows() == [(p, None, "no usable photo and no text") for p in ("p0", "p4")]
    assert image.info["counts"]["products_left_out"] == 2
    with pytest.raises(InputError, match="unknown modalities"):
        embed_shop(shop, tiny, tmp_path / "x", use=("sound",))  # type: ignore[arg-type]


def test_a_photo_file_that_vanished_is_listed(make_shop: Callable[..., Shop], tiny, tmp_path: Path) -> None:
    raw = tmp_path / "shop"
    raw.mkdir()
    for i in range(3):
        (raw / f"{i}.png").write_bytes(png(i))
    rows = [{"product_id": f"p{i}", "title": "t" if i else None, "image_ids": [f"{i}.png"]} for i in range(3)]
    shop = make_shop(rows)
    (raw / "0.png").unlink()
    (raw / "1.png").unlink()
    shelf = embed_shop(shop, tiny, tmp_path / "out")
    assert shelf.product_ids == ["p1", "p2"]
    assert shelf.left_out.rows() == [
        ("p0", "0.png", "missing"),
        ("p1", "1.png", "missing"),
        ("p0", None, "its photos cannot be decoded"),
    ]
    assert shelf.info["counts"]["photos_failed"] == 2


def test_an_unchanged_shelf_is_opened_as_it_is(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    shop = make_many(20)
    embed_shop(shop, tiny, tmp_path / "out")
    done = len(tiny.batches)
    before = contents(tmp_path / "out")
    embed_shop(shop, tiny, tmp_path / "out")
    assert len(tiny.batches) == done and contents(tmp_path / "out") == before
    embed_shop(shop, tiny, tmp_path / "out", resume=False)
    assert len(tiny.batches) > done and contents(tmp_path / "out") == before


@pytest.mark.parametrize("dtype", ["f32", "i8"])
def test_only_what_changed_is_embedded_again(make_many: MakeMany, tiny, tmp_path: Path, dtype: str) -> None:
    old = embed_shop(make_many(40), tiny, tmp_path / "out", dtype=dtype)
    old_rows = np.array(old.vectors)
    tiny.batches.clear()
    changed = make_many(45, name="later", change=[3, 20])
    shelf = embed_shop(changed, tiny, tmp_path / "out", dtype=dtype)
    assert sum(b.size for b in tiny.batches) == 7
    counts = shelf.info["counts"]
    assert (counts["rows"], counts["embedded"], counts["reused"]) == (45, 7, 38)
    fresh = embed_shop(changed, tiny, tmp_path / "fresh", dtype=dtype)
    np.testing.assert_allclose(shelf.rows(), fresh.rows(), atol=1e-5 if dtype == "f32" else 0.02)
    keep = [i for i in range(40) if i not in (3, 20)]
    np.testing.assert_array_equal(shelf.vectors[keep], old_rows[keep])
    assert not np.array_equal(shelf.vectors[3], old_rows[3])


def test_a_previous_shelf_of_another_encoder_is_refused_or_replaced(
    make_many: MakeMany, tiny, tmp_path: Path
) -> None:
    shop = make_many(6)
    old = embed_shop(shop, tiny, tmp_path / "out")
    tiny.version = "other"
    with pytest.raises(InputError, match="encoder_version tiny, this one other"):
        embed_shop(shop, tiny, tmp_path / "new", previous=old)
    assert embed_shop(shop, tiny, tmp_path / "out").info["counts"]["reused"] == 0


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    make_many: MakeMany, tiny, tmp_path: Path
) -> None:
    shop = make_many(100)
    embed_shop(shop, tiny, tmp_path / "whole", batch_size=5)
    inner, left = tiny.embed, 18

    def failing(batch: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return inner(batch)

    tiny.embed = failing
    with pytest.raises(KeyboardInterrupt):
        embed_shop(shop, tiny, tmp_path / "out", batch_size=5)
    done = len(list((tmp_path / ".out.embedding").glob("shard-*.npy")))
    assert 0 < done < 7 and not (tmp_path / "out").exists()
    tiny.embed = inner
    tiny.batches.clear()
    embed_shop(shop, tiny, tmp_path / "out", batch_size=5)
    assert sum(b.size for b in tiny.batches) == 100 - 16 * done
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_shards_of_other_settings_are_not_taken(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    shop = make_many(40)
    unfinished = shards.Unfinished(tmp_path / "out", "another key", resume=True)
    (unfinished.folder / "shard-00000.npy").write_bytes(b"nonsense")
    assert len(embed_shop(shop, tiny, tmp_path / "out")) == 40


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tinyshop import TinyEncoder
from moonshelf import workspace
from moonshelf.shelf import embed, shards
from moonshelf.shop.shop import open_shop
embed.SHARD_ROWS = 16
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
tiny, when = TinyEncoder(), sys.argv[4]
inner, count = tiny.embed, 0
def embed_one(batch):
    global count
    count += 1
    if when == "batch" and count == 10:
        die()
    return inner(batch)
tiny.embed = embed_one
if when == "finish":
    workspace.write_manifest = die
if when == "swap":
    rename = Path.rename
    Path.rename = lambda self, to: die() if self.name == "final" else rename(self, to)
embed.embed_shop(open_shop(sys.argv[2]), tiny, sys.argv[3], batch_size=5)
"""


def test_sigkill_at_any_stage_then_resume_gives_the_same_bytes(
    make_many: MakeMany, tiny, tmp_path: Path
) -> None:
    shop = make_many(60)
    embed_shop(shop, tiny, tmp_path / "whole", batch_size=5)
    (tmp_path / "kill.py").write_text(KILLED)
    here = str(Path(__file__).parent)
    for when in ("batch", "finish", "swap"):
        command = [
            sys.executable,
            str(tmp_path / "kill.py"),
            here,
            str(shop.path),
            str(tmp_path / "out"),
            when,
        ]
        assert subprocess.run(command, capture_output=True).returncode == -9
        assert not (tmp_path / "out").exists()
    tiny.batches.clear()
    embed_shop(shop, tiny, tmp_path / "out", batch_size=5)
    assert not tiny.batches  # every shard had been written
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_kill_between_the_two_renames_keeps_the_earlier_shelf(
    make_many: MakeMany, tiny, tmp_path: Path
) -> None:
    shop = make_many(10)
    embed_shop(shop, tiny, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    done = len(tiny.batches)
    assert len(embed_shop(shop, tiny, tmp_path / "out")) == 10
    assert len(tiny.batches) == done


def test_another_folder_is_never_replaced(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="this is not a shelf"):
        embed_shop(make_many(3), tiny, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_is_one_clear_line(
    make_many: MakeMany, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_many(3)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.Unfinished, "_join", full)
    with pytest.raises(InputError, match="the disk is full"):
        embed_shop(shop, tiny, tmp_path / "out")
    monkeypatch.undo()
    assert len(embed_shop(shop, tiny, tmp_path / "out")) == 3


def test_bad_settings(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    shop = make_many(3)
    with pytest.raises(InputError, match=r"width 7: choose one of \[4, 8, 16\]"):
        embed_shop(shop, tiny, tmp_path / "out", dim=7)
    with pytest.raises(InputError, match="f64"):
        embed_shop(shop, tiny, tmp_path / "out", dtype="f64")
    assert not (tmp_path / "out").exists()


def test_shelf_opens_inside_a_work_folder(make_many: MakeMany, tiny, tmp_path: Path) -> None:
    embed_shop(make_many(3), tiny, tmp_path / "work" / "shelf")
    assert len(Shelf.open(tmp_path / "work")) == 3
