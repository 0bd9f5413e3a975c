"""The verb ``creative`` from a shop folder to a verdict: trained, measured on unseen tests, asked, drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "creative"))
from creative_log import make_log

from moonshelf import choosing
from moonshelf.cli import main
from moonshelf.creative import backbones, fit
from moonshelf.creative.chooser import load_chooser
from moonshelf.creative.facts import holds, read_fact
from moonshelf.creative.learn import FAST, gather
from moonshelf.creative.measures import Brief, see
from moonshelf.creative.pairs import load_pairs
from moonshelf.encoder import load_encoder
from moonshelf.encoder.language import Language, cut
from moonshelf.shop.shop import open_shop

SMALL = ["Three things about a dog", "12 things to know about a dog"]


@pytest.fixture(scope="module")
def texts_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts") / "headlines"
    folder.mkdir()
    make_log(100).drop("number").write_parquet(folder / "creatives.parquet")
    return folder


@pytest.fixture(scope="module")
def work(texts_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work") / "w"
    assert main(["creative", "train", str(texts_shop), "--work", str(folder)]) == 0
    return folder


def test_trained_and_measured_on_unseen_tests(
    work: Path, texts_shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert main(["creative", "evaluate", str(texts_shop), "--model", str(work), "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    m = told["metrics"]
    assert told["system"] == FAST and m["flip_rate"]["value"] == 0
    assert (
        m["accuracy"]["value"] > 0.9
        and m["accuracy"]["low"] > told["baselines"]["chance"]["accuracy"]["value"]
    )
    assert told["difference"]["chance"]["low"] > 0 and told["protocol"]["tests"] <= 20
    printed = capsys.readouterr().out
    assert "longer text" in printed and "logistic on vector differences" in printed
    # by hand: the same pairs, scored from the parts
    chooser, encoder = load_chooser(work), load_encoder("compact")
    shop = open_shop(texts_shop, require_products=False)
    material = gather(shop, encoder)
    pairs = choosing.split_pairs(material, chooser, "test", 0)
    right = 0
    for pair in pairs:
        seen = see(encoder, [Brief(pair.a.text), Brief(pair.b.text)])
        f = chooser.fast.score(seen, [pair.a.text or "", pair.b.text or ""])
        right += (f[0] > f[1]) == (pair.winner == "A")
    assert m["accuracy"]["value"] == pytest.approx(right / len(pairs)) and m["accuracy"]["n"] == len(pairs)


def test_texts_are_read_with_a_language_model(
    texts_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    import torch
    from tiny_models import tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    words, version = tokenizer(), "v"

    def load(device: str = "cpu", short: bool = False) -> Language:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.3, pad_token_id=words.pad_token_id, bos_token_id=None,
        )  # fmt: skip
        return cut(LlamaForCausalLM(config), words, 1, version)

    monkeypatch.setattr(backbones, "load_language", load)
    monkeypatch.setattr(fit, "TEXT_MIXES", ())
    work, out = tmp_path / "w", tmp_path / "out.json"
    assert main(["creative", "train", str(texts_shop), "--work", str(work), "--language", "smol"]) == 0
    chooser = load_chooser(work)
    assert chooser.language == "v" and "language" in chooser.fast.weights
    assert main(["creative", "evaluate", str(texts_shop), "--model", str(work), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["metrics"]["accuracy"]["value"] > 0.7
    assert main(["creative", "select", "--model", str(work), *SMALL]) == 0
    version = "w"
    capsys.readouterr()
    assert main(["creative", "select", "--model", str(work), *SMALL]) == 1
    assert "language model v, this version has w" in capsys.readouterr().err


def test_pairs_are_kept_and_never_of_test(work: Path, texts_shop: Path) -> None:
    pairs = load_pairs(work / "creative" / "pairs")
    assert set(pairs.frame["split"].unique()) == {"train", "val"} and len(pairs) > 50


def test_done_already(work: Path, texts_shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (work / "creative" / "manifest.json").read_bytes()
    assert main(["creative", "train", str(texts_shop), "--work", str(work)]) == 0
    assert (work / "creative" / "manifest.json").read_bytes() == before
    assert main(["creative", "train", str(texts_shop), "--work", str(work), "--set", "rules.z=2.5"]) == 0
    assert (work / "creative" / "manifest.json").read_bytes() != before
    assert main(["creative", "train", str(texts_shop), "--work", str(work)]) == 0


def test_select_says_why_and_draws(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, out = tmp_path / "sheet.html", tmp_path / "s.json"
    command = ["creative", "select", "--model", str(work), "--query", "dogs", "--other-query", "trains"]
    assert main([*command, "--sheet", str(sheet), "--json", str(out), *SMALL, "A <b>dog</b> & a cat"]) == 0
    told, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert told["verdict"] == SMALL[1] and printed.startswith(SMALL[1])
    assert abs(sum(c["probability_best"] for c in told["creatives"]) - 1) < 1e-9
    assert told["other"]["queries"] == ["trains"]
    page = sheet.read_text(encoding="utf-8")
    assert (
        "&lt;b&gt;dog&lt;/b&gt; &amp; a cat" in page
        and "<script" not in page
        and "http:" not in page
        and "https:" not in page
    )
    # every sentence is true of the pair
    encoder, texts = load_encoder("compact"), [*SMALL, "A <b>dog</b> & a cat"]
    seen = see(encoder, [Brief(t, None, "", ("dogs",)) for t in texts])
    checked = 0
    for compared in told["compared"]:
        a, b = seen.measures[1], seen.measures[texts.index(compared["with"])]
        for reason in compared["reasons"].values():
            fact = read_fact(reason)
            assert fact is not None and holds(fact, a, b)
            checked += 1
    assert checked >= 2


def test_a_sample_of_the_pairs_is_said(
    work: Path, texts_shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["creative", "evaluate", str(texts_shop), "--model", str(work), "--limit", "9"]) == 0
    assert "; 9 of them drawn by lot" in capsys.readouterr().out


def test_a_long_text_is_no_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["creative", "select", "--model", str(work), "The dog story", "long " * 200 + ".jpg"]) == 0
    assert "why A" in capsys.readouterr().out


def test_too_close_is_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twins = ["The dog story: things to know at home", "The dog story: things to know at work"]
    assert main(["creative", "select", "--model", str(work), "--close", "0.99", *twins]) == 0
    assert capsys.readouterr().out.startswith("too close to call")


def test_pictures(shop_with: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Busy grounds cost clicks in this shop; a selector learns it and draws a sheet with the pictures inside."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "creative_id": f"{p}-{name}", "product_id": str(p), "image_id": name, "impressions": 5000,
            "clicks": int(rng.binomial(5000, 0.04 if name.startswith("p") else 0.02)),
            "split": ("train", "train", "train", "val", "test")[p % 5],
        }
        for p in range(12)
        for name in (f"p{p}", f"q{p}-0", f"q{p}-1")
    ]  # fmt: skip
    raw, work, out = shop_with(creatives=pl.DataFrame(rows)), tmp_path / "work", tmp_path / "out.json"
    assert main(["creative", "train", str(raw), "--work", str(work)]) == 0
    assert main(["creative", "evaluate", str(raw), "--model", str(work), "--json", str(out)]) == 0
    told = json.loads(out.read_text())
    assert told["protocol"]["kind"] == "image" and told["metrics"]["accuracy"]["value"] == 1.0
    shop = open_shop(raw)
    for name in ("p2", "q2-0"):
        shop.images.decode(name).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / "q2-0.png"), str(tmp_path / "p2.png")]
    sheet = tmp_path / "sheet.html"
    command = ["creative", "select", "--model", str(work), "--title", "red circle", "--sheet", str(sheet)]
    capsys.readouterr()
    assert main([*command, *files]) == 0
    assert capsys.readouterr().out.startswith(files[1])
    assert sheet.read_text().count("data:image/jpeg;base64,") == 2


def test_shown_pictures_without_bytes_tell_pairs_of_words(tmp_path: Path) -> None:
    """Headlines beside one picture are compared, beside different ones not, though no picture has bytes."""
    log = (
        make_log(60, per_test=4)
        .drop("number")
        .with_columns(
            image_id=pl.col("creative_id")
            .str.replace(r"^c(\d+)-(\d)$", "x$1-$2")
            .str.replace(r"-[01]$", "-a")
        )
    )
    folder = tmp_path / "shop"
    folder.mkdir()
    log.write_parquet(folder / "creatives.parquet")
    shop = open_shop(folder, require_products=False)
    assert shop.creatives is not None and shop.creatives["image_id"].null_count() == len(log)
    encoder = load_encoder("compact")
    material = gather(shop, encoder, splits=("test",))
    assert material.kind == "text"
    pairs = choosing.split_pairs(material, choosing.load_chooser(_trained(tmp_path)), "test", 0)
    assert len(pairs) and all(
        p.a.creative_id[-2:] in ("-0", "-1") and p.b.creative_id[-2:] in ("-0", "-1") for p in pairs
    )


def test_a_picture_without_words_in_a_test_of_texts(
    shop_with: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_log(60).drop("number")
    log = log.with_columns(image_id=pl.when(pl.col("split") == "test").then(pl.lit("p0")))
    odd = log.filter((pl.col("split") == "test") & pl.col("creative_id").str.ends_with("-0")).with_columns(
        creative_id=pl.col("creative_id") + "x", text=pl.lit(None, pl.String), clicks=pl.lit(9, pl.Int64)
    )
    folder = shop_with(creatives=pl.concat([log, odd.select(log.columns)]))
    assert main(["creative", "train", str(folder), "--work", str(tmp_path / "w")]) == 0
    assert main(["creative", "evaluate", str(folder), "--model", str(tmp_path / "w")]) == 0
    assert "fast selector" in capsys.readouterr().out
    found = gather(open_shop(folder), load_encoder("compact"))
    assert found.kind == "text" and found.logged.left == {"without words among texts": len(odd)}


def _trained(place: Path) -> Path:
    folder = place / "log"
    folder.mkdir()
    make_log(60).drop("number").write_parquet(folder / "creatives.parquet")
    assert main(["creative", "train", str(folder), "--work", str(place / "w")]) == 0
    return place / "w"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["creative", "select", "--model", "{work}", "one"], "one creative is no choice"),
        (["creative", "select", "--model", "{work}", "one", "one"], "given twice"),
        (["creative", "select", "--model", "{work}", "one", " "], "an empty text"),
        (["creative", "select", "--model", "{work}", "one", "{picture}"], "trained on texts"),
        (["creative", "select", "--model", "{none}", "one", "two"], "there is no selector of creatives"),
        (["creative", "select", "--model", "{work}", "--close", "0.2", "one", "two"], "--close"),
        (["creative", "train", "{empty}", "--work", "{none}"], "no creatives"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "rules.z=-1"], "rules.z"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "rules.z=900"], "none of"),
        (["creative", "evaluate", "{shop}", "--model", "{work}", "--encoder", "{none}"], "no encoder"),
        (["creative", "train", "{shop}", "--work", "{none}", "--backbone", "big"], "no backbone"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "grpo.group=2"], "grpo.group"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "sft.rate=0"], "sft.rate"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "sft.what=0"], "unknown setting"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "sft.epochs=0"], "sft.epochs"),
        (
            ["creative", "train", "{shop}", "--work", "{none}", "--set", "grpo.temperature=0"],
            "grpo.temperature",
        ),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "grpo.weights.wright=1"], "has right"),
        (["creative", "train", "{shop}", "--work", "{none}", "--set", "rules.alone=image"], "rules.alone"),
        (["creative", "train", "{shop}", "--work", "{none}", "--budget", "9"], "--teacher"),
        (["creative", "evaluate", "{shop}", "--model", "{work}", "--limit", "-1"], "--limit"),
        (["creative", "evaluate", "{shop}", "--model", "{work}", "--zero-shot"], "no reasoner is asked"),
        (["creative", "select", "--model", "{work}", "Look, one!", "look one"], "given twice"),
        (["creative", "select", "--model", "{work}", "one", "two \udcff"], "UTF-8"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], said: str, work: Path, texts_shop: Path, shop_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(picture)
    places = {
        "work": work, "picture": picture, "none": tmp_path / "none", "empty": shop_folder, "shop": texts_shop
    }  # fmt: skip
    assert main([a.format(**places) for a in arguments]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("moonshelf: ")


def test_a_damaged_selector_is_refused(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    for name in ("chooser.json", "fast/selector.json", "fast/selector.safetensors"):
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(work / "creative", copy)
        (copy / name).write_bytes(b"{")
        assert main(["creative", "select", "--model", str(copy), "one", "two"]) == 1
        assert "cannot be read" in capsys.readouterr().err
