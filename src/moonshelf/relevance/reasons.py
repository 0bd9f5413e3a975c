"""Why a product got its grade, in words: what of the query its title has, what it has not, what it contradicts.

Our design: the words are compared again as the features compare them; trees are not asked.
"""

from __future__ import annotations

import numpy as np

from moonshelf.relevance.asked import Asked
from moonshelf.relevance.catalogue import Catalogue
from moonshelf.relevance.goods import Goods
from moonshelf.relevance.ragged import best_of

_NEAR = 0.6


def reasons(asked: Asked, goods: Goods, catalogue: Catalogue) -> list[str]:
    """One line a product, such as ``matches 'linen', 'dress'; nearly 'sleeve'; not '12 in' (has 10 in)``."""
    flat = goods.titles.value.astype(np.int64)
    exact = asked.matches(flat, catalogue, goods.extra)
    has = best_of(exact, goods.titles)
    for field in goods.fields.values():
        has = np.maximum(has, best_of(asked.matches(field.value.astype(np.int64), catalogue), field))
    near = best_of(asked.likeness(flat, goods.extra), goods.titles)
    lines = []
    for n in range(len(goods)):
        title = flat[goods.titles.start[n] : goods.titles.start[n + 1]]
        found: dict[str, list[str]] = {"matches": [], "nearly": [], "not": []}
        for i in range(len(asked.words)):
            kind = "matches" if has[i, n] > 0 else "nearly" if near[i, n] >= _NEAR else "not"
            said = f"'{asked.shown[i]}'" + (_instead(asked, i, title, catalogue) if kind == "not" else "")
            if asked.words[i] and said not in found[kind]:
                found[kind].append(said)
        parts = [f"{kind} {', '.join(words)}" for kind, words in found.items() if words]
        lines.append("; ".join(parts) or "the query has no words")
    return lines


def _instead(asked: Asked, i: int, title: np.ndarray, catalogue: Catalogue) -> str:
    """`` (has 10in)``: the first measure of the same unit that the title has instead."""
    lexicon = catalogue.lexicon
    for at in title.tolist():
        if asked.unit[i] and at < len(lexicon) and lexicon.base[at] == asked.unit[i]:
            return f" (has {lexicon.words[at].removeprefix('#')})"
    return ""
