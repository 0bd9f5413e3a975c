"""Products as lists of word numbers: all that the model keeps of them. Everything else is computed from these."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from moonshelf.progress import Progress
from moonshelf.relevance.lexicon import Lexicon
from moonshelf.relevance.ragged import Ragged
from moonshelf.relevance.words import Text, read_text

FIELDS = ("brand", "category", "attributes", "description")
_WORDS = 200  # of a description; what comes later says little about what the thing is


@dataclass(frozen=True, slots=True)
class Goods:
    """``N`` products.

    Attributes:
        product_ids: their ids.
        titles: word numbers of each title.
        head: ``[N]`` int32 place of the head word in the title, -1 without a title.
        fields: word numbers of the other fields, by name; only those that some product of the shop has.
        extra: words that the lexicon does not know; their numbers go on after the lexicon's.
    """

    product_ids: list[str]
    titles: Ragged
    head: np.ndarray
    fields: dict[str, Ragged]
    extra: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.product_ids)

    def take(self, rows: np.ndarray) -> Goods:
        """Some products."""
        return Goods(
            [self.product_ids[i] for i in rows.tolist()],
            self.titles.take(rows),
            self.head[rows],
            {name: field.take(rows) for name, field in self.fields.items()},
            self.extra,
        )


def read_titles(products: pl.DataFrame) -> list[Text]:
    """The titles of a products table; without a title a product has no words."""
    titles = products["title"].to_list()
    with Progress(len(titles), "relevance: read titles", "titles") as progress:
        out = []
        for title in titles:
            out.append(read_text(title or ""))
            progress.advance()
    return out


def lexicon_of(
    titles: Sequence[Text], products: pl.DataFrame | None = None, fields: Sequence[str] = ()
) -> Lexicon:
    """The words of a catalogue in alphabetical order: of titles with the number of titles that have them, and of
    other fields, where no title has them, with the number of products (of a description: words of two or more).
    """
    counts = Counter(word for text in titles for word in set(text.words))
    if products is not None and fields:
        more: Counter[str] = Counter()
        sure: set[str] = set()  # whatever the other fields name counts, though one product has it
        for row in products.select(fields).iter_rows():
            read = {name: set(field_words(name, value)) for name, value in zip(fields, row, strict=True)}
            sure.update(*(words for name, words in read.items() if name != "description"))
            more.update(set().union(*read.values()) - counts.keys())
        counts.update({word: n for word, n in more.items() if n > 1 or word in sure})
    words = sorted(counts)
    return Lexicon(words, np.array([counts[w] for w in words], dtype=np.int64), len(titles))


def goods_of(
    products: pl.DataFrame, lexicon: Lexicon, fields: Sequence[str], titles: Sequence[Text] | None = None
) -> Goods:
    """A products table (normal form) as goods.

    Args:
        fields: which of ``FIELDS`` to read.
        titles: when they were read already.
    """
    texts = read_titles(products) if titles is None else titles
    extra: dict[str, int] = {}

    def ids(words: Sequence[str]) -> list[int]:
        return [lexicon.number.get(w) or extra.setdefault(w, len(lexicon) + len(extra)) for w in words]

    packed = Ragged.of(ids(text.words) for text in texts)
    read = {
        name: Ragged.of(lexicon.ids(field_words(name, value)) for value in products[name].to_list())
        for name in fields
    }
    head = np.array([text.head for text in texts], dtype=np.int32)
    return Goods(products["product_id"].to_list(), packed, head, read, tuple(extra))


def field_words(name: str, value: str | None) -> tuple[str, ...]:
    """The words of a field; of attributes names and values, of a category all its steps."""
    if not value:
        return ()
    if name == "attributes":
        value = " , ".join(f"{k} {v}" for k, v in json.loads(value).items())
    return read_text(value).words[:_WORDS]


def used_fields(products: pl.DataFrame) -> list[str]:
    """The fields that at least one product has words in."""
    return [
        name
        for name in FIELDS
        if any(field_words(name, value) for value in products[name].unique().to_list())
    ]
