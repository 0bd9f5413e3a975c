"""``creative train --backbone hf:...`` to its end on a tiny model, cut off and resumed, asked beside the selector."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent / "creative"))
from creative_log import make_log
from tiny_models import write_tiny_qwen

from moonshelf import reasoning
from moonshelf.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, trl and peft
SMALL = [
    "--set", "sft.steps=2", "--set", "sft.batch=2", "--set", "sft.micro=1", "--set", "sft.save_every=1",
    "--set", "grpo.steps=1", "--set", "grpo.most_tokens=6", "--set", "reason.rank=2", "--set", "reason.facts=2",
    "--set", "reason.most_tokens=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reasoning")
    (folder / "shop").mkdir()
    make_log(40).drop("number").write_parquet(folder / "shop" / "creatives.parquet")
    write_tiny_qwen(folder / "model")
    assert main(["creative", "train", str(folder / "shop"), "--work", str(folder / "work")]) == 0
    return folder


def train(place: Path, *more: str) -> int:
    where = [str(place / "shop"), "--work", str(place / "work"), "--backbone", f"hf:{place / 'model'}"]
    return main(["creative", "train", *where, *SMALL, *more])


def test_trained_cut_off_resumed_and_asked(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def cut(*args: object, **given: object) -> dict[str, object]:
        calls.append(given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(reasoning, "grpo", cut)
        assert train(place) == 130
    assert calls and not (place / "work" / "creative-reasoner").exists()
    assert train(place) == 0
    folder = place / "work" / "creative-reasoner"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["metrics"]["sft"]["steps"] == 2 and manifest["metrics"]["grpo"]["steps"] == 1
    assert {p.name for p in folder.iterdir()} == {"sft", "grpo", "sft.jsonl", "grpo.jsonl", "manifest.json"}
    assert not (place / "work" / ".reasoner.unfinished").exists()
    capsys.readouterr()
    assert train(place) == 0  # done already
    sft = (folder / "sft.jsonl").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(reasoning, "sft", cut)  # it must not be trained again for another setting of GRPO
        assert train(place, "--set", "grpo.rate=3e-5") == 0
        assert train(place, "--set", "sft.rate=1e-3") == 130
    assert (folder / "sft.jsonl").read_bytes() == sft
    assert json.loads((folder / "manifest.json").read_text())["config"]["grpo"]["rate"] == 3e-5
    assert train(place) == 0

    out = tmp_path / "out.json"
    where = [str(place / "shop"), "--model", str(place / "work"), "--json", str(out)]
    assert main(["creative", "evaluate", *where, "--limit", "2", "--zero-shot"]) == 0
    told = json.loads(out.read_text())
    assert told["system"].endswith("SFT + GRPO") and told["protocol"]["pairs"] == 2
    assert (
        any(name.endswith("zero-shot") for name in told["baselines"]) and "fast selector" in told["baselines"]
    )
    assert told["metrics"]["no_answer"]["value"] == 1.0  # six tokens are no verdict: wrong, and said
    assert all(found["answers"] == 4 and found["gigabytes"] > 0.1 for found in told["written"].values())
    capsys.readouterr()
    asked = [
        "creative",
        "select",
        "--model",
        str(place / "work"),
        "The dog story",
        "The cat story: 12 things",
    ]
    assert main(asked) == 0  # nothing can be read of six tokens: no verdict is better than one from nowhere
    assert capsys.readouterr().out.startswith("too close to call")
    assert main([*asked, "--fast"]) == 0
    assert capsys.readouterr().out.startswith("The cat story")
    assert main(["creative", "evaluate", *where, "--fast"]) == 0
    assert json.loads(out.read_text())["system"] == "fast selector"


def test_a_reasoner_of_another_selector_is_not_asked(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = place / "work" / "creative-reasoner" / "manifest.json"
    told = json.loads(manifest.read_text())
    told["inputs"]["selector"] = "0" * 16
    held = manifest.read_bytes()
    manifest.write_text(json.dumps(told))
    try:
        assert not reasoning.has_reasoner(place / "work")
    finally:
        manifest.write_bytes(held)
    assert reasoning.has_reasoner(place / "work") and reasoning.has_reasoner(place / "work" / "creative")


def test_a_teacher_behind_an_endpoint(
    place: Path, openai_like: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai")
    work = tmp_path / "work"
    where = [str(place / "shop"), "--work", str(work), "--backbone", f"hf:{place / 'model'}", *SMALL]
    asked = [
        "--teacher",
        openai_like(),
        "--teacher-model",
        "tiny-judge",
        "--answers",
        str(tmp_path / "answers"),
    ]
    assert main(["creative", "train", *where, *asked, "--set", "grpo.steps=0"]) == 0
    told = json.loads((work / "creative-reasoner" / "manifest.json").read_text())["metrics"]
    assert told["traces"] == told["questions"] == 2 * len(_train_pairs(work)) and not told["rejected"]
    assert "answers found" in capsys.readouterr().out and not (work / "creative-reasoner" / "grpo").exists()
    assert main(["creative", "train", *where, "--teacher", "http://127.0.0.1:9/v1"]) == 1
    assert "--teacher-model" in capsys.readouterr().err


def _train_pairs(work: Path) -> pl.DataFrame:
    return pl.read_parquet(work / "creative" / "pairs" / "pairs.parquet").filter(split="train")


def test_the_choice_follows_what_is_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both orders count, false reasons are not repeated, preferring a place is no verdict."""
    from moonshelf.creative.backbones import Backbone
    from moonshelf.creative.chooser import load_chooser
    from moonshelf.creative.measures import Brief
    from moonshelf.creative.protocol import Better, Choice, Verdict, YesNo, write_verdict
    from moonshelf.creative.reasoner import Answer, ReasonConfig, Reasoner
    from moonshelf.creative.samples import Sample
    from moonshelf.encoder import load_encoder

    chooser, encoder = load_chooser(place / "work"), load_encoder("compact")
    texts = ["The dog story", "The dog story in the rain on a Sunday", "Dog"]
    creatives = [Brief(t) for t in texts]
    reasoner = Reasoner(Backbone("hf:x", None, None, brief=True), None, ReasonConfig())
    keys = ("queries", "title", "copy", "people", "layout", "subject", "background")

    def told(choice: str) -> str:
        answers = {"identical": YesNo.NO, "similar": YesNo.NO, **dict.fromkeys(keys, Better.EQUAL)}
        reasons = {"layout": "A is longer: 8 words against 3 words", "copy": "A is simply lovely"}
        return write_verdict(
            Verdict(answers | {"layout": Better.A, "copy": Better.A, "choice": Choice(choice)}, reasons)
        )

    def longer_wins(_: Reasoner, samples: list[Sample], **__: object) -> list[Answer]:
        out = []
        for s in samples:
            a = s.a.sum() > s.b.sum()
            out.append(Answer(told("A" if a else "B"), 0.9 if a else 0.1, 9))
        return out

    monkeypatch.setattr(reasoning, "ask", longer_wins)
    found = reasoning.choose_by_words(place, chooser, encoder, creatives, texts, reasoner=reasoner)
    assert found.standing.verdict == found.best and found.standing.flips == 0
    for compared in found.compared:
        assert "copy" not in compared.reasons and compared.answers["copy"] is Better.A
        lengths = len(texts[found.best].split()), len(texts[compared.other].split())
        assert ("layout" in compared.reasons) == (lengths == (8, 3))

    def first_wins(_: Reasoner, samples: list[Sample], **__: object) -> list[Answer]:
        return [Answer(told("A"), 0.9, 9) for _ in samples]

    monkeypatch.setattr(reasoning, "ask", first_wins)
    found = reasoning.choose_by_words(place, chooser, encoder, creatives, texts, reasoner=reasoner)
    assert found.standing.flips == 1 and found.standing.verdict is None

    def second_wins(_: Reasoner, samples: list[Sample], **__: object) -> list[Answer]:
        return [Answer(told("B"), 0.2 if s.a.sum() > s.b.sum() else 0.4, 9) for s in samples]

    monkeypatch.setattr(reasoning, "ask", second_wins)
    found = reasoning.choose_by_words(place, chooser, encoder, creatives, texts, reasoner=reasoner)
    for compared in found.compared:  # as it was said of (other, best): B won, and A is the longer one
        assert compared.agrees and compared.answers["layout"] is Better.B

    monkeypatch.setattr(reasoning, "ask", lambda _, samples, **__: [Answer("well", 0.9, 1) for _ in samples])
    found = reasoning.choose_by_words(place, chooser, encoder, creatives, texts, reasoner=reasoner)
    assert "cannot be read" in str(found)
