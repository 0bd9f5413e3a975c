"""Endpoints: what is sent, what is tried again, what is kept, what is refused. Against a server process."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moonshelf.errors import InputError
from moonshelf.remote import SUSPICIOUS, BudgetSpent, Endpoint, EndpointConfig, Refused

openai = pytest.importorskip("openai")
RED = Image.new("RGB", (1200, 600), (210, 30, 30))


def facts(title: str) -> str:
    return json.dumps({"title": title})


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url) as answer:
        value: dict[str, Any] = json.loads(answer.read())
        return value


@pytest.fixture
def config(openai_like: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> EndpointConfig:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return EndpointConfig(url=openai_like(), model="tiny-writer", seconds=30.0)


def test_a_question_with_a_picture_is_answered_and_kept(config: EndpointConfig, tmp_path: Path) -> None:
    endpoint = Endpoint(config, tmp_path / "answers")
    answer = endpoint.chat("title", facts("Shirt"), [RED])
    assert json.loads(answer) == {"title": "Shirt red"}
    assert (endpoint.calls, endpoint.cached, endpoint.tokens) == (1, 0, 10)
    again = Endpoint(config, tmp_path / "answers")
    assert again.chat("title", facts("Shirt"), [RED]) == answer
    assert (again.calls, again.cached) == (0, 1) and stats(config.url)["calls"] == 1
    # anything that could change the answer is another question
    again.chat("title", facts("Shirt"), [Image.new("RGB", (64, 64), (30, 30, 200))])
    again.chat("title", facts("Shirt"))
    again.chat("other", facts("Shirt"), [RED])
    again.chat("title", facts("Shirt"), [RED], seed=1)
    assert again.calls == 4


@pytest.mark.parametrize("word", ["busy", "broken"])
def test_what_fails_once_is_tried_again(config: EndpointConfig, tmp_path: Path, word: str) -> None:
    endpoint = Endpoint(config, tmp_path)
    assert json.loads(endpoint.chat("", facts(f"{word} shirt")))["title"] == f"{word} shirt"
    assert stats(config.url)["calls"] == 2
    hasty = Endpoint(replace(config, retries=0), tmp_path / "other")
    assert json.loads(hasty.chat("", facts(f"{word} shirt")))["title"]  # busy only once


def test_what_keeps_failing_is_said_and_nothing_is_kept(config: EndpointConfig, tmp_path: Path) -> None:
    hasty = Endpoint(replace(config, retries=0), tmp_path / "answers")
    with pytest.raises(InputError, match=r"the endpoint failed with 500, 1 times .*run it again later"):
        hasty.chat("", facts("broken shirt"))
    assert not list(tmp_path.glob("answers/*/*"))


def test_one_question_can_be_refused(config: EndpointConfig, tmp_path: Path) -> None:
    endpoint = Endpoint(config, tmp_path / "answers")
    with pytest.raises(Refused, match=r"refuses it \(400\): filtered"):
        endpoint.chat("", facts("forbidden shirt"))
    assert not list(
        tmp_path.glob("answers/*/*")
    )  # as nothing was answered yet, it may be the request that is wrong
    assert endpoint.chat("", facts("shirt"))  # it was not: what was refused before is kept, too
    for title, why, paid in (("forbidden shirt", "refuses it", 0), ("silent shirt", "empty answer", 1)):
        calls = endpoint.calls
        for _ in range(2):  # the second time it is known
            with pytest.raises(Refused, match=why):
                endpoint.chat("", facts(title))
        assert endpoint.calls == calls + paid


def test_an_endpoint_that_answers_nothing_is_said_before_all_is_asked(
    config: EndpointConfig, tmp_path: Path
) -> None:
    endpoint = Endpoint(config, tmp_path / "answers")
    for i in range(SUSPICIOUS - 1):
        with pytest.raises(Refused):
            endpoint.chat("", facts(f"forbidden {i}"))
    with pytest.raises(InputError, match=r"answered none of the first 5 calls, .*filtered"):
        endpoint.chat("", facts("forbidden"))
    assert not list(tmp_path.glob("answers/*/*"))


def test_one_question_of_many_threads_is_asked_once(config: EndpointConfig, tmp_path: Path) -> None:
    endpoint = Endpoint(config, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: endpoint.edit(RED, "before a wall"), range(24)))
    assert len(set(made)) == 1 and endpoint.calls == 1 and stats(config.url)["calls"] == 1


def test_another_address_is_another_model(
    config: EndpointConfig, openai_like: Callable[..., str], tmp_path: Path
) -> None:
    one = Endpoint(config, tmp_path)
    other = Endpoint(replace(config, url=openai_like()), tmp_path)
    one.chat("", facts("shirt"))
    other.chat("", facts("shirt"))
    assert one.calls == other.calls == 1


def test_what_is_no_openai_answer_is_said(config: EndpointConfig, tmp_path: Path) -> None:
    page = Endpoint(replace(config, url=config.url.removesuffix("/v1") + "/page"), tmp_path)
    with pytest.raises(InputError, match="no answer of the OpenAI kind"):
        page.chat("", facts("shirt"))


def test_keys_go_to_nobody_who_was_not_named(
    openai_like: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody there: what goes through it fails
    url = openai_like("none")  # it wants the key that a client without one sends
    assert Endpoint(EndpointConfig(url=url, model="tiny-writer"), tmp_path).chat("", facts("shirt"))


def test_pictures_come_back_and_links_are_not_followed(config: EndpointConfig, tmp_path: Path) -> None:
    endpoint = Endpoint(config, tmp_path)
    data = endpoint.edit(RED, "Put it before a teal wall")
    assert data.startswith(b"\x89PNG")
    assert endpoint.edit(RED, "Put it before a teal wall") == data and endpoint.calls == 1
    with pytest.raises(Refused, match="no picture in its answer"):
        endpoint.edit(RED, "a close-up")


def test_the_budget_counts_what_is_paid_for(config: EndpointConfig, tmp_path: Path) -> None:
    endpoint = Endpoint(replace(config, budget=2), tmp_path)
    for title in ("a", "b", "a", "b"):
        endpoint.chat("", facts(title))
    with pytest.raises(BudgetSpent, match="2 calls were made"):
        endpoint.chat("", facts("c"))
    assert endpoint.chat("", facts("a")) and stats(config.url)["calls"] == 2


def test_keys_are_sent_and_never_shown(
    openai_like: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EndpointConfig(url=openai_like("geheim-123"), model="tiny-writer", key_variable="MY_KEY")
    monkeypatch.setenv("MY_KEY", "geheim-123")
    assert Endpoint(config, tmp_path).chat("", facts("shirt"))
    assert not [path for path in tmp_path.rglob("*.json") if "geheim" in path.read_text()]
    monkeypatch.setenv("MY_KEY", "wrong-456")
    with pytest.raises(InputError, match=r"does not let us in .*put the key into MY_KEY") as error:
        Endpoint(config, tmp_path).chat("", facts("other"))
    assert "wrong-456" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000/v1", "no address"),
        ("file:///etc", "no address"),
        ("http://[::1/v1", "no address"),
        ("https://me:pass@host/v1", "holds a password"),
        ("http://models.example/v1", "would travel readable"),
    ],
)
def test_addresses_that_cannot_be_right(
    url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-1")
    with pytest.raises(InputError, match=said) as error:
        Endpoint(EndpointConfig(url=url, model="m", key_variable="SOME_KEY"), tmp_path)
    assert "pass@" not in str(error.value)


def test_nobody_there_and_nobody_of_that_name(config: EndpointConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not know this model or path"):
        Endpoint(replace(config, model="huge"), tmp_path).chat("", facts("shirt"))
    gone = replace(config, url="http://127.0.0.1:9/v1", retries=0)
    with pytest.raises(InputError, match="does not answer"):
        Endpoint(gone, tmp_path).chat("", facts("shirt"))
