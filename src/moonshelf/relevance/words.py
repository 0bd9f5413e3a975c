"""Reading a text as words and measures, the same for queries and titles.

``"1-1/2 in. x 8 ft. PVC Pipes"`` becomes ``#1.5in #8ft pvc pip``. A measure is one word that starts with ``#``; Chinese
and Japanese become pairs of characters; English words lose their endings (our design, after Harman's S-stemmer, JASIS
1991). Other languages go through unharmed unless they end like English ones, then the same on both sides.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_UNITS = {
    "in": "in inch inches",
    "ft": "ft feet foot",
    "yd": "yd yard yards",
    "mm": "mm millimeter millimeters millimetre millimetres 毫米",
    "cm": "cm centimeter centimeters centimetre centimetres 厘米",
    "m": "m meter meters metre metres",
    "ga": "ga gauge gage",
    "gal": "gal gallon gallons",
    "qt": "qt quart quarts",
    "pt": "pint pints",
    "oz": "oz ounce ounces",
    "lb": "lb lbs pound pounds",
    "g": "gram grams 克",
    "kg": "kg kilogram kilograms kgs 公斤",
    "ml": "ml milliliter milliliters 毫升",
    "l": "l liter liters litre litres 升",
    "w": "w watt watts",
    "v": "v volt volts",
    "a": "amp amps ampere",
    "hp": "hp horsepower",
    "btu": "btu btus",
    "psi": "psi",
    "deg": "degree degrees deg",
    "pk": "pk pack packs count ct pc pcs piece pieces",
}
_UNIT = {word: unit for unit, words in _UNITS.items() for word in words.split()}
BASE = {"ft": ("in", 12.0), "yd": ("in", 36.0), "cm": ("mm", 10.0), "m": ("mm", 1000.0), "kg": ("g", 1000.0)}
BASE |= {"lb": ("oz", 16.0), "gal": ("qt", 4.0), "l": ("ml", 1000.0)}
"""Units that are multiples of another: 4 ft = 48 in."""

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+[ -]\d+/\d+|\d+/\d+|\d*\.\d+|\d+"
_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(
    rf"(?P<square>(?:sq|cu)\b\.?[ -]*(?:ft|in|yd|feet|foot|inch)\w*\.?)"
    rf"|(?P<number>{_NUMBER})(?:[ -]*(?P<unit>{'|'.join(sorted(_UNIT, key=len, reverse=True))})(?![^\W_{_CJK}])\.?)?"
    rf"|(?P<cjk>[{_CJK}]+)|(?P<word>[^\W\d_{_CJK}][^\W_{_CJK}]*)|(?P<mark>[,(;|]| - )"
)
_STOP = {"a", "an", "and", "at", "by", "from", "in", "of", "on", "or", "s", "the", "to", "with", "for", "w"}
_TURNS = {"with", "for", "in", "from", "w", "of"}  # before them stands the thing, after them what it is like


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it was read.

    Attributes:
        words: stems and measures in their order.
        shown: the same as they were written, for reasons.
        head: place in ``words`` of the last word of the first part, the thing itself: "cover" in "cover for a chair",
            "saw" in "Reciprocating Saw with Bag"; -1 in a text without words.
    """

    words: tuple[str, ...]
    shown: tuple[str, ...]
    head: int


def read_text(text: str) -> Text:
    """Split a text; an empty one gives no words. Cost: about 20 microseconds a title."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2044", "/").replace("×", " x ")
    plain = re.sub(r"(?<=\d)\s*(?:''|\"|\u201d|\u2033)", " in ", plain)
    plain = re.sub(r"(?<=\d)\s*(?:'|\u2032)(?![a-z])", " ft ", plain)
    plain = re.sub(r"['\u2019]", "", plain)
    plain = re.sub(
        r"(?<=[\d.])\s*x\s*(?=[\d.])|(?<=[a-z]\.)\s*x\s*(?=\d)|(?:(?<=\bin)|(?<=\bft))\s*x\s*(?=\d)",
        " \u00d7 ",
        plain,
    )
    words: list[str] = []
    shown: list[str] = []
    head = -1
    bare: list[int] = []  # numbers of a chain 24 x 36 that wait for its unit
    turned = False
    last_end = 0
    for found in _TOKEN.finditer(plain):
        kind = found.lastgroup if found.lastgroup != "unit" else "number"
        value = found[0]
        chained = "\u00d7" in plain[last_end : found.start()]
        last_end = found.end()
        if kind == "mark":
            turned = turned or bool(words)
        elif kind == "number":
            number, unit = _number(found["number"]), _UNIT.get(found["unit"] or "", "")
            bare = bare if chained else []
            if unit:
                for at in bare:
                    words[at] += unit
                bare = []
            else:
                bare.append(len(words))
            words.append(f"#{number:.15g}{unit}")  # model numbers and GTINs have up to 14 digits
            shown.append(value.strip(" .-"))
        elif kind == "cjk":
            pairs = [value[i : i + 2] for i in range(max(1, len(value) - 1))]
            words += pairs
            shown += pairs
            head = head if turned else len(words) - 1
        elif kind == "square":
            words.append(re.sub(r"[^a-z]", "", value)[:2] + "ft" if "f" in value else "sqin")
            shown.append(value)
        elif value in _STOP:
            turned = turned or (value in _TURNS and bool(words))
        elif len(value) > 1 or not value.isascii():
            words.append(stem(value))
            shown.append(value)
            head = head if turned else len(words) - 1
    return Text(tuple(words), tuple(shown), head if head >= 0 else len(words) - 1)


def _number(text: str) -> float:
    whole, fraction = 0.0, text.replace(",", "")
    if "/" in fraction:
        *before, fraction = re.split(r"[ -]", fraction)
        whole = float(before[0]) if before else 0.0
        top, bottom = fraction.split("/")
        return whole + (float(top) / float(bottom) if float(bottom) else 0.0)
    return float(fraction)


def measure(word: str) -> tuple[float, str, str] | None:
    """``"#4ft"`` -> ``(48.0, "in", "ft")``: value in the base unit, base unit, unit; None for a word."""
    if not word.startswith("#"):
        return None
    found = re.match(r"#([\d.e+-]*\d)(\D*)$", word)
    if found is None:
        return None
    unit = found[2]
    base, factor = BASE.get(unit, (unit, 1.0))
    return float(found[1]) * factor, base, unit


def as_written(word: str) -> float:
    """``"#4ft"`` -> 4, as it was written; NaN for a word."""
    found = measure(word)
    return float("nan") if found is None else found[0] / BASE.get(found[2], ("", 1.0))[1]


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """A word without its English ending: shelves, shelving -> shelv; knife, knives -> kniv; batteries -> battery.

    Words of three letters, codes with digits and words that are not ASCII stay as they are.
    """
    if len(word) <= 3 or not word.isascii() or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and re.search("[aeiouy]", rest):
            doubled = len(rest) > 3 and rest[-1] == rest[-2] and rest[-1] not in "lsz"
            word = rest[:-1] if doubled else rest
            break
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 3 and word.endswith("f") and not word.endswith("ff"):
        word = word[:-1] + "v"
    return word
