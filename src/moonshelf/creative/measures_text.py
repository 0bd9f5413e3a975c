"""What can be counted in a text: no model, no judgement, the same number every time. Our design.

Word lists are English, short and closed, so that a sentence about them can be checked by hand; a text in another
language measures 0 there. Readability is Flesch's reading ease (1948) with syllables by groups of vowels.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
NUMBER = re.compile(r"\d[\d,.]*")
_VOWELS = re.compile(r"[aeiouy]+")
_SENTENCE = re.compile(r"[.!?…]+(?=\s|$|[\"'”’)])")
_CJK = re.compile(r"[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]")


def _list(words: str) -> frozenset[str]:
    return frozenset(words.split())


CURIOSITY = _list(
    "what why how guess secret secrets reason reasons surprising surprise surprised happens happened happen until "
    "turns wait watch see find discover revealed reveals never unexpected mystery mysterious strange weird actually "
    "really thing things something someone somebody here who when"
)
EMOTION = _list(
    "love loved loves amazing awesome beautiful heartbreaking heart tears cry crying laugh laughing hilarious funny "
    "incredible powerful inspiring inspired moving brilliant adorable happy happiness joy sad angry anger furious "
    "shocking shocked stunning gorgeous wonderful epic perfect hope fear scared scary hate hated proud smile chills "
    "goosebumps emotional wow genius brave hero heroes touching sweet"
)
NEGATIVE = _list(
    "no not never nothing none nobody cannot without against wrong bad worse worst awful terrible horrible horrifying "
    "disgusting gross sick sickening hate hated angry furious kill killed killing dead death die died dying lie lied "
    "lies war rape abuse abused victim victims fear scared scary ugly stupid fail failed fails problem problems crazy "
    "insane poor pain hurt hurts racist sexist cancer broke broken stop ban banned"
)
SECOND = _list("you your yours yourself yourselves")
FIRST = _list("i me my mine myself we us our ours ourselves")
THIRD = _list("he him his she her hers they them their himself herself themselves")
POINTING = _list("this these that those here")
SUPERLATIVE = _list(
    "best worst most least biggest greatest ever only every everyone everything all always first"
)
SELLING = _list(
    "new free sale now today offer save price gift perfect shop buy seller ready small made limited"
)

NAMES: dict[str, str] = {
    "words": "words",
    "characters": "characters",
    "word_length": "letters a word",
    "numbers": "numbers",
    "names": "names",
    "shouted": "words in capitals",
    "question": "question marks",
    "exclamation": "exclamation marks",
    "quotes": "quotation marks",
    "ellipsis": "ellipses",
    "commas": "commas, colons and dashes",
    "sentences": "sentences",
    "curiosity": "curiosity words",
    "emotion": "words of feeling",
    "negative": "negative words",
    "second": "words that address the reader",
    "first": "words of a first person",
    "third": "words of a third person",
    "pointing": "pointing words",
    "superlative": "superlatives",
    "selling": "selling words",
    "ease": "points of reading ease",
}
"""Every measure with its unit, in the order of the vector."""


def words_of(text: str) -> list[str]:
    """Words; every Chinese, Japanese or Korean character counts as one."""
    found: list[str] = []
    for word in WORD.findall(unicodedata.normalize("NFKC", text)):
        found += list(word) if _CJK.search(word) else [word]
    return found


def syllables(word: str) -> int:
    """Groups of vowels, a silent e left out, at least one."""
    low = word.lower()
    groups = len(_VOWELS.findall(low))
    if low.endswith("e") and not low.endswith(("le", "ee")) and groups > 1:
        groups -= 1
    return max(1, groups)


@lru_cache(maxsize=65_536)
def measure_text(text: str) -> tuple[float, ...]:
    """The measures of one text in the order of ``NAMES``; all 0 for an empty one.

    Names are words with a capital inside a sentence, and are 0 where most words have one (a headline in title case
    tells nothing by capitals). Cost: about 30 us.
    """
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").strip()
    if not plain:
        return (0.0,) * len(NAMES)
    words = words_of(plain)
    low = [w.lower() for w in words]
    stems = [w.removesuffix("'s").removesuffix("n't") for w in low]
    sentences = max(
        1, len(_SENTENCE.findall(plain)) + (not plain.rstrip("\"'”)").endswith((".", "!", "?", "…")))
    )
    latin = [w for w in words if not _CJK.search(w)]

    def count(known: frozenset[str]) -> float:
        return float(sum(w in known or s in known for w, s in zip(low, stems, strict=True)))

    negative = count(NEGATIVE) + sum(w.endswith("n't") for w in low)
    ease = 0.0
    if latin:
        beats = sum(map(syllables, latin)) / len(latin)
        ease = min(120.0, max(0.0, 206.835 - 1.015 * len(words) / sentences - 84.6 * beats))
    return (
        float(len(words)),
        float(len(plain)),
        sum(map(len, words)) / len(words) if words else 0.0,
        float(len(NUMBER.findall(plain))),
        _names(plain, words),
        float(sum(len(w) > 1 and w.isupper() for w in latin)),
        float(plain.count("?") + plain.count("？")),
        float(plain.count("!")),
        float(len(re.findall(r"[\"“”«»]|(?<!\w)'|'(?!\w)", plain))),
        float(len(re.findall(r"\.\.\.|…", plain))),
        float(len(re.findall(r"[,:;—–]|\s-\s", plain))),
        float(sentences),
        count(CURIOSITY), count(EMOTION), negative, count(SECOND), count(FIRST), count(THIRD),
        count(POINTING), count(SUPERLATIVE), count(SELLING), round(ease, 1),
    )  # fmt: skip


def _names(plain: str, words: list[str]) -> float:
    capital = sum(w[:1].isupper() for w in words)
    if not words or capital > 0.6 * len(words):
        return 0.0
    begins = {m.end() for m in re.finditer(r"^\W*|[.!?…:][\"'”’)]*\s+\W*", plain)}
    inside = [m for m in WORD.finditer(plain) if m.start() not in begins]
    return float(
        sum(m[0][:1].isupper() and m[0].lower() not in FIRST | {"i'm", "i've", "i'd", "i'll"} for m in inside)
    )
