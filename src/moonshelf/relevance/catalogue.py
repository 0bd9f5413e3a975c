"""A catalogue made ready for queries: scores of one query against all of its titles in a few milliseconds."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from moonshelf.arrays import unit
from moonshelf.relevance.goods import Goods
from moonshelf.relevance.latent import Sparse
from moonshelf.relevance.lexicon import Lexicon, trigrams
from moonshelf.relevance.ragged import Ragged, sum_of

K1, B = 1.2, 0.4  # titles are short: their length says less than that of documents


class Catalogue:
    """Lexicon, goods and what was learned of the titles without grades.

    Args:
        factors: ``[V, r]`` LSA rows of words.
        vectors: ``[V, d]`` word vectors.
    """

    def __init__(self, lexicon: Lexicon, goods: Goods, factors: np.ndarray, vectors: np.ndarray) -> None:
        self.lexicon, self.goods, self.factors, self.vectors = lexicon, goods, factors, vectors
        self.row = {product_id: i for i, product_id in enumerate(goods.product_ids)}
        self.mean_length = float(goods.titles.lengths().mean()) if len(goods) else 1.0

    @cached_property
    def _postings(self) -> tuple[Ragged, np.ndarray]:
        return self.goods.titles.turned(len(self.lexicon))

    @cached_property
    def _bm25(self) -> np.ndarray:
        lists, often = self._postings
        length = self.goods.titles.lengths()[lists.value] / self.mean_length
        return np.asarray(often * (K1 + 1) / (often + K1 * (1 - B + B * length)), dtype=np.float32)

    def bm25(self, ids: np.ndarray) -> np.ndarray:
        """BM25 (Robertson & Zaragoza 2009) of the words ``ids`` against every title, ``[N]`` float32."""
        lists, out = self._postings[0], np.zeros(len(self.goods), dtype=np.float32)
        for at in np.unique(ids[ids > 0]).tolist():
            part = slice(lists.start[at], lists.start[at + 1])
            out[lists.value[part]] += self._bm25[part] * self.lexicon.idf[at]
        return out

    @cached_property
    def gram_idf(self) -> np.ndarray:
        """Rarity of trigrams, counted over the titles' words."""
        own = self.lexicon.word_grams
        titles = np.bincount(own.value, self.lexicon.counts[own.owner()], minlength=len(self.lexicon.grams))
        return np.log1p(len(self.goods) / (1.0 + titles)).astype(np.float32)

    @cached_property
    def gram_length(self) -> np.ndarray:
        """Length of every title's trigram TF-IDF vector."""
        return self.gram_lengths(self.goods)

    def gram_lengths(self, goods: Goods) -> np.ndarray:
        """``[n]`` lengths of trigram vectors: ``sqrt(sum_g (count_g idf_g)^2)``; words not in the lexicon left out."""
        owner, value = goods.titles.owner(), goods.titles.value
        inside = value < len(self.lexicon)
        grams = self.lexicon.word_grams.take(value[inside])
        title = np.repeat(owner[inside], grams.lengths()).astype(np.int64)
        size = max(1, len(self.gram_idf))
        key, count = np.unique(title * size + grams.value, return_counts=True)
        square = (count * self.gram_idf[key % size]) ** 2
        return np.sqrt(np.bincount(key // size, square, minlength=len(goods))).astype(np.float32)

    def gram_weights(self, words: list[str]) -> np.ndarray:
        """``[V + 1]``: what each word adds to the product of trigram vectors of a title and the query (of length 1).

        The vector of a title is the sum of those of its words, so the cosine with all titles needs no title vectors.
        """
        known = self.lexicon.grams
        query = np.zeros(max(1, len(known)), dtype=np.float32)
        for word in words:
            for gram in trigrams(word):
                if gram in known:
                    query[known[gram]] += 1.0
        query[: len(self.gram_idf)] *= self.gram_idf
        length = float(np.linalg.norm(query))
        own = self.lexicon.word_grams
        part = (query[: len(self.gram_idf)] * self.gram_idf)[own.value] if len(known) else np.zeros(0)
        found = np.bincount(own.owner(), part, minlength=len(own)) / max(length, 1e-9)
        return found.astype(np.float32)

    def gram_cosines(self, weights: np.ndarray) -> np.ndarray:
        """Cosine of trigram TF-IDF vectors with every title, ``[N]``, from ``gram_weights``."""
        titles = self.goods.titles
        return np.asarray(sum_of(weights[titles.value], titles) / np.maximum(self.gram_length, 1e-9))

    @cached_property
    def latent(self) -> np.ndarray:
        """Unit LSA vectors of all titles, ``[N, r]``."""
        return self.places(self.goods)

    @cached_property
    def meant(self) -> np.ndarray:
        """Unit means of word vectors of all titles, ``[N, d]``."""
        return self.meanings(self.goods)

    def places(self, goods: Goods) -> np.ndarray:
        """Unit LSA vectors of titles, ``[n, r]``; zero for one without known words."""
        return self._summed(goods, self.factors, np.ones(len(self.lexicon), dtype=np.float32))

    def meanings(self, goods: Goods) -> np.ndarray:
        """Unit idf-weighted means of word vectors, ``[n, d]``."""
        return self._summed(goods, self.vectors, self.lexicon.idf)

    def _summed(self, goods: Goods, table: np.ndarray, weight: np.ndarray) -> np.ndarray:
        value = np.where(goods.titles.value < len(self.lexicon), goods.titles.value, 0).astype(np.int32)
        matrix = Sparse(Ragged(goods.titles.start, value), weight[value].astype(np.float32), len(table))
        return unit(matrix.times(torch.from_numpy(table)).numpy())

    @cached_property
    def brands(self) -> np.ndarray:
        """``[V + 1]`` bool: words that open at least five titles and stand in front in half of theirs or more."""
        titles = self.goods.titles
        first = titles.value[titles.start[:-1][titles.lengths() > 0]]
        opens = np.bincount(first, minlength=len(self.lexicon))
        word = np.array([not w.startswith("#") for w in self.lexicon.words])
        return np.asarray((opens >= 5) & (2 * opens >= self.lexicon.counts) & word)

    @cached_property
    def heads(self) -> np.ndarray:
        """``[N]`` head word of every title, 0 without one."""
        return heads_of(self.goods)

    @cached_property
    def openers(self) -> np.ndarray:
        """``[N]`` first word of every title, 0 without one."""
        return openers_of(self.goods)


def heads_of(goods: Goods) -> np.ndarray:
    """Number of each title's head word; 0 without one."""
    return _at(goods.titles, goods.head)


def openers_of(goods: Goods) -> np.ndarray:
    """Number of each title's first word; 0 without one."""
    return _at(goods.titles, np.zeros(len(goods), dtype=np.int64))


def _at(lists: Ragged, place: np.ndarray) -> np.ndarray:
    there = lists.lengths() > 0
    out = np.zeros(len(lists), dtype=np.int64)
    out[there] = lists.value[lists.start[:-1][there] + place[there]]
    return out
