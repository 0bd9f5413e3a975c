"""The names that a shop uses for its own things, and finding them in texts: brands, categories, attribute values.

A stand-in for the entity recogniser of MOON (2511.11305, data cleaning), whose model is not public. Our design.
Chinese and English: Latin words are matched as whole words, Chinese ones as the longest piece at each place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import polars as pl

from moonshelf.shop.splits import plain_text

_PIECES = re.compile(r"[\u3400-\u9fff]+|[^\W_]+")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
LONGEST_WORDS, LONGEST_CHARACTERS = 4, 12


class Gazetteer:
    """A set of names; ``find`` lists those in a text.

    Args:
        names: any case; Chinese names of one character and Latin ones of one letter or of digits alone are left out,
            as they stand for nothing by themselves.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._words: set[tuple[str, ...]] = set()
        self._chinese: set[str] = set()
        for name in names:
            pieces = _PIECES.findall(plain_text(name))
            joined = "".join(pieces)
            if len(joined) < 2 or joined.isdecimal():
                continue
            if _CHINESE.search(joined):
                if len(joined) <= LONGEST_CHARACTERS and len(pieces) == 1:
                    self._chinese.add(joined)
            elif len(pieces) <= LONGEST_WORDS:
                self._words.add(tuple(pieces))

    def __len__(self) -> int:
        return len(self._words) + len(self._chinese)

    @classmethod
    def of_products(cls, products: pl.DataFrame) -> Gazetteer:
        """From the columns ``brand``, ``category`` (every level of "A > B") and ``attributes`` (JSON, its values)."""
        names: set[str] = set(products["brand"].drop_nulls())
        for path in products["category"].drop_nulls().unique():
            names |= set(path.split(">"))
        for text in products["attributes"].drop_nulls().unique():
            values = json.loads(text)
            names |= {part for v in values.values() for part in re.split(r"[,;/|，；、]", str(v))}
        return cls(names)

    def find(self, text: str) -> list[str]:
        """Distinct names in a text, in the order in which they stand; longer names win over their parts.

        Cost: text length x the longest name.
        """
        pieces = _PIECES.findall(plain_text(text))
        found: list[str] = []
        at = 0
        while at < len(pieces):
            if _CHINESE.match(pieces[at]):
                found += self._in_chinese(pieces[at])
                at += 1
                continue
            for length in range(min(LONGEST_WORDS, len(pieces) - at), 0, -1):
                if tuple(pieces[at : at + length]) in self._words:
                    found.append(" ".join(pieces[at : at + length]))
                    at += length
                    break
            else:
                at += 1
        return list(dict.fromkeys(found))

    def _in_chinese(self, run: str) -> list[str]:
        found: list[str] = []
        at = 0
        while at < len(run):
            for length in range(min(LONGEST_CHARACTERS, len(run) - at), 1, -1):
                if run[at : at + length] in self._chinese:
                    found.append(run[at : at + length])
                    at += length
                    break
            else:
                at += 1
        return found
