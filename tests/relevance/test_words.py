"""Words and measures: what shoppers write in many ways is read as one thing."""

from __future__ import annotations

import pytest

from moonshelf.relevance.words import measure, read_text, stem


@pytest.mark.parametrize(
    "same",
    [
        ("1/2 in.", "1/2 inch", "0.5in", "½ inches", '1/2"', "1/2-inch", ".5 in"),
        ("1-1/2 in", "1 1/2 inch", "1.5in."),
        ("12 ga", "12-gauge", "12 Gauge"),
        ("2x4", "2 x 4", "2×4", "2X4"),
        ("24 x 36 in", '24"x36"', "24 in. x 36 in."),
        ("6' ladder", "6 ft. ladders", "6-foot ladder"),
        ("1,000 watt", "1000w"),
        ("500毫升", "500 ml"),
        ("4shelves", "4 shelf", "4-shelving"),
        ("women's knife", "womens knives"),
    ],
)
def test_ways_to_write_one_thing(same: tuple[str, ...]) -> None:
    assert len({read_text(text).words for text in same}) == 1, [read_text(t).words for t in same]


def test_different_measures_stay_apart() -> None:
    texts = ("1/2 in", "2 in", "1/2 ft", "12 ga", "12 in", "1-1/2 in", "12")
    assert len({read_text(text).words for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("Reciprocating Saw with Bag in Red (4-Pack)", "saw"),
        ("cover for patio chair", "cover"),
        ("red linen dress, knee length", "dres"),
        ("8 ft. PVC pipes", "pip"),
        ("红色 连衣裙", "衣裙"),
    ],
)
def test_head_is_the_thing_itself(text: str, head: str) -> None:
    read = read_text(text)
    assert stem(read.words[read.head]) == stem(head) or read.words[read.head].startswith(head)


def test_chinese_becomes_pairs_and_codes_stay_whole() -> None:
    assert read_text("红色连衣裙").words == ("红色", "色连", "连衣", "衣裙")
    assert read_text("DW745 saw").words == ("dw745", "saw")
    assert read_text("瓶").words == ("瓶",)


def test_shown_goes_with_words() -> None:
    read = read_text('Batteries, 24"x36" (2-Pack) and 红色连')
    assert len(read.words) == len(read.shown)
    assert read.shown[0] == "batteries"


@pytest.mark.parametrize("text", ["", "   ", "!!!", "with the", "()"])
def test_texts_without_words(text: str) -> None:
    assert read_text(text).words == () and read_text(text).head == -1


def test_measures_have_a_base() -> None:
    assert measure("#4ft") == (48.0, "in", "ft")
    assert measure("#12") == (12.0, "", "")
    assert measure("#2kg") == (2000.0, "g", "kg")
    assert measure("saw") is None


def test_division_by_zero_is_a_number_all_the_same() -> None:
    assert read_text("1/0 in bolt").words[-1] == "bolt"


@pytest.mark.parametrize(
    ("words", "root"),
    [
        (("shelf", "shelves", "shelving"), "shelv"),
        (("battery", "batteries"), "battery"),
        (("hinge", "hinges", "hinged"), "hing"),
        (("box", "boxes"), "box"),
        (("glass", "glasses"), "glass"),
        (("cut", "cutting"), "cut"),
        (("string",), "string"),
        (("bus",), "bus"),
    ],
)
def test_endings_go(words: tuple[str, ...], root: str) -> None:
    assert {stem(w) for w in words} == {root}
