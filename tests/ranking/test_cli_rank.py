"""The verb rank on a small shop: train, evaluate, ask; messy tables are told, useless ones are one line."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from clickshop import START, write_shop

from moonshelf.cli import main

SMALL = [
    "ranking.model.width=8", "ranking.model.hidden=32,16", "ranking.train.epochs=3", "ranking.train.batch=256",
    "ranking.train.rate=0.005", "ranking.train.table_rate=0.005", "ranking.train.patience=0",
]  # fmt: skip


def settings(*more: str) -> list[str]:
    return [part for setting in (*SMALL, *more) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A shop and a work folder with its vectors and its click model."""
    folder = tmp_path_factory.mktemp("rank")
    shop, work = write_shop(folder / "shop"), folder / "work"
    assert main(["embed", str(shop), "--encoder", "compact", "--out", str(work / "shelf")]) == 0
    train = ["rank", "train", str(shop), "--shelf", str(work / "shelf"), "--work", str(work), *settings()]
    assert main(train) == 0
    return shop, work


def test_evaluate_writes_metrics(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, work = trained
    out = tmp_path / "rank.json"
    assert main(["rank", "evaluate", str(shop), "--model", str(work), "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    for name in ("gauc", "auc", "log loss", "ndcg@10"):
        m = told["metrics"][name]
        assert m["low"] <= m["value"] <= m["high"] and m["n"] > 5
    assert told["metrics"]["gauc"]["value"] > 0.6 and told["protocol"]["made"] is False
    assert "gauc minus popularity" in capsys.readouterr().out


def test_a_work_folder_may_move(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, work = trained
    other = tmp_path / "other"
    shutil.copytree(work, other)
    assert (other / "shelf.txt").read_text().strip() == "shelf"
    shutil.rmtree(other / "shelf")  # it must be its own shelf that is read
    assert main(["rank", str(other), "--text", "blue mug", "-k", "2"]) == 1
    assert str(other) in capsys.readouterr().err
    shutil.copytree(work / "shelf", other / "shelf")
    (other / "shelf.txt").write_text("/nowhere/shelf\n")
    assert main(["rank", str(other), "--text", "blue mug", "-k", "2"]) == 0


def test_ask_with_a_query_and_a_user(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, work = trained
    out = tmp_path / "found.json"
    assert main(["rank", str(work), "--text", "blue mug", "--user", "u1", "-k", "4", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["query"]["text"] == "blue mug" and len(found["products"]) == 4
    assert all(p["reason"] and 0 < p["click"] < 1 for p in found["products"])
    assert "why" in capsys.readouterr().out
    assert main(["rank", "query", str(work), "--user", "u1", "--new", "-k", "3"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rank", "WORK"], "there is no query"),
        (["rank", "WORK", "--user", "nobody"], "has no past"),
        (["rank", "WORK", "--text", "x", "--least-grade", "2"], "a least grade needs"),
        (["rank", "WORK", "--image", "missing.jpg"], "missing.jpg"),
        (["rank", "NOWHERE", "--text", "x"], "there is no click model here"),
        (["rank", "WORK", "--text", "x", "--category", "Cars"], "no product is in the category"),
        (["rank", "train", "SHOP", "--work", "NOWHERE"], "shelf"),
        (["rank", "train", "SHOP", "--work", "WORK", "--set", "ranking.model.interest=best"], "cannot be 'best'"),
        (["rank", "train", "SHOP", "--work", "WORK", "--set", "ranking.cut=soon"], "is no date"),
        (["rank", "evaluate", "SHOP", "--model", "SHOP"], "there is no click model here"),
    ],
)  # fmt: skip
def test_bad_questions_are_one_line(
    trained: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    shop, work = trained
    names = {"WORK": str(work), "SHOP": str(shop), "NOWHERE": str(tmp_path / "nowhere")}
    assert main([names.get(word, word) for word in words]) == 1
    err = capsys.readouterr().err
    assert said in err.strip().splitlines()[-1] and "Traceback" not in err


def test_another_encoder_is_refused_with_both_versions(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, work = trained
    other = tmp_path / "other"
    assert main(["embed", str(shop), "--encoder", "compact", "--out", str(other)]) == 0
    card = json.loads((other / "shelf.json").read_text())
    card["encoder_version"] = "somebody-else"
    (other / "shelf.json").write_text(json.dumps(card))
    assert main(["rank", "evaluate", str(shop), "--model", str(work), "--shelf", str(other)]) == 1
    err = capsys.readouterr().err
    told = json.loads((work / "ranking" / "ranking.json").read_text())["encoder"]
    assert "somebody-else" in err and told in err


def messy(folder: Path) -> Path:
    """The shop with everything that logs have: see the test."""
    write_shop(folder)
    shown = pl.read_parquet(folder / "impressions.parquet").with_columns(
        pl.col("time").dt.replace_time_zone(None)  # naive times are UTC
    )
    strange = shown.head(3).with_columns(product_id=pl.lit("gone"))  # not in the catalogue
    nobody = shown.head(4).with_columns(user_id=pl.lit(None, pl.String))
    pl.concat([shown, shown.head(5), strange, nobody]).write_parquet(folder / "impressions.parquet")
    acts = pl.read_parquet(folder / "events.parquet")
    early = acts.head(1).with_columns(
        time=START - timedelta(days=30), action=pl.lit("purchase")
    )  # before any look
    single = acts.head(1).with_columns(user_id=pl.lit("once"))  # a user with one event
    acts = pl.concat([acts, acts.head(7), early, single])
    acts.with_columns(pl.col("time").dt.convert_time_zone("Asia/Tokyo")).write_parquet(
        folder / "events.parquet"
    )
    users = [f"u{i}" for i in range(30)]
    pl.DataFrame(
        {"user_id": users, "age": [float("nan"), float("inf"), *[30.0 + i for i in range(28)]]}
    ).write_parquet(folder / "users.parquet")
    return folder


def test_messy_tables_are_told_and_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moonshelf.progress._quiet", False)
    shop, work = messy(tmp_path / "shop"), tmp_path / "work"
    plain = settings("ranking.model.interest=din", "ranking.model.mode=id")
    assert main(["rank", "train", str(shop), "--work", str(work), *plain]) == 0
    err = capsys.readouterr().err
    assert "acts left out: twice" in err and "5 twice" in err  # events and impressions
    assert "purchase before any impression of it" in err and "without a user" in err
    assert main(["rank", "evaluate", str(shop), "--model", str(work)]) == 0


def test_labels_of_one_kind_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop = write_shop(tmp_path / "shop")
    shown = pl.read_parquet(shop / "impressions.parquet").with_columns(clicked=pl.lit(0))
    shown.write_parquet(shop / "impressions.parquet")
    plain = settings("ranking.model.interest=din", "ranking.model.mode=id")
    assert main(["rank", "train", str(shop), "--work", str(tmp_path / "work"), *plain]) == 1
    assert "have the same label" in capsys.readouterr().err
    (shop / "events.parquet").unlink()
    assert main(["rank", "train", str(shop), "--work", str(tmp_path / "work"), *plain]) == 1
    assert "there are no events to learn from" in capsys.readouterr().err
