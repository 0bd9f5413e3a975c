"""Every sentence of the teacher is true of its pair: parsed back with a grammar of the test's own, and checked."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshelf.creative.facts import ASPECTS, INDEX, PHRASES, fact, holds, read_fact, write_fact
from moonshelf.creative.fast import FastSelector
from moonshelf.creative.measures import NAMES
from moonshelf.creative.protocol import COMPARED, Better, read_verdict
from moonshelf.creative.teacher import Teacher, Trace, main_of, teach, teacher_of, truthful
from moonshelf.errors import InputError

SENTENCE = re.compile(r"(A|B) (.+): (yes|no|-?[\d.]+)(%?)[^:]* against (yes|no|-?[\d.]+)(%?)[^:]*")
LESS = {p.less: name for name, p in PHRASES.items()}
MORE = {p.more: name for name, p in PHRASES.items()}


@st.composite
def measured(draw: st.DrawFn) -> np.ndarray:
    """Measures of one creative, with and without words, picture and a clean cut."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    values = np.where(
        [n.startswith("text.") and n not in ("text.word_length", "text.ease") for n in NAMES],
        rng.integers(0, 4, len(NAMES)), rng.random(len(NAMES)) * draw(st.sampled_from([1.0, 0.02])),
    ).astype(np.float64)  # fmt: skip
    for name in ("text.there", "image.there", "image.cut"):
        values[INDEX[name]] = draw(st.integers(0, 1))
    return values


def check(sentence: str, a: np.ndarray, b: np.ndarray) -> None:
    """The sentence says what is so, and nothing that is not there."""
    found = SENTENCE.fullmatch(sentence)
    assert found is not None, sentence
    side, words = found[1], found[2]
    name = MORE.get(words) or LESS[words]
    own, other = (a, b) if side == "A" else (b, a)
    x, y = own[INDEX[name]], other[INDEX[name]]
    assert (x > y) if words in MORE else (x < y)
    for said, per_cent, true in ((found[3], found[4], x), (found[5], found[6], y)):
        if said in ("yes", "no"):
            assert (true > 0) == (said == "yes")
        else:
            digits = len(said.partition(".")[2])
            assert float(said) == pytest.approx(true * (100 if per_cent else 1), abs=0.51 * 10**-digits)
    needs = PHRASES[name].needs
    assert not needs or (a[INDEX[needs]] > 0 and b[INDEX[needs]] > 0)


@given(measured(), measured(), st.integers(0, 100), st.sampled_from(["A", "B"]))
@settings(max_examples=150, deadline=None)
def test_every_sentence_is_true(a: np.ndarray, b: np.ndarray, seed: int, winner: str) -> None:
    teacher = Teacher(np.random.default_rng(seed).normal(0, 0.3, len(NAMES)))
    trace = teacher.write(a, b, winner, contradicting=True)  # type: ignore[arg-type]
    if not isinstance(trace, Trace):
        assert trace.why == "nothing that is measured differs"
        return
    verdict = read_verdict(trace.text)
    assert verdict.choice == winner
    for key, sentence in verdict.reasons.items():
        check(sentence, a, b)
        name = trace.facts[key].measure
        speaks = teacher.weights[INDEX[name]] * (a - b)[INDEX[name]]
        assert PHRASES[name].question == key and (verdict.answers[key] is Better.A) == (speaks > 0)
    assert all((verdict.answers[k] is Better.EQUAL) == (k not in verdict.reasons) for k in COMPARED)
    true, false, unread = truthful(verdict, a, b)
    assert (true, false, unread) == (len(verdict.reasons), 0, 0)


@given(measured(), measured())
@settings(max_examples=100, deadline=None)
def test_facts_read_back_and_lies_are_noticed(a: np.ndarray, b: np.ndarray) -> None:
    for name in PHRASES:
        told = fact(name, "B", a, b)
        if told is None:
            continue
        sentence = write_fact(told)
        assert read_fact(sentence) == told and holds(told, a, b)
        lie = sentence.replace("B ", "A ", 1)
        back = read_fact(lie)
        assert back is not None and not holds(back, a, b)


def test_phrases_are_told_apart_and_belong_to_questions() -> None:
    assert len(MORE) == len(LESS) == len(PHRASES) and not set(MORE) & set(LESS)
    assert {p.question for p in PHRASES.values()} <= set(COMPARED)
    assert read_fact("A is nicer: 3 against 2") is None and read_fact("whatever") is None


def test_contradicting_traces_are_rejected_and_counted() -> None:
    weights = np.zeros(len(NAMES))
    weights[INDEX["text.numbers"]] = 0.5
    a, b = np.zeros((2, 3, len(NAMES)))
    a[:, INDEX["text.there"]] = b[:, INDEX["text.there"]] = 1
    a[0, INDEX["text.numbers"]] = a[1, INDEX["text.numbers"]] = 2
    traces, why = teach(Teacher(weights), a, b, ["A", "B", "A"])
    assert [t is not None for t in traces] == [True, False, False]
    assert why == {
        "kept": 1,
        "the measures speak for the other one": 1,
        "nothing that is measured differs": 1,
    }
    assert traces[0] is not None and traces[0].main == "text.numbers"
    assert traces[0].evidence == pytest.approx(1.0)
    assert "8. subject: A - A gives more numbers: 2 against 0" in traces[0].text
    assert "4. title: equal\n" in traces[0].text


def test_a_teacher_comes_from_measures_alone() -> None:
    weights = np.ones(len(NAMES))
    assert np.array_equal(teacher_of(FastSelector({"measures": weights})).weights, weights)
    with pytest.raises(InputError, match="measures alone"):
        teacher_of(FastSelector({"measures": weights, "sentence": np.zeros(512)}))
    with pytest.raises(ValueError, match="shape"):
        Teacher(np.ones(3))


def test_the_main_reason_is_of_the_aspect_that_speaks_loudest() -> None:
    evidence = np.zeros(len(NAMES))
    evidence[INDEX["image.found_size"]] = 0.3
    for name in ("clutter", "repeat", "divided"):
        evidence[INDEX[f"image.ground_{name}"]] = 0.12
    evidence[INDEX["image.ground_repeat"]] = 0.15
    assert main_of(evidence) == "image.ground_repeat"
    evidence[INDEX["image.ground_clutter"]] = -0.2  # one speaks for the other creative
    assert main_of(evidence) == "image.found_size"


def test_every_phrase_has_one_aspect() -> None:
    named = [name for names in ASPECTS.values() for name in names]
    assert sorted(named) == sorted(PHRASES)
