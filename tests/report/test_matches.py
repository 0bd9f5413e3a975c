"""Heatmaps of a shop's own searches: drawn once, shown in the page, with the deletion test."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from workfolder import SETTINGS, TIMINGS

from moonshelf.encoder import CompactEncoder
from moonshelf.report import matches
from moonshelf.report.matches import draw_matches
from moonshelf.report.page import write_report
from moonshelf.shop.shop import Shop, open_shop


def examples(shop: Shop) -> dict[str, list[dict[str, object]]]:
    """Searches as an evaluation keeps them."""
    assert shop.searches is not None
    found: dict[str, list[dict[str, object]]] = {"image": [], "text": []}
    for row in shop.searches.head(40).iter_rows(named=True):
        kind = "image" if row["query_image_id"] else "text"
        found[kind].append(
            {
                "query_id": row["query_id"],
                "query_image_id": row["query_image_id"],
                "query_text": row["query_text"],
                "positives": [row["product_id"]],
                "rank": 1,
                "top": [row["product_id"]],
            }
        )
    return found


def test_matches_are_drawn_once_and_shown(
    shop: Shop, encoder: CompactEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matches, "TESTED", 2)
    encoders = {"before training": encoder, "after posttrain": encoder}
    folder = draw_matches(tmp_path, shop, encoders, examples(shop), each=1)
    assert folder == tmp_path / "heatmaps"
    told = json.loads((folder / "matches.json").read_text())
    assert [pair["kind"] for pair in told["pairs"]] == ["image", "text", "joint"]
    image, text, joint = told["pairs"]
    assert image["query_image_id"] and text["query_text"] and joint["query_image_id"]
    assert set(image["similarity"]) == set(encoders)
    for test in told["faithful"].values():
        assert set(test) == {"top", "random", "ratio"} and test["top"]["n"] == 2
    with Image.open(folder / "image-0.png") as sheet:
        assert sheet.size[0] > 900  # the photo, and a map of either encoder
    before = (folder / "image-0.png").stat().st_mtime_ns
    assert draw_matches(tmp_path, shop, encoders, examples(shop), each=1) == folder
    assert (folder / "image-0.png").stat().st_mtime_ns == before  # there already
    page = write_report(tmp_path, shop, config=SETTINGS, timings=TIMINGS, out=tmp_path / "r.html").read_text()
    part = page[page.index('id="matches"') :]
    part = part[: part.index("</section>")]
    assert part.count("data:image/jpeg") == 3 and "Are the maps faithful?" in part
    (folder / "text-0.png").write_bytes(b"broken")
    page = write_report(tmp_path, shop, config=SETTINGS, timings=TIMINGS, out=tmp_path / "r.html").read_text()
    assert "picture cannot be read" in page


def test_names_that_lead_out_of_the_folder_are_not_followed(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "heatmaps").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "secret.png")
    pair = {"kind": "text", "file": "../secret.png"}
    (tmp_path / "heatmaps" / "matches.json").write_text(
        json.dumps({"shop": shop.fingerprint, "pairs": [pair]})
    )
    page = write_report(tmp_path, shop, config=SETTINGS, timings=TIMINGS, out=tmp_path / "r.html").read_text()
    part = page[page.index('id="matches"') :]
    assert "data:image" not in part[: part.index("</section>")]


def test_heatmaps_of_other_data_are_not_shown(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "heatmaps").mkdir()
    told = {"shop": "another", "pairs": [{"kind": "text", "file": "text-0.png"}]}
    (tmp_path / "heatmaps" / "matches.json").write_text(json.dumps(told))
    page = write_report(tmp_path, shop, config=SETTINGS, timings=TIMINGS, out=tmp_path / "r.html").read_text()
    assert "drawn of other data" in page and "No heatmaps were drawn." in page


def test_products_ask_for_themselves_where_nobody_searched(
    shop_with: Callable[..., Path], encoder: CompactEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matches, "TESTED", 1)
    raw = shop_with()
    (raw / "searches.parquet").unlink()
    shop = open_shop(raw, cache=tmp_path / "read")
    folder = draw_matches(tmp_path, shop, {"before training": encoder}, {}, each=1)
    assert folder is not None
    kinds = [pair["kind"] for pair in json.loads((folder / "matches.json").read_text())["pairs"]]
    assert kinds == ["text", "joint"]  # each has one photo, and that against itself says nothing


def test_without_photos_there_is_nothing_to_draw(
    shop_folder: Path, encoder: CompactEncoder, tmp_path: Path
) -> None:
    bare = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        image_ids=pl.lit([], dtype=pl.List(pl.String))
    )
    (tmp_path / "bare").mkdir()
    bare.write_parquet(tmp_path / "bare" / "products.parquet")
    shop = open_shop(tmp_path / "bare", cache=tmp_path / "read")
    assert draw_matches(tmp_path, shop, {"before training": encoder}, {}) is None
    assert not (tmp_path / "heatmaps").exists()
