"""Titles, attributes, queries and their true grades."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.text import attributes, description, factors, query, title, true_attributes, typo
from moonshelf.shop.demo.words import CATEGORIES

ITEMS = make_items(900, 0)


def test_languages_of_titles() -> None:
    langs = [title(i, np.random.default_rng(i.index))[1] for i in ITEMS]
    share = {k: langs.count(k) / len(langs) for k in ("en", "zh", "mixed")}
    assert (
        abs(share["en"] - 0.6) < 0.07 and abs(share["zh"] - 0.25) < 0.06 and abs(share["mixed"] - 0.15) < 0.05
    )


def test_titles_are_noisy_but_never_empty() -> None:
    titles = [title(i, np.random.default_rng(i.index))[0] for i in ITEMS]
    assert all(t.strip() for t in titles)
    english = [(t, i) for t, i in zip(titles, ITEMS, strict=True) if t.isascii()]
    named = [true_attributes(i)["brand"].lower() in t.lower() for t, i in english]
    assert 0.5 < np.mean(named) < 0.9  # the brand is missing at times


def test_faults_are_what_differs_from_the_truth() -> None:
    wrong = missing = 0
    for item in ITEMS:
        written, faults = attributes(item, np.random.default_rng(item.index))
        by_name = {f.attribute: f for f in faults}
        for name, value in true_attributes(item).items():
            if name in by_name:
                assert by_name[name].true == value and by_name[name].written == written.get(name) != value
            else:
                assert written[name] == value
        wrong += sum(f.written is not None for f in faults)
        missing += sum(f.written is None for f in faults)
    assert 0.1 < missing / (5 * len(ITEMS)) < 0.18
    assert 0.015 < wrong / (5 * len(ITEMS)) < 0.05


@given(st.integers(0, len(ITEMS) - 1), st.integers(0, 10_000), st.booleans())
def test_a_query_is_fully_relevant_to_what_it_was_asked_for(index: int, seed: int, zh: bool) -> None:
    item = ITEMS[index]
    words = query(item, np.random.default_rng(seed), zh)
    assert words.text.strip()
    assert words.grade(item) == 3.0
    for other in ITEMS[:: len(CATEGORIES)]:
        grade = words.grade(other)
        assert 0 <= grade <= 3
        assert (grade == 0) == (other.category != item.category)
        if grade == 3.0:
            true = factors(other)
            assert all(true[k] == v for k, v in words.asks)


@given(st.text(alphabet="abcdef ", max_size=40), st.integers(0, 1000))
def test_a_typo_changes_one_word_at_most(text: str, seed: int) -> None:
    out = typo(text, np.random.default_rng(seed))
    a, b = text.split(" "), out.split(" ")
    assert len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) <= 1


def test_some_descriptions_are_missing() -> None:
    texts = [description(i, "en", np.random.default_rng(i.index)) for i in ITEMS[:300]]
    assert 0.08 < np.mean([t == "" for t in texts]) < 0.25
