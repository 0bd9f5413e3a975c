"""Rewards by hand, and that no reward pays for what it should not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.creative import rewards
from moonshelf.creative.facts import INDEX, fact, write_fact
from moonshelf.creative.measures import NAMES
from moonshelf.creative.protocol import Better, Choice, Verdict, YesNo, write_verdict

COMPARED = ("queries", "title", "copy", "people", "layout", "subject", "background")


def verdict(choice: str, reasons: dict[str, str] | None = None, **answers: str) -> Verdict:
    told = {"identical": YesNo.NO, "similar": YesNo.NO, **dict.fromkeys(COMPARED, Better.EQUAL)}
    told |= {key: Better(value) for key, value in answers.items()}
    return Verdict(told | {"choice": Choice(choice)}, reasons or {})


def measures(**values: float) -> np.ndarray:
    out = np.zeros(len(NAMES))
    for name, value in values.items():
        out[INDEX[name.replace("_", ".", 1)]] = value
    return out


def test_right_and_format() -> None:
    whole = write_verdict(verdict("A"))
    assert (rewards.right(whole, "A"), rewards.right(whole, "B")) == (1.0, 0.0)
    loose = "<think>because</think><answer>B</answer>"
    assert (rewards.right(loose, "B"), rewards.well_formed(loose), rewards.well_formed(whole)) == (
        1.0,
        0.25,
        1.0,
    )
    for junk in ("", "A", "<answer>A</answer>", whole + whole, whole.replace("</think>", "")):
        assert rewards.right(junk, "A") == 0.0 and rewards.well_formed(junk) == 0.0
    turned = whole.replace("<answer>A", "<answer>B")  # reasons for one, chooses the other
    assert rewards.well_formed(turned) == 0.25


def test_protocol_agreement() -> None:
    reference = verdict("A", layout="A", copy="B")
    assert rewards.protocol_agreement(write_verdict(verdict("B", layout="A", copy="B")), reference) == 1.0
    assert rewards.protocol_agreement(write_verdict(verdict("A", layout="B")), reference) == pytest.approx(
        5 / 7
    )
    assert rewards.protocol_agreement("nothing", reference) == 0.0
    assert rewards.protocol_agreement(write_verdict(verdict("A")), None) == 0.0


def test_truth_pays_for_true_sentences_alone() -> None:
    a, b = measures(text_there=1, text_words=15, text_numbers=1), measures(text_there=1, text_words=4)
    true = fact("text.words", "A", a, b)
    assert true is not None
    sentence = write_fact(true)
    good = write_verdict(verdict("A", {"layout": sentence}, layout="A"))
    assert rewards.truth(good, a, b) == 1.0 and rewards.truth(good, b, a) == 0.0
    both = verdict("A", {"layout": sentence, "copy": "it is simply lovely"}, layout="A", copy="A")
    assert rewards.truth(write_verdict(both), a, b) == 0.5
    assert rewards.truth(write_verdict(verdict("A")), a, b) == 0.0  # saying nothing is not being right


def test_brevity() -> None:
    assert [rewards.brevity(n, 100) for n in (0, 100, 150, 300)] == [0.0, 0.0, -0.5, -2.0]


def test_consistency_by_hand() -> None:
    a, b = write_verdict(verdict("A")), write_verdict(verdict("B"))
    # asked (x, y): A is x; asked (y, x): B is x
    texts, pair, swapped = [a, a, b, b, a, "?"], [0, 0, 0, 0, 1, 1], [False, False, True, True, False, True]
    assert rewards.consistency(texts, pair, swapped) == [1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    # a model that always says A contradicts itself
    assert rewards.consistency([a, a], [0, 0], [False, True]) == [0.0, 0.0]
    assert rewards.consistency([a, b, a], [0, 0, 0], [False, False, True]) == [0.0, 1.0, 0.5]


@given(
    st.lists(st.tuples(st.sampled_from(["A", "B", "?"]), st.integers(0, 2), st.booleans()), max_size=12),
    st.randoms(use_true_random=False),
)
def test_consistency_does_not_hang_on_the_order_of_a_batch(
    rows: list[tuple[str, int, bool]], r: object
) -> None:
    texts = [write_verdict(verdict(c)) if c != "?" else c for c, _, _ in rows]
    found = rewards.consistency(texts, [p for _, p, _ in rows], [s for _, _, s in rows])
    assert all(0 <= f <= 1 for f in found)
    order = list(range(len(rows)))
    r.shuffle(order)  # type: ignore[attr-defined]
    again = rewards.consistency(
        [texts[i] for i in order], [rows[i][1] for i in order], [rows[i][2] for i in order]
    )
    assert again == [found[i] for i in order]
