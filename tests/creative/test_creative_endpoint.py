"""Traces by a chat model behind an endpoint: a server process that sees the pictures, errs, refuses, is paid once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moonshelf.creative.endpoint_teacher import teach_by_endpoint
from moonshelf.creative.measures import NAMES
from moonshelf.creative.pairs import CreativePair
from moonshelf.creative.protocol import read_verdict
from moonshelf.creative.samples import Sample, messages
from moonshelf.remote import BudgetSpent, Endpoint, EndpointConfig
from moonshelf.types import Creative

pytest.importorskip("openai")
RED, BLUE = (Image.new("RGB", (90, 60), c) for c in ((210, 30, 30), (30, 40, 210)))


def sample(title: str, winner: str = "A", *, pictured: bool = True) -> Sample:
    a, b = Creative("a", 10, 1, text="Sale now"), Creative("b", 10, 2, text="New today")
    pair = CreativePair(a, b, "g", "train", title, "", ("shoes",), 1.0, 1.0, "A" if winner == "A" else "B")
    kind = "image" if pictured else "text"
    zeros = np.zeros(len(NAMES))
    chat = messages(kind, pair, ["A is longer: 2 words against 1 words"], 0.6, brief=False)
    return Sample(chat, (RED, BLUE) if pictured else (), "", None, winner, 0, False, zeros, zeros)


@pytest.fixture
def config(openai_like: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> EndpointConfig:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return EndpointConfig(url=openai_like(), model="tiny-judge", seconds=30.0, retries=0)


def test_traces_are_read_strictly_and_rejects_counted(config: EndpointConfig, tmp_path: Path) -> None:
    titles = ["shoe", "hat", "contrary", "babble", "forbidden"]
    asked = [sample(t, "AB"[i % 2]) for i, t in enumerate(titles)]
    endpoint = Endpoint(config, tmp_path)
    found, why = teach_by_endpoint(endpoint, asked, at_a_time=3)
    assert why.pop("kept") == 2 and sorted(why.values()) == [1, 1, 1]
    assert any("cannot be read" in reason for reason in why) and any(
        "fewer clicked" in reason for reason in why
    )
    assert any("filtered" in reason for reason in why)
    for one, was in zip(found[:2], asked, strict=False):
        verdict = read_verdict(one.answer)
        assert verdict == one.reference and verdict.choice.value == was.winner
        assert verdict.reasons["background"] == "A is red, B is blue"  # it saw both, in their order
    assert [bool(s.answer) for s in found] == [True, True, False, False, False]
    # asked again, nothing is paid for
    again = Endpoint(config, tmp_path)
    assert teach_by_endpoint(again, asked)[0][0].answer == found[0].answer and again.calls == 0


def test_texts_alone_send_no_pictures(config: EndpointConfig, tmp_path: Path) -> None:
    found, why = teach_by_endpoint(Endpoint(config, tmp_path), [sample("shoe", "B", pictured=False)])
    assert why == {"kept": 1} and read_verdict(found[0].answer).choice.value == "B"
    found, _ = teach_by_endpoint(Endpoint(config, tmp_path), [sample("shoe", "B")], pictured=False)
    assert "background" not in read_verdict(found[0].answer).reasons


def test_a_spent_budget_stops_and_goes_on_later(config: EndpointConfig, tmp_path: Path) -> None:
    from dataclasses import replace

    asked = [sample(f"shoe {i}") for i in range(6)]
    poor = Endpoint(replace(config, budget=3), tmp_path)
    with pytest.raises(BudgetSpent, match="3 calls"):
        teach_by_endpoint(poor, asked, at_a_time=2)
    rich = Endpoint(config, tmp_path)
    found, why = teach_by_endpoint(rich, asked, at_a_time=2)
    assert why == {"kept": 6} and rich.calls == 3 and rich.cached == 3 and all(s.answer for s in found)
