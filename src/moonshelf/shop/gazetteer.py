"""The names that a shop uses for its own things, and finding them in texts: brands, categories, attribute values.

A stand-in for the entity recogniser of MOON (2511.11305, data cleaning), whose model is not public. Our design.
Chinese and English, mixed too ("T恤"): Latin words and numbers are matched whole, Chinese by characters, and the
longest name at each place wins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise

import polars as pl

from moonshelf.shop.splits import plain_text

_TOKENS = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_CHINESE = re.compile(r"[\u3400-\u9fff]")
LONGEST_WORDS, LONGEST_CHARACTERS = 4, 12


class Gazetteer:
    """A set of names; ``find`` lists those in a text.

    Args:
        names: any case; Chinese names of one character and Latin ones of one letter or of digits alone are left out,
            as they stand for nothing by themselves.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: set[tuple[str, ...]] = set()
        for name in names:
            tokens = tuple(_TOKENS.findall(plain_text(name)))
            joined = "".join(tokens)
            characters = len(_CHINESE.findall(joined))
            if len(joined) < 2 or joined.isdecimal():
                continue
            if characters <= LONGEST_CHARACTERS and len(tokens) - characters <= LONGEST_WORDS:
                self._names.add(tokens)
        self._longest = max(map(len, self._names), default=0)

    def __len__(self) -> int:
        return len(self._names)

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
        tokens = _TOKENS.findall(plain_text(text))
        found: list[str] = []
        at = 0
        while at < len(tokens):
            for length in range(min(self._longest, len(tokens) - at), 0, -1):
                name = tuple(tokens[at : at + length])
                if name in self._names:
                    found.append(_joined(name))
                    at += length
                    break
            else:
                at += 1
        return list(dict.fromkeys(found))


def _joined(tokens: tuple[str, ...]) -> str:
    """Words with spaces between them; none beside Chinese characters."""
    out = tokens[0]
    for before, token in pairwise(tokens):
        out += token if _CHINESE.match(before) or _CHINESE.match(token) else f" {token}"
    return out
