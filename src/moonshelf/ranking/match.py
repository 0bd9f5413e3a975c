"""How many of a query's words a product's own texts hold: a feature of a row, as of any moment."""

from __future__ import annotations

import json
import re
import unicodedata

import numpy as np

from moonshelf.ranking.history import History
from moonshelf.ranking.rows import Rows
from moonshelf.shop.shop import Shop

SHARES = (0.0, 0.34, 0.51, 0.76, 0.999)  # bucket edges of the share of words found
SIZE = len(SHARES) + 2
_WORD = re.compile(r"[^\W_]+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def words(text: str) -> set[str]:
    """Words of a text in lower case, without a plural s; texts without spaces as pairs of characters."""
    found: set[str] = set()
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if _CJK.search(word):
            found |= {word[i : i + 2] for i in range(max(1, len(word) - 1))}
        else:
            found.add(word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word)
    return found


def match(shop: Shop, history: History, rows: Rows, asked: str | None = None) -> np.ndarray:
    """``[N]`` int32 bucket of the share of the query's words that title, brand, category and attributes hold.

    0: there is no text query; else 1 (none of them) to ``SIZE - 1`` (all).

    Args:
        asked: text of the query whose number is ``len(history.queries)``, of somebody who asks now.

    Cost: a set operation a distinct pair of query and product.
    """
    assert shop.products is not None
    pairs = rows.query.astype(np.int64) * len(history.items) + rows.item
    distinct, place = np.unique(pairs, return_inverse=True)
    query, item = np.divmod(distinct, len(history.items))
    columns = shop.products.select("title", "brand", "category", "attributes")
    own: dict[int, set[str]] = {}
    asks: dict[int, set[str]] = {}
    out = np.zeros(len(distinct), dtype=np.int32)
    for at, (q, i) in enumerate(zip(query.tolist(), item.tolist(), strict=True)):
        if q < 0:
            continue
        if q not in asks:
            text = history.queries[q] if q < len(history.queries) else asked or ""
            asks[q] = set() if text.startswith("photo:") and q < len(history.queries) else words(text)
        if not asks[q]:
            continue
        if i not in own:
            row = columns.row(i, named=True)
            values = " ".join(map(str, json.loads(row["attributes"] or "{}").values()))
            own[i] = words(" ".join((row["title"] or "", row["brand"] or "", row["category"] or "", values)))
        share = len(asks[q] & own[i]) / len(asks[q])
        out[at] = 1 + np.searchsorted(SHARES, share, side="left")
    return out[place]
