"""What a grade is told by: numbers about a query, a product and how they meet. None of them knows a grade or an id.

The list is our design; where a score has a source, the function that computes it names it.
"""

from __future__ import annotations

import numpy as np

from moonshelf.relevance.asked import Asked
from moonshelf.relevance.catalogue import K1, B, Catalogue, heads_of, openers_of
from moonshelf.relevance.goods import Goods
from moonshelf.relevance.ragged import Ragged, best_of, sum_of

Columns = dict[str, np.ndarray | float]
_MATCH = 0.6  # spelling as alike as this counts as found


def pair_features(asked: Asked, goods: Goods, catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Every feature of one query against ``n`` products, ``[n]`` float32 each, by name in a fixed order.

    NaN stands for what cannot be told (a query without numbers, a title without words).

    Cost: about 2 ms for 200 products.
    """
    flat = goods.titles.value.astype(np.int64)
    exact = asked.matches(flat, catalogue, goods.extra)
    known = np.where(flat < len(catalogue.lexicon), flat, 0)
    soft = np.maximum(exact, asked.likeness(flat, goods.extra))
    meaning = np.maximum(exact, asked.meaning @ catalogue.vectors[known].T)
    columns: Columns = {}
    columns |= _query(asked, catalogue)
    columns |= _overlap(asked, goods, exact, soft, meaning)
    columns |= _order(asked, goods.titles, exact)
    columns |= _heads(asked, goods, catalogue, exact, soft, meaning)
    columns |= _numbers(asked, goods, catalogue, exact, known)
    columns |= _scores(asked, goods, catalogue, flat, exact)
    columns |= _fields(asked, goods, catalogue, exact)
    return _full(columns, len(goods))


def _full(columns: Columns, n: int) -> dict[str, np.ndarray]:
    return {
        name: np.broadcast_to(np.asarray(value, dtype=np.float32), (n,)) for name, value in columns.items()
    }


def _query(asked: Asked, catalogue: Catalogue) -> Columns:
    counts = catalogue.lexicon.counts[asked.ids]
    top = np.sort(asked.bm25)[::-1][:10]
    top = np.concatenate((top, np.zeros(10 - len(top), np.float32)))
    return {
        "query_words": len(asked.words),
        "query_letters": sum(map(len, asked.shown)),
        "query_unknown": float((asked.ids == 0).sum()),
        "query_mended": asked.mended,
        "query_numbers": sum(u is not None for u in asked.unit),
        "query_idf": float(asked.idf.mean()),
        "query_idf_most": float(asked.idf.max()),
        "query_idf_least": float(asked.idf.min()),
        "query_head_idf": float(asked.idf[asked.head]),
        "query_head_count": float(np.log1p(counts[asked.head])),
        "query_best": float(top[0] / max(asked.idf.sum(), 1e-9)),
        "query_tenth": float(top[9] / max(top[0], 1e-9)),
        "query_hits": float(np.log1p((asked.bm25 > 0.7 * top[0]).sum())),
        "query_grams_best": float(asked.grams.max(initial=0)),
        "query_latent_best": float(asked.latent.max(initial=0)),
        "query_brands": float(catalogue.brands[asked.ids].sum()),
        "query_focus": float(asked.heads.max(initial=0)),
        "query_closeness": float(asked.place @ asked.feedback),
    }


def _overlap(asked: Asked, goods: Goods, exact: np.ndarray, soft: np.ndarray, meaning: np.ndarray) -> Columns:
    titles, share = goods.titles, asked.idf / max(float(asked.idf.sum()), 1e-9)
    has, near, close = (best_of(x, titles) for x in (exact, soft, meaning))
    covered = np.maximum.reduce(np.where(soft >= _MATCH, soft, 0), axis=0)
    length = titles.lengths()
    missing = np.where(has > 0, 0, asked.idf[:, None])
    return {
        "title_words": length.astype(np.float32),
        "has": has.mean(0),
        "has_count": has.sum(0),
        "has_idf": share @ has,
        "near": near.mean(0),
        "near_idf": share @ near,
        "near_least": near.min(0),
        "near_found": (near >= _MATCH).mean(0),
        "close": close.mean(0),
        "close_idf": share @ close,
        "close_least": close.min(0),
        "missing_idf": missing.max(0),
        "missing_sum": missing.sum(0),
        "missing_count": (has == 0).sum(0),
        "missing_near": np.where(missing > 0, near, 1).min(0),
        "missing_close": np.where(missing > 0, close, 1).min(0),
        "title_covered": sum_of(covered, titles) / np.maximum(length, 1),
    }


def _order(asked: Asked, titles: Ragged, exact: np.ndarray) -> Columns:
    """Where in the title the words are, and whether in the query's order."""
    n, length = len(titles), titles.lengths()
    place = np.arange(len(titles.value)) - titles.start[:-1][titles.owner()]
    hit = exact.max(0) > 0
    first = -best_of(np.where(hit, -place, -np.inf), titles, -np.inf)
    last = best_of(np.where(hit, place, -np.inf), titles, -np.inf)
    there = np.isfinite(last)
    span = np.maximum(length - 1, 1)
    out: Columns = {
        "first_place": np.where(there, first, np.nan),
        "last_place": np.where(there, last / span, np.nan),
        "spread": np.where(
            there, (last - first + 1) / np.maximum(sum_of(hit.astype(np.float32), titles), 1), np.nan
        ),
    }
    if len(asked.words) > 1:
        follows = np.zeros((len(asked.words) - 1, len(titles.value)), dtype=np.float32)
        inner = place[1:] > 0
        follows[:, :-1] = np.minimum(exact[:-1, :-1], exact[1:, 1:]) * inner
        pairs = best_of(follows, titles)
        compound = best_of(
            (titles.value == asked.joined[:-1, None]) * (asked.joined[:-1, None] > 0) * np.float32(1), titles
        )
        pairs = np.maximum(pairs, compound)
        out["pairs"] = pairs.mean(0)
        out["last_pair"] = pairs[-1]
    else:
        out["pairs"] = out["last_pair"] = np.full(n, np.nan)
    return out


def _heads(
    asked: Asked, goods: Goods, catalogue: Catalogue, exact: np.ndarray, soft: np.ndarray, meaning: np.ndarray
) -> Columns:
    """Is the thing asked for the thing sold: the last word of each side's first part."""
    titles, at = goods.titles, asked.head
    length = titles.lengths()
    head_place = np.where(length > 0, titles.start[:-1] + goods.head, 0)

    def at_head(x: np.ndarray) -> np.ndarray:
        return np.where(length > 0, x[..., head_place] if x.shape[-1] else 0, 0)

    place = np.arange(len(titles.value)) - titles.start[:-1][titles.owner()]
    before = place <= goods.head[titles.owner()]
    share = (asked.idf / max(float(asked.idf.sum()), 1e-9))[:, None]
    front = best_of(np.where(before, exact, 0), titles)
    near_head = (place >= goods.head[titles.owner()] - 1) & before
    head, opener = heads_of(goods), openers_of(goods)
    head, opener = (np.where(x < len(catalogue.lexicon), x, 0) for x in (head, opener))
    known_heads = catalogue.vectors[head]
    return {
        "head_has": best_of(exact[at], titles),
        "head_near": best_of(soft[at], titles),
        "head_close": best_of(meaning[at], titles),
        "head_head": at_head(exact[at]),
        "head_head_near": at_head(soft[at]),
        "head_head_close": at_head(meaning[at]),
        "head_zone": best_of(np.where(near_head, exact[at], 0), titles),
        "title_head_asked": at_head(exact.max(0)),
        "title_head_near": at_head(soft.max(0)),
        "title_head_close": at_head(meaning.max(0)),
        "first_has": best_of(exact[0], titles),
        "first_near": best_of(soft[0], titles),
        "first_close": best_of(meaning[0], titles),
        "front_idf": (share * front).sum(0),
        "head_expected": asked.heads[head],
        "head_feedback": known_heads @ asked.mean_feedback,
        "head_count": np.log1p(catalogue.lexicon.counts[head]).astype(np.float32),
        "opener_expected": asked.openers[opener],
        "brand": _brand(asked, opener, catalogue, exact, titles),
    }


def _brand(
    asked: Asked, opener: np.ndarray, catalogue: Catalogue, exact: np.ndarray, titles: Ragged
) -> np.ndarray:
    """1 the brand asked for, -1 another one, 0 when the query names none."""
    named = catalogue.brands[asked.ids]
    if not named.any():
        return np.zeros(len(titles), dtype=np.float32)
    has = best_of(exact[named], titles).max(0) > 0
    return np.where(has, 1.0, np.where(catalogue.brands[opener], -1.0, -0.5)).astype(np.float32)


def _numbers(
    asked: Asked, goods: Goods, catalogue: Catalogue, exact: np.ndarray, known: np.ndarray
) -> Columns:
    """Measures of the query that the title has, and those it contradicts: same unit, other number."""
    titles = goods.titles
    which = [i for i, unit in enumerate(asked.unit) if unit is not None]
    numbers = sum_of(np.isfinite(catalogue.lexicon.value[known]).astype(np.float32), titles)
    if not which:
        return {
            "numbers_agree": np.nan,
            "numbers_against": np.nan,
            "numbers_off": np.nan,
            "title_numbers": numbers,
        }
    agree = best_of(exact[which], titles) > 0
    against, off = [], []
    value, bases = catalogue.lexicon.value[known], catalogue.lexicon.base
    for row, i in enumerate(which):
        same = np.array(
            [bases[k] == asked.unit[i] and bases[k] is not None for k in known.tolist()], dtype=bool
        )
        there = best_of(same.astype(np.float32), titles) > 0
        against.append(there & ~agree[row])
        apart = np.abs(np.log(np.maximum(np.where(same, value, 1), 1e-6) / max(asked.value[i], 1e-6)))
        off.append(-best_of(np.where(same, -apart, -np.inf), titles, -np.inf))
    apart = np.minimum(np.array(off), 9)
    return {
        "numbers_agree": agree.mean(0),
        "numbers_against": np.array(against).sum(0),
        "numbers_off": apart.max(0),
        "title_numbers": numbers,
    }


def _scores(asked: Asked, goods: Goods, catalogue: Catalogue, flat: np.ndarray, exact: np.ndarray) -> Columns:
    """Whole-text scores, also beside what the best titles of the catalogue get for the same query."""
    titles = goods.titles
    often = sum_of(exact, titles)
    norm = K1 * (1 - B + B * titles.lengths() / catalogue.mean_length)
    bm25 = asked.idf @ (often * (K1 + 1) / (often + norm))
    inside = np.where(flat < len(catalogue.lexicon), flat, 0)
    grams = sum_of(asked.gram_weights[inside], titles) / np.maximum(catalogue.gram_lengths(goods), 1e-9)
    places, meanings = catalogue.places(goods), catalogue.meanings(goods)
    latent = places @ asked.place
    return {
        "bm25": bm25,
        "bm25_of_most": bm25 / max(float(asked.idf.sum()), 1e-9),
        "bm25_of_best": bm25 / max(float(asked.bm25.max(initial=0)), 1e-9),
        "bm25_above": np.log1p(_above(asked.bm25, bm25)),
        "grams": grams,
        "grams_of_best": grams / max(float(asked.grams.max(initial=0)), 1e-9),
        "grams_above": np.log1p(_above(asked.grams, grams)),
        "latent": latent,
        "latent_above": np.log1p(_above(asked.latent, latent)),
        "meaning": meanings @ asked.mean,
        "feedback": places @ asked.feedback,
        "mean_feedback": meanings @ asked.mean_feedback,
    }


def _above(all_scores: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """How many products of the catalogue score higher."""
    ordered = np.sort(all_scores)
    return np.asarray(len(ordered) - np.searchsorted(ordered, mine + 1e-5, side="right"))


def _fields(asked: Asked, goods: Goods, catalogue: Catalogue, exact: np.ndarray) -> Columns:
    """Share of the query, by rarity, that each field has, and that is nowhere at all."""
    share = asked.idf / max(float(asked.idf.sum()), 1e-9)
    anywhere = best_of(exact, goods.titles)
    out: Columns = {}
    for name, field in goods.fields.items():
        has = best_of(asked.matches(field.value.astype(np.int64), catalogue), field)
        out[f"{name}_has"] = np.where(field.lengths() > 0, share @ has, np.nan)
        anywhere = np.maximum(anywhere, has)
    if goods.fields:
        out["anywhere"] = share @ anywhere
    return out
