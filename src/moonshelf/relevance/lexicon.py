"""The words of a catalogue: how rare they are, which are alike in spelling, what an unknown word may have meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from moonshelf.relevance.ragged import Ragged
from moonshelf.relevance.words import as_written, measure

GRAM = 3
_NEAR = 24  # words alike in trigrams whose edit distance is looked at
_SPLIT_COUNT = 5  # a word is split into two only when both are at least so common


class Lexicon:
    """Words numbered from 1 in the order of ``words``; 0 stands for no word.

    Args:
        words: stems and measures, distinct.
        counts: ``[V]`` products that have the word.
        products: number of products.

    Attributes:
        idf: ``[V + 1]`` float32, ``log(1 + (N - n + 0.5) / (n + 0.5))`` (BM25, Robertson & Zaragoza 2009).
        value, base: measures' values in their base unit (NaN for words) and that unit (None).
        written: measures' numbers as they were written.
    """

    def __init__(self, words: Sequence[str], counts: np.ndarray, products: int) -> None:
        self.words = ["", *words]
        self.counts = np.concatenate(([0], counts)).astype(np.int64)
        self.products = products
        self.number = {word: i for i, word in enumerate(self.words) if i}
        n = self.counts.astype(np.float64)
        self.idf = np.log1p((products - n + 0.5) / (n + 0.5)).astype(np.float32)
        self.idf[0] = 0.0
        measures = [measure(word) for word in self.words]
        self.value = np.array([m[0] if m else np.nan for m in measures], dtype=np.float64)
        self.written = np.array([as_written(word) for word in self.words], dtype=np.float64)
        self.base: list[str | None] = [m[1] if m else None for m in measures]

    def __len__(self) -> int:
        return len(self.words)

    def ids(self, words: Sequence[str]) -> list[int]:
        """Numbers of words, 0 for unknown ones."""
        return [self.number.get(word, 0) for word in words]

    def idf_of(self, word: str) -> float:
        """Rarity of a word; an unknown one is rarer than any."""
        at = self.number.get(word, 0)
        return float(self.idf[at]) if at else float(np.log1p((self.products + 0.5) / 0.5))

    @cached_property
    def grams(self) -> dict[str, int]:
        """Every character trigram of the words, numbered."""
        found: dict[str, int] = {}
        for word in self.words[1:]:
            for gram in trigrams(word):
                found.setdefault(gram, len(found))
        return found

    @cached_property
    def word_grams(self) -> Ragged:
        """Trigrams of each word."""
        grams = self.grams
        return Ragged.of([grams[g] for g in trigrams(word)] if word else [] for word in self.words)

    @cached_property
    def _postings(self) -> tuple[Ragged, np.ndarray]:
        return self.word_grams.turned(len(self.grams))

    @cached_property
    def _gram_numbers(self) -> np.ndarray:
        return self.word_grams.lengths().astype(np.float32)

    def alike(self, word: str) -> np.ndarray:
        """``[V + 1]`` float32 likeness in spelling, ``2 |shared trigrams| / (|a| + |b|)`` (Dice 1945); measures 0."""
        out = np.zeros(len(self), dtype=np.float32)
        mine = Counter(trigrams(word))
        if not word or word.startswith("#"):
            return out
        lists, counts = self._postings
        for gram, often in mine.items():
            at = self.grams.get(gram)
            if at is not None:
                part = slice(lists.start[at], lists.start[at + 1])
                out[lists.value[part]] += np.minimum(counts[part], often)
        return np.asarray(out * 2 / (self._gram_numbers + sum(mine.values())))

    def mend(self, word: str) -> tuple[str, ...]:
        """What an unknown word may have meant: ``(word,)`` itself when it is known or nothing is near.

        One slip away (a letter more, less, other, or two that changed places; Damerau 1964) goes before a split into
        two words of the catalogue, that before two slips (words of seven letters and more); the more common word wins.
        The order is our design.
        """
        if word in self.number or len(word) < 4 or not word.isalpha() or not word.isascii():
            return (word,)
        likeness = self.alike(word)
        size = min(_NEAR, len(likeness) - 1)
        near = np.argpartition(-likeness, size)[:size] if size else np.empty(0, dtype=np.int64)
        best: dict[int, tuple[int, str]] = {}
        for at in near.tolist():
            other = self.words[at]
            if likeness[at] <= 0 or not other.isalpha() or len(other) < 3:
                continue
            slips = edits(word, other, 2)
            if slips <= 2:
                best[slips] = max(best.get(slips, (0, "")), (int(self.counts[at]), other))
        if 1 in best:
            return (best[1][1],)
        halves = [(word[:i], word[i:]) for i in range(3, len(word) - 2)]
        known = [(min(self.count(a), self.count(b)), a, b) for a, b in halves]
        if known and max(known)[0] >= _SPLIT_COUNT:
            return max(known)[1:]
        return (best[2][1],) if 2 in best and len(word) >= 7 else (word,)

    def count(self, word: str) -> int:
        """Products that have a word."""
        return int(self.counts[self.number.get(word, 0)])


def trigrams(word: str) -> list[str]:
    """``"saw"`` -> ``[" sa", "saw", "aw "]``; a pair of Chinese characters counts as one."""
    padded = f" {word} "
    return [padded[i : i + GRAM] for i in range(max(1, len(padded) - GRAM + 1))]


def edits(a: str, b: str, most: int) -> int:
    """Letters added, dropped, changed or swapped with their neighbour; ``most + 1`` when there are more."""
    if abs(len(a) - len(b)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, last[j - 2] + 1)
            row.append(best)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
