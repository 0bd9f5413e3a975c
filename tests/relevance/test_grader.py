"""A relevance model as the joined stages use it: ``moonshelf rank`` with a text and a least grade."""

from __future__ import annotations

import builtins
import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf import applying
from moonshelf.cli import main
from moonshelf.errors import InputError
from moonshelf.relevance.grader import ShopGrader, open_shop_grader
from moonshelf.relevance.model import ARRAYS, TREES, RelevanceModel, open_relevance
from moonshelf.relevance.trees import library
from moonshelf.shop.shop import Shop, open_shop

ShopOf = Callable[..., Shop]
SMALL = ["width=8", "hidden=32,16"]
QUICK = ["epochs=1", "batch=256", "patience=0"]


@pytest.fixture(scope="module")
def work(write_made: ShopOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with shop, shelf, click model and relevance model of the made shop."""
    folder, rng = tmp_path_factory.mktemp("joined"), np.random.default_rng(0)
    begin = datetime(2025, 3, 1, tzinfo=UTC)
    acts = [
        (f"u{rng.integers(12)}", begin + timedelta(hours=i), f"p{rng.integers(96)}", "click")
        for i in range(400)
    ]
    events = pl.DataFrame(acts, schema=["user_id", "time", "product_id", "action"], orient="row")
    shop, out = str(write_made(folder, events=events).path), folder / "work"
    settings = [f"ranking.model.{s}" for s in SMALL] + [f"ranking.train.{s}" for s in QUICK]
    more = [part for setting in settings for part in ("--set", setting)]
    assert main(["embed", shop, "--encoder", "compact", "--out", str(out / "shelf")]) == 0
    assert main(["rank", "train", shop, "--work", str(out), *more]) == 0
    assert main(["relevance", "train", shop, "--work", str(out)]) == 0
    shutil.copytree(shop, out / "shop")
    return out


def asked(work: Path, out: Path, *more: str) -> list[dict]:
    assert main(["rank", str(work), "--text", "red shelf", "-k", "96", "--json", str(out), *more]) == 0
    found: list[dict] = json.loads(out.read_text())["products"]
    return found


def test_rank_leaves_out_what_is_graded_lower(work: Path, tmp_path: Path) -> None:
    everything = asked(work, tmp_path / "a.json")
    kept = asked(work, tmp_path / "b.json", "--least-grade", "1.8")
    model = open_relevance(work)
    ids = [p["product_id"] for p in everything]
    told = dict(zip(ids, model.grades("red shelf", ids).tolist(), strict=True))
    assert len(ids) == 96 and {p["product_id"]: p["grade"] for p in everything} == told
    assert {p["product_id"] for p in kept} == {p for p, grade in told.items() if grade >= 1.8}
    assert 0 < len(kept) < 48 and all(p["category"].endswith("shelf") for p in kept)
    assert any("matches 'red', 'shelf'" in p["reason"] for p in kept)
    assert [p["click"] for p in kept] == sorted((p["click"] for p in kept), reverse=True)


def test_a_model_elsewhere_is_named(work: Path, tmp_path: Path) -> None:
    shutil.copytree(work / "relevance", tmp_path / "mine")
    here, there = (
        asked(work, tmp_path / "a.json", *more) for more in ((), ("--relevance", str(tmp_path / "mine")))
    )
    assert here == there


def test_a_work_folder_without_a_model_has_no_grades(work: Path, tmp_path: Path) -> None:
    copy = tmp_path / "w"
    shutil.copytree(work, copy, ignore=shutil.ignore_patterns("relevance"))
    shop = open_shop(copy / "shop")
    assert applying.open_grader(str(copy), None, shop) is None
    assert {p["grade"] for p in asked(copy, tmp_path / "a.json")} == {None}


def test_a_model_with_vectors_finds_the_shelf_of_the_work_folder(work: Path, tmp_path: Path) -> None:
    train = ["relevance", "train", str(work / "shop"), "--work", str(tmp_path / "v")]
    assert main([*train, "--shelf", str(work / "shelf"), "--encoder", "compact"]) == 0
    grader = applying.open_grader(str(work), str(tmp_path / "v"), open_shop(work / "shop"))
    assert isinstance(grader, ShopGrader) and grader.model.vectors is not None
    assert np.isfinite(grader.grades("red shelf", ["p1", "p2"])).all()


def damage(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:60])


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no model", "there is no relevance model here"),
        ("arrays", "the relevance model is damaged"),
        ("trees", "the trees cannot be read"),
        ("no lightgbm", "the relevance model needs lightgbm"),
        ("other shop", "was trained on another shop"),
    ],
)
def test_what_cannot_grade_is_one_line(
    work: Path,
    write_made: ShopOf,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    said: str,
) -> None:
    mine = tmp_path / "mine"
    if case != "no model":
        shutil.copytree(work / "relevance", mine)
    if case in ("arrays", "trees"):
        damage(mine, {"arrays": ARRAYS, "trees": TREES}[case])
    if case == "no lightgbm":
        monkeypatch.setitem(sys.modules, "lightgbm", None)
    if case == "other shop":
        given = open_shop(work / "shop")
        assert given.products is not None and given.relevance is not None
        renamed = pl.col("product_id").str.replace("p", "o")
        other = write_made(
            tmp_path,
            products=given.products.with_columns(renamed),
            relevance=given.relevance.with_columns(renamed),
        )
        shutil.rmtree(mine)
        assert main(["relevance", "train", str(other.path), "--work", str(mine)]) == 0
    assert main(["rank", str(work), "--text", "red shelf", "--relevance", str(mine)]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_query_without_text_asks_for_no_grades(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert main(["rank", str(work), "--user", "u1", "-k", "3"]) == 0


def test_training_without_lightgbm_says_so_before_the_work(
    judged: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert main(["relevance", "train", str(judged.path), "--work", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "pip install 'moonshelf[relevance]'" in err and err.count("\n") == 1
    assert not (tmp_path / "relevance").exists()


def test_lightgbm_without_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_openmp(name: str, *rest: object) -> object:
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real(name, *rest)  # type: ignore[arg-type]

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_openmp)
    with pytest.raises(InputError, match=r"cannot be loaded: libgomp.*install OpenMP"):
        library()


def test_a_changed_shop_is_read_anew(
    trained: tuple[RelevanceModel, Path], judged: Shop, shop_of: ShopOf
) -> None:
    model, folder = trained
    assert judged.products is not None
    ids = ["p0", "p1", "p2"]
    before = open_shop_grader(folder, judged)
    assert before.same and np.array_equal(
        before.grades("black mirror", ids), model.grades("black mirror", ids)
    )
    title = pl.when(pl.col("product_id") == "p1").then(pl.lit("12 in. Black Mirror")).otherwise("title")
    new = judged.products[:1].with_columns(
        pl.lit("new").alias("product_id"), pl.lit("Black Mirror").alias("title")
    )
    products = pl.concat((judged.products.with_columns(title.alias("title")), new))
    after = open_shop_grader(folder, shop_of(products=products))
    told = after.grades("black mirror", [*ids, "new"])
    assert not after.same and told[0] == before.grades("black mirror", ids)[0]
    assert min(told[1], told[3]) > max(told[0], told[2]) + 0.3
    assert after.reasons("black mirror", ["p1"]) == ["matches 'black', 'mirror'"]
    with pytest.raises(InputError, match="1 of 2 products are not in the shop"):
        after.grades("black mirror", ["p1", "nobody"])
