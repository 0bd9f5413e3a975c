"""Sentences about two creatives that can be checked: one measure, which side has more of it, both values.

    "B gives more numbers: 2 against 0"

``write_fact`` writes one, ``read_fact`` reads it back, ``holds`` says whether it is true of a pair: so the reasons of
any model that speaks this way can be counted as true or false.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from moonshelf.creative.measures import NAMES

Side = Literal["A", "B"]


@dataclass(frozen=True, slots=True)
class Phrase:
    """How a measure is spoken of: the protocol's question, what is said of more and of less, and its number.

    Attributes:
        unit: behind a number; ``%`` shows a share as per cent, ``yes/no`` a flag.
        digits: behind the point.
        needs: a measure that must be above 0 on both sides for this one to mean anything.
    """

    question: str
    more: str
    less: str
    unit: str = ""
    digits: int = 0
    needs: str = ""


def _text(question: str, more: str, less: str, unit: str = "", digits: int = 0) -> Phrase:
    return Phrase(question, more, less, unit, digits, "text.there")


def _image(
    question: str, more: str, less: str, unit: str = "", digits: int = 2, needs: str = "image.there"
) -> Phrase:
    return Phrase(question, more, less, unit, digits, needs)


PHRASES: dict[str, Phrase] = {
    "text.there": Phrase("copy", "carries words", "carries no words", "yes/no"),
    "text.words": _text("layout", "is longer", "is shorter", "words"),
    "text.word_length": _text("layout", "uses longer words", "uses shorter words", "letters a word", 1),
    "text.sentences": _text("layout", "has more sentences", "has fewer sentences"),
    "text.commas": _text("layout", "has more pauses", "has fewer pauses"),
    "text.ease": _text("layout", "reads more easily", "reads less easily", "points"),
    "text.numbers": _text("subject", "gives more numbers", "gives fewer numbers"),
    "text.names": _text("subject", "gives more names", "gives fewer names"),
    "text.question": _text("copy", "asks more", "asks less", "question marks"),
    "text.ellipsis": _text("copy", "trails off more", "trails off less", "ellipses"),
    "text.curiosity": _text("copy", "uses more curiosity words", "uses fewer curiosity words"),
    "text.pointing": _text("copy", "uses more pointing words", "uses fewer pointing words"),
    "text.selling": _text("copy", "uses more selling words", "uses fewer selling words"),
    "text.second": _text("people", "addresses the reader more", "addresses the reader less", "words"),
    "text.first": _text("people", "speaks more of I and we", "speaks less of I and we", "words"),
    "text.third": _text("people", "speaks more of he, she and they", "speaks less of he, she and they", "words"),
    "text.quotes": _text("people", "quotes more", "quotes less", "marks"),
    "text.shouted": _text("background", "shouts more", "shouts less", "words in capitals"),
    "text.exclamation": _text("background", "exclaims more", "exclaims less", "marks"),
    "text.emotion": _text("background", "uses more words of feeling", "uses fewer words of feeling"),
    "text.negative": _text("background", "uses more negative words", "uses fewer negative words"),
    "text.superlative": _text("background", "uses more superlatives", "uses fewer superlatives"),
    "image.area": _image("subject", "shows its subject larger", "shows its subject smaller", "%", 0, "image.cut"),
    "image.off_centre": _image(
        "subject", "puts its subject farther out", "puts its subject nearer the middle", "widths", 2, "image.cut"
    ),
    "image.apart": _image("subject", "sets its subject off more", "sets its subject off less", "", 2, "image.cut"),
    "image.core_area": _image("subject", "has a larger core region", "has a smaller core region", "%", 0),
    "image.core_off": _image(
        "subject", "has its core region farther out", "has its core region nearer the middle", "widths"
    ),
    "image.found_size": _image(
        "subject", "shows the product larger", "shows the product smaller", "%", 0, "image.found"
    ),
    "image.found_off": _image(
        "subject", "puts the product farther to the side", "puts the product less to the side", "widths", 2,
        "image.found",
    ),
    "image.found_low": _image(
        "subject", "puts the product lower", "puts the product higher", "heights below the middle", 2, "image.found"
    ),
    "image.clutter": _image("layout", "has more edges", "has fewer edges", "%", 0),
    "image.sharpness": _image("layout", "is sharper", "is softer", "", 3),
    "image.ground_clutter": _image("background", "has a busier ground", "has a calmer ground", "%", 0),
    "image.ground_breaks": _image(
        "layout", "has more that breaks its ground", "has less that breaks its ground", "widths", 2
    ),
    "image.ground_colours": _image(
        "background", "has a ground of more colours", "has a ground of fewer colours", "", 1
    ),
    "image.ground_repeat": _image("background", "has a more repetitive ground", "has a less repetitive ground"),
    "image.ground_divided": _image(
        "background", "has a ground more clearly divided into above and below",
        "has a ground less clearly divided into above and below",
    ),
    "image.ground_spread": _image("background", "has a more varied ground", "has a more even ground"),
    "image.lettering": _image("copy", "carries more lettering", "carries less lettering", "%", 0),
    "image.lettering_contrast": _image(
        "copy", "has lettering that stands out more", "has lettering that stands out less", "", 2, "image.lettering"
    ),
    "image.sticker": _image("copy", "has a larger sticker", "has a smaller sticker", "%", 0),
    "image.brightness": _image("background", "is brighter", "is darker"),
    "image.contrast": _image("background", "has more contrast", "has less contrast"),
    "image.colourful": _image("background", "is more colourful", "is less colourful"),
    "image.harmony": _image("background", "is more in harmony", "is less in harmony", "%", 0),
    "match.text_title": _text(
        "title", "has words closer to the title", "has words farther from the title", "cosine", 2
    ),
    "match.text_queries": _text(
        "queries", "has words closer to the searches", "has words farther from the searches", "cosine", 2
    ),
    "match.text_among": _text(
        "queries", "has words that suit the searches more among all in the log",
        "has words that suit the searches less among all in the log", "%", 0,
    ),
    "match.image_title": _image(
        "title", "has a picture closer to the title", "has a picture farther from the title", "cosine"
    ),
    "match.image_queries": _image(
        "queries", "has a picture closer to the searches", "has a picture farther from the searches", "cosine"
    ),
}  # fmt: skip
"""Every measure that is spoken of; the others (``characters``, flags) weigh in silence."""
ASPECTS: dict[str, tuple[str, ...]] = {
    "size": ("image.found_size", "image.area", "image.core_area"),
    "place": ("image.found_off", "image.found_low", "image.off_centre", "image.core_off"),
    "ground": (
        *(f"image.ground_{n}" for n in ("clutter", "colours", "repeat", "divided", "spread")), "image.apart",
        "image.brightness", "image.contrast", "image.colourful", "image.harmony", "image.sharpness",
    ),
    "clutter": ("image.ground_breaks", "image.clutter"),
    "legibility": ("image.lettering_contrast",),
    "sticker": ("image.sticker",),
    "match": tuple(name for name in PHRASES if name.startswith("match.")),
    "words": ("image.lettering", *(name for name in PHRASES if name.startswith("text."))),
}  # fmt: skip
"""What a creative can be better in: several measures tell of one thing, and none of them must tell it alone."""
INDEX = {name: i for i, name in enumerate(NAMES)}
_SAID: dict[str, tuple[str, bool]] = {
    words: (name, more) for name, p in PHRASES.items() for words, more in ((p.more, True), (p.less, False))
}
_SENTENCE = re.compile(r"([AB]) ([^:]+): (\S.*?) against (\S.*?)\.?")


@dataclass(frozen=True, slots=True)
class Fact:
    """``side`` has more (or less) of ``measure``: ``own`` against ``other``, both as they are said."""

    measure: str
    side: Side
    more: bool
    own: str
    other: str


def said(name: str, value: float) -> str:
    """A value as it stands in a sentence."""
    phrase = PHRASES[name]
    if phrase.unit == "yes/no":
        return "yes" if value > 0 else "no"
    if phrase.unit == "%":
        return f"{100 * value:.{phrase.digits}f}%"
    number = f"{value:.{phrase.digits}f}"
    if float(number) == 0:
        number = number.removeprefix("-")
    return f"{number} {phrase.unit}".strip()


def fact(name: str, side: Side, a: np.ndarray, b: np.ndarray) -> Fact | None:
    """What can be said for one side by one measure, None where nothing is: equal as it would be said, or not measured.

    Args:
        a, b: the measures of the creatives, ``[len(NAMES)]`` each.
    """
    phrase = PHRASES.get(name)
    if phrase is None or (phrase.needs and min(a[INDEX[phrase.needs]], b[INDEX[phrase.needs]]) <= 0):
        return None
    own, other = (a, b) if side == "A" else (b, a)
    x, y = float(own[INDEX[name]]), float(other[INDEX[name]])
    if name.startswith("match.") and 0.0 in (x, y):  # there was nothing to be compared with
        return None
    told = Fact(name, side, x > y, said(name, x), said(name, y))
    return None if told.own == told.other else told


def write_fact(told: Fact) -> str:
    """The sentence, without a full stop."""
    phrase = PHRASES[told.measure]
    return f"{told.side} {phrase.more if told.more else phrase.less}: {told.own} against {told.other}"


def read_fact(sentence: str) -> Fact | None:
    """The fact that a sentence states, None when it is none of ours."""
    found = _SENTENCE.fullmatch(sentence.strip())
    if found is None or found[2] not in _SAID:
        return None
    name, more = _SAID[found[2]]
    return Fact(name, "A" if found[1] == "A" else "B", more, found[3], found[4])


def holds(told: Fact, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether it is true of a pair with these measures, value by value as they are said."""
    return fact(told.measure, told.side, a, b) == told
