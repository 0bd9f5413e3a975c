"""The command line end to end on a small shop, and what it says to bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from moonshelf.cli import build_parser, main
from moonshelf.encoder import CompactEncoder
from moonshelf.pipeline import validation
from moonshelf.recipes import recipe
from moonshelf.report import matches
from moonshelf.shelf import Shelf
from moonshelf.shop.shop import open_shop

VERBS = {
    "demo", "check", "run", "pretrain", "posttrain", "embed", "search", "evaluate", "relevance", "rank", "creative",
    "study", "heatmap", "export", "serve", "doctor",
}  # fmt: skip


@pytest.fixture(scope="module")
def work(shop_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which every stage was run."""
    folder = tmp_path_factory.mktemp("work") / "toys"
    assert main(["run", str(shop_folder), "--work", str(folder), "--recipe", "smoke"]) == 0
    return folder


def test_the_verbs_are_the_ones_that_were_agreed() -> None:
    text = build_parser().format_help()
    assert all(f"\n    {verb} " in text or f"\n    {verb}\n" in text for verb in VERBS)


def test_run_leaves_every_artefact(work: Path) -> None:
    for name in ("shop", "pretrain", "posttrain", "encoder", "shelf"):
        assert (work / name / "manifest.json").is_file(), name
    page = (work / "report" / "index.html").read_text()
    assert "red circle" in page or "recall" in page.lower()
    for name in ("untrained", "pretrain", "posttrain"):
        value = json.loads((work / "evaluation" / f"{name}.json").read_text())
        m = value["metrics"]["recall@1"]
        assert 0 <= m["low"] <= m["value"] <= m["high"] <= 1
        assert m["n"] == 12
    assert {"off_the_shelf", "colour_histogram", "chance"} <= value["baselines"].keys()
    assert not [p.name for p in work.iterdir() if p.name.startswith(".")]


def test_a_second_run_does_nothing_again(work: Path, shop_folder: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in work.rglob("model.safetensors")}
    assert main(["run", str(shop_folder), "--work", str(work), "--recipe", "smoke"]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in work.rglob("model.safetensors")}


def test_stages_by_hand_equal_run(work: Path, shop_folder: Path, tmp_path: Path) -> None:
    for verb in ("pretrain", "posttrain"):
        assert main([verb, str(shop_folder), "--work", str(tmp_path), "--recipe", "smoke"]) == 0
    ours, theirs = (d / "encoder" / "model.safetensors" for d in (tmp_path, work))
    assert ours.read_bytes() == theirs.read_bytes()


def test_search_prints_draws_and_filters(
    work: Path, shop_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet, out = tmp_path / "sheet.png", tmp_path / "hits.json"
    args = [
        "search",
        str(work / "shelf"),
        "--text",
        "red circle",
        "-k",
        "5",
        "--sheet",
        str(sheet),
        "--json",
        str(out),
    ]
    assert main([*args, "--category", "Toys > square", "--max-price", "7"]) == 0
    hits = json.loads(out.read_text())["hits"]
    assert {h["category"] for h in hits} == {"Toys > square"}
    assert all(h["price"] <= 7 for h in hits)
    assert sheet.read_bytes()[:4] == b"\x89PNG"
    assert hits[0]["title"] in capsys.readouterr().out


def test_embed_and_evaluate_by_name(work: Path, shop_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    shelf = tmp_path / "shelf"
    assert (
        main(
            [
                "embed",
                str(shop_folder),
                "--encoder",
                str(work),
                "--out",
                str(shelf),
                "--dim",
                "64",
                "--dtype",
                "i8",
            ]
        )
        == 0
    )
    opened = Shelf.open(shelf)
    assert (len(opened), opened.dim, opened.dtype) == (12, 64, "i8")
    assert np.allclose(np.linalg.norm(opened.rows(), axis=1), 1, atol=0.01)
    out = tmp_path / "r.json"
    assert (
        main(["evaluate", "image-search", str(shop_folder), "--encoder", str(work), "--json", str(out)]) == 0
    )
    ours = json.loads(out.read_text())
    run = json.loads((work / "evaluation" / "posttrain.json").read_text())
    assert ours["metrics"]["recall@5"] == run["metrics"]["recall@5"]


def test_check_exits_1_when_a_shop_cannot_be_used(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "users.csv").write_text("user_id\na\n")
    assert main(["check", str(raw), "--json", str(tmp_path / "c.json")]) == 1
    assert "NOT usable" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["usable"] is False


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["check", "no-such-shop"], "no such shop folder"),
        (["search", "no-such-shelf", "--text", "x"], "no-such-shelf"),
        (["embed", "{shop}", "--encoder", "nothing", "--out", "x"], "there is no encoder here"),
        (["embed", "{shop}", "--encoder", "compact", "--out", "{tmp}/s", "--dim", "100"], "100"),
        (["run", "{shop}", "--work", "{tmp}/w", "--set", "posttrain.epochs=3"], "unknown setting"),
        (["run", "{shop}", "--work", "{tmp}/w", "--recipe", "huge"], "unknown recipe"),
        (["run", "{shop}", "--work", "{tmp}/w", "--seed", "-1"], "cannot be negative"),
        (["run", "{shop}", "--work", "{tmp}/w", "--set", "shelf.dim=100"], "100"),
        (["run", "{shop}", "--work", "{tmp}/w", "--set", "posttrain.batch=0"], "above 0"),
        (
            ["evaluate", "image-search", "{shop}", "--encoder", "compact", "--json", "{tmp}/no/dir/x"],
            "{tmp}/no/dir",
        ),
        (["serve", "--work", "x"], "not built yet"),
        (["evaluate", "benchmark", "{shop}"], "one of --encoder, --vectors and --inputs"),
        (["evaluate", "benchmark", "{shop}", "--vectors", "{tmp}/none.npz"], "cannot be read"),
        (
            ["evaluate", "text-search", "{shop}", "--encoder", "compact", "--limit", "3"],
            "belongs to evaluate benchmark",
        ),
        (["evaluate", "image-search", "{shop}"], "no encoder is named"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(
    args: list[str], message: str, shop_folder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    filled = [a.format(shop=shop_folder, tmp=tmp_path) for a in args]
    assert main(filled) == 1
    err = capsys.readouterr().err
    assert message.format(tmp=tmp_path) in err
    assert err.count("\n") == 1


def test_a_full_disk_is_one_line_wherever_it_fills(
    shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log of a run, for one: its file is a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    opened = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        return opened(
            Path("/dev/full") if self.name == "log.jsonl" and "a" in mode else self, mode, *args, **options
        )

    monkeypatch.setattr(Path, "open", full)
    assert main(["pretrain", str(shop_folder), "--work", str(tmp_path), "--recipe", "smoke"]) == 1
    err = capsys.readouterr().err
    assert "the disk is full" in err and err.count("\n") == 1


def test_demo_makes_its_shop_and_runs_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["demo", "--out", str(tmp_path), "--products", "60", "--recipe", "smoke"]
    assert main(args) == 0
    said = capsys.readouterr().out
    for name in ("untrained", "posttrain", "off the shelf", "colour histogram", "chance"):
        assert f"image search, {name}" in said
    made = (tmp_path / "demo-shop" / "products.parquet").stat().st_mtime_ns
    assert (tmp_path / "report" / "index.html").is_file() and (tmp_path / "demo-shop" / "truth").is_dir()
    assert main(args) == 0  # made already
    assert (tmp_path / "demo-shop" / "products.parquet").stat().st_mtime_ns == made


def test_what_was_trained_on_a_shop_belongs_to_its_copy(
    work: Path, shop_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same data in another place: nothing is trained again."""
    here = tmp_path / "elsewhere"
    here.mkdir()
    for file in shop_folder.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    weights = (work / "posttrain" / "model.safetensors").stat().st_mtime_ns
    assert main(["run", str(here), "--work", str(work), "--recipe", "smoke"]) == 0
    assert (work / "posttrain" / "model.safetensors").stat().st_mtime_ns == weights


def test_the_second_posttrain_goes_on_from_the_first(
    work: Path, shop_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["posttrain", str(shop_folder), "--second", "--recipe", "smoke"]
    assert main([*args, "--work", str(tmp_path / "empty")]) == 1
    assert "run posttrain first" in capsys.readouterr().err
    copy = tmp_path / "work"
    shutil.copytree(work, copy)
    assert main([*args, "--work", str(copy)]) == 0
    first, second = (
        json.loads((copy / name / "manifest.json").read_text()) for name in ("posttrain", "posttrain2")
    )
    assert (
        second["inputs"]["start"] == json.loads((copy / "posttrain" / "encoder.json").read_text())["version"]
    )
    assert first["key"] != second["key"] and second["config"]["actions"] == ["purchase"]
    assert (copy / "encoder" / "model.safetensors").read_bytes() == (
        copy / "posttrain2" / "model.safetensors"
    ).read_bytes()
    assert (copy / "posttrain2" / "mined.parquet").is_file() and not (
        copy / "posttrain2" / "prior.safetensors"
    ).exists()


def test_run_with_all_stages(
    shop_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matches, "TESTED", 1)  # pairs in the deletion test
    args = ["run", str(shop_folder), "--work", str(tmp_path), "--recipe", "smoke"]
    assert main([*args, "--set", "stages=all", "--set", "evaluation.heatmaps=1"]) == 0
    assert "image search, posttrain2" in capsys.readouterr().out
    page = (tmp_path / "report" / "index.html").read_text()
    assert "after the second posttrain" in page and "Are the maps faithful?" in page
    told = json.loads((tmp_path / "heatmaps" / "matches.json").read_text())
    assert told["encoders"] == ["before training", "after the second posttrain"]


def test_wrong_usage_exits_2() -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fly"])
    assert stopped.value.code == 2


def test_an_unfinished_run_is_not_lost(shop_folder: Path, tmp_path: Path, capsys) -> None:
    unfinished = tmp_path / ".posttrain.unfinished"
    unfinished.mkdir()
    (unfinished / "checkpoint.pt").write_bytes(b"torn")
    args = ["posttrain", str(shop_folder), "--work", str(tmp_path), "--recipe", "smoke"]
    assert main(args) == 1
    assert "--resume" in capsys.readouterr().err
    assert main([*args, "--resume"]) == 1
    assert "damaged" in capsys.readouterr().err
    assert (unfinished / "checkpoint.pt").read_bytes() == b"torn"


def test_run_leaves_out_what_there_is_too_little_data_for(
    shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    """One search to learn from, three photos: both stages are left out, the rest is done."""
    products, rows, images = (
        pl.read_parquet(shop_folder / f"{n}.parquet") for n in ("products", "searches", "images")
    )
    raw, folder = (
        shop_with(
            products=products.head(2),
            searches=rows.filter(pl.col("query_id").is_in(["t0", "q1-0"])),
            images=images.filter(pl.col("image_id").is_in(["p0", "p1", "q1-0"])),
        ),
        tmp_path / "work",
    )
    assert main(["run", str(raw), "--work", str(folder), "--recipe", "smoke"]) == 0
    assert (folder / "evaluation" / "untrained.json").is_file()
    assert (folder / "report" / "index.html").is_file()
    assert not (folder / "posttrain").exists() and not (folder / "pretrain").exists()


def test_the_report_tells_this_run_only(work: Path, shop_folder: Path) -> None:
    args = ["run", str(shop_folder), "--work", str(work), "--recipe", "smoke", "--set", "stages=none"]
    page = work / "report" / "index.html"
    assert "after posttrain" in page.read_text()
    assert main(args) == 0
    assert "after posttrain" not in page.read_text()


def test_validation_counts_every_product_of_a_query_and_sets_its_design_aside(
    shop_folder: Path, shop_with: Callable[..., Path], encoder: CompactEncoder, tmp_path: Path
) -> None:
    rows = pl.read_parquet(shop_folder / "searches.parquet").filter(pl.col("query_id") == "q0-1")
    other = rows.with_columns(product_id=pl.lit("2"))  # one photo, acted on products 0 and 2
    raw = shop_with(searches=pl.concat([rows, other]))
    asked = validation(open_shop(raw, cache=tmp_path / "prepared"), recipe("smoke"))
    assert asked is not None
    names = ["0", "2", *(str(i) for i in range(12) if i not in (0, 2))]
    assert len(asked.queries) == 1 and len(asked.gallery) == 12
    assert sorted(names[i] for i in asked.positives[0]) == ["0", "2"]
    assert [names[i] for i in asked.masked[0]] == ["1"]  # red and green circle are one design
    assert set(asked(encoder)) == {"recall@1", "mrr"}


@pytest.mark.parametrize("without", ["text", "photos"])
def test_run_on_a_shop_without_text_or_without_photos(
    without: str, shop_folder: Path, shop_with: Callable[..., Path], tmp_path: Path
) -> None:
    products = pl.read_parquet(shop_folder / "products.parquet")
    searches = pl.read_parquet(shop_folder / "searches.parquet")
    if without == "text":
        products = products.select("product_id", "spu_id", "image_ids")
        searches = searches.filter(pl.col("query_image_id").is_not_null())
        photos = pl.read_parquet(shop_folder / "images.parquet")
    else:
        products = products.drop("image_ids")
        searches = searches.filter(pl.col("query_text").is_not_null())
        extra = searches.with_columns(
            pl.col("query_id") + "x", pl.col("query_text") + " toy", split=pl.lit("test")
        )
        searches, photos = pl.concat([searches, extra]), None
    raw, folder = shop_with(products=products, searches=searches, images=photos), tmp_path / "work"
    assert main(["run", str(raw), "--work", str(folder), "--recipe", "smoke"]) == 0
    assert (folder / "posttrain" / "manifest.json").is_file()
    assert (folder / "pretrain").exists() == (without == "text")
    assert len(Shelf.open(folder / "shelf")) == 12
    kinds = {p.name for p in (folder / "evaluation").iterdir()}
    assert ("posttrain.json" in kinds) == (without == "text")
    assert ("text-posttrain.json" in kinds) == (without == "photos")
