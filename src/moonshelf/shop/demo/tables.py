"""The tables of the demo shop, and its truth, as Arrow tables in the layout of a shop folder."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from moonshelf.shop.demo import behaviour, creatives, users
from moonshelf.shop.demo.behaviour import EventRow, ImpressionTable, SearchRow, when
from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.creatives import Creative
from moonshelf.shop.demo.text import Fault, Query, attributes, description, query, title
from moonshelf.shop.demo.users import Users
from moonshelf.shop.demo.words import BRANDS, CATEGORIES, COLOURS, MATERIALS, PATTERNS, STYLES

TIME = pa.timestamp("us", tz="UTC")
_MAP = pa.map_(pa.string(), pa.string())
IMAGE_SCHEMA = pa.schema([("image_id", pa.string()), ("bytes", pa.binary())])


def _table(columns: dict[str, tuple[pa.DataType, Any]]) -> pa.Table:
    return pa.table({k: pa.array(v, type=t) for k, (t, v) in columns.items()})


def products_table(
    items: list[Item], names: list[tuple[str, ...]], seed: int
) -> tuple[pa.Table, list[Fault], list[str]]:
    """The products, the faults in their attributes, and each title's language."""
    titles, texts, attrs, langs, brands = [], [], [], [], []
    faults: list[Fault] = []
    for item in items:
        rng = np.random.default_rng((seed, 14, item.index))
        head, language = title(item, rng)
        written, wrong = attributes(item, rng)
        brand_missing = any(f.attribute == "brand" for f in wrong)
        titles.append(head)
        langs.append(language)
        texts.append(description(item, language, rng) or None)
        attrs.append(list(written.items()))
        brands.append(None if brand_missing else BRANDS[item.brand].name)
        faults += wrong
    s = pa.string()
    table = _table(
        {
            "product_id": (s, [i.product_id for i in items]),
            "spu_id": (s, [i.spu_id for i in items]),
            "title": (s, titles),
            "description": (s, texts),
            "category": (s, [i.info.path for i in items]),
            "attributes": (_MAP, attrs),
            "brand": (s, brands),
            "price": (pa.float64(), [i.price for i in items]),
            "image_ids": (pa.list_(s), [list(n) for n in names]),
            "created_at": (TIME, [when(i.day) for i in items]),
        }
    )
    return table, faults, langs


def searches_table(rows: list[SearchRow], items: list[Item], people: Users) -> pa.Table:
    """The searches as a shop would log them: no trace of what was meant."""
    s = pa.string()
    return _table(
        {
            "query_id": (s, [r.query_id for r in rows]),
            "query_text": (s, [r.query.text if r.query else None for r in rows]),
            "query_image_id": (s, [f"{r.query_id}-photo" if r.photo else None for r in rows]),
            "product_id": (s, [items[r.acted].product_id for r in rows]),
            "action": (s, [r.action for r in rows]),
            "user_id": (s, [people.ids[r.user] for r in rows]),
            "time": (TIME, [when(r.day) for r in rows]),
        }
    )


def impressions_table(t: ImpressionTable, items: list[Item], people: Users) -> pa.Table:
    """The pages as logged."""
    s = pa.string()
    return _table(
        {
            "query_id": (s, [f"page{g:05d}" for g in t.page]),
            "query_text": (s, [t.queries[g].text for g in t.page]),
            "user_id": (s, [people.ids[u] for u in t.user]),
            "time": (TIME, [when(d) for d in t.day]),
            "product_id": (s, [items[i].product_id for i in t.item]),
            "position": (pa.int64(), t.position),
            "clicked": (pa.int64(), t.clicked),
            "propensity": (pa.float64(), [None if np.isnan(p) else float(p) for p in t.propensity]),
        }
    )


def events_table(rows: list[EventRow], items: list[Item], people: Users) -> pa.Table:
    """Everything users did."""
    s = pa.string()
    return _table(
        {
            "user_id": (s, [people.ids[r.user] for r in rows]),
            "time": (TIME, [when(r.day) for r in rows]),
            "product_id": (s, [items[r.item].product_id for r in rows]),
            "action": (s, [r.action for r in rows]),
            "query_text": (s, [r.query_text for r in rows]),
            "price": (pa.float64(), [items[r.item].price for r in rows]),
        }
    )


def creatives_table(rows: list[Creative], items: list[Item]) -> pa.Table:
    """The creatives as logged; one randomised test a product."""
    s = pa.string()
    return _table(
        {
            "creative_id": (s, [r.creative_id for r in rows]),
            "product_id": (s, [items[r.item].product_id for r in rows]),
            "test_id": (s, [f"test-{items[r.item].product_id}" for r in rows]),
            "image_id": (s, [f"{r.creative_id}-image" for r in rows]),
            "text": (s, [r.headline or None for r in rows]),
            "queries": (pa.list_(s), [list(r.queries) for r in rows]),
            "impressions": (pa.int64(), [r.impressions for r in rows]),
            "clicks": (pa.int64(), [r.clicks for r in rows]),
        }
    )


def users_table(people: Users) -> pa.Table:
    """What the shop knows of its users."""
    s = pa.string()
    return _table(
        {"user_id": (s, list(people.ids)), "language": (s, ["zh" if z else "en" for z in people.zh])}
    )


def relevance_table(items: list[Item], count: int, seed: int) -> tuple[pa.Table, list[Query]]:
    """``count`` judged text queries x 10 products: the wanted one, near ones of its category, and others."""
    rng = np.random.default_rng((seed, 15))
    by_category = {c.key: [i for i in items if i.category == c.key] for c in CATEGORIES}
    ids, texts, products, grades, queries = [], [], [], [], []
    for n in range(count):
        wanted = items[int(rng.integers(len(items)))]
        words = query(wanted, rng, bool(rng.random() < 0.32))
        queries.append(words)
        pool = by_category[wanted.category]
        near = sorted(pool, key=lambda i: (-words.grade(i), i.index))[:3]
        some = [pool[int(k)] for k in rng.integers(len(pool), size=4)]
        far = [items[int(k)] for k in rng.integers(len(items), size=2)]
        for item in {i.product_id: i for i in [wanted, *near, *some, *far]}.values():
            ids.append(f"rel{n:04d}")
            texts.append(words.text)
            products.append(item.product_id)
            grades.append(words.grade(item))
    s = pa.string()
    table = _table(
        {
            "query_id": (s, ids),
            "query_text": (s, texts),
            "product_id": (s, products),
            "grade": (pa.float64(), grades),
        }
    )
    return table, queries


def truth_tables(
    items: list[Item],
    langs: list[str],
    pop: users.F64,
    people: Users,
    searches: list[SearchRow],
    impressions: ImpressionTable,
    ads: list[Creative],
    faults: list[Fault],
    judged: list[Query],
) -> dict[str, pa.Table]:
    """What really holds, table by table."""
    s, f = pa.string(), pa.float64()
    floats = pa.list_(f)
    out = {
        "products": _table(
            {
                "product_id": (s, [i.product_id for i in items]),
                "spu_id": (s, [i.spu_id for i in items]),
                "category": (s, [i.category for i in items]),
                "shape": (s, [i.shape_name[0] for i in items]),
                "colour": (s, [i.colour for i in items]),
                "colour2": (s, [i.colour2 for i in items]),
                "colour3": (s, [i.colour3 for i in items]),
                "pattern": (s, [i.pattern for i in items]),
                "pattern_scale": (f, [i.pattern_scale for i in items]),
                "material": (s, [i.material for i in items]),
                "brand": (s, [BRANDS[i.brand].name for i in items]),
                "style": (floats, [list(i.style) for i in items]),
                "quality": (f, [i.quality for i in items]),
                "popularity": (f, pop),
                "price": (f, [i.price for i in items]),
                "title_language": (s, langs),
            }
        ),
        "attributes": _table(
            {
                "product_id": (s, [x.product_id for x in faults]),
                "attribute": (s, [x.attribute for x in faults]),
                "true": (s, [x.true for x in faults]),
                "written": (s, [x.written for x in faults]),
                "fault": (s, ["missing" if x.written is None else "wrong" for x in faults]),
            }
        ),
        "users": _table(
            {
                "user_id": (s, list(people.ids)),
                "category": (floats, people.category.tolist()),
                "colour": (floats, people.colour.tolist()),
                "style": (floats, people.style.tolist()),
                "brand": (floats, people.brand.tolist()),
                "price_level": (f, people.level),
                "activity": (f, people.activity),
            }
        ),
        "searches": _table(
            {
                "query_id": (s, [r.query_id for r in searches]),
                "meant_product_id": (s, [items[r.meant].product_id for r in searches]),
                "acted_product_id": (s, [items[r.acted].product_id for r in searches]),
                "corrupted": (pa.bool_(), [bool(r.corruption) for r in searches]),
                "corruption": (s, [r.corruption or None for r in searches]),
                "asks": (_MAP, [list(r.query.asks) if r.query else None for r in searches]),
                "photo": (s, [json.dumps(r.photo.record()) if r.photo else None for r in searches]),
            }
        ),
        "impressions": _table(
            {
                "query_id": (s, [f"page{g:05d}" for g in impressions.page]),
                "position": (pa.int64(), impressions.position),
                "product_id": (s, [items[i].product_id for i in impressions.item]),
                "examine": (f, impressions.examined),
                "attraction": (f, impressions.attraction),
                "click_probability": (f, impressions.examined * impressions.attraction),
                "random_slice": (pa.bool_(), ~np.isnan(impressions.propensity)),
            }
        ),
        "pages": _table(
            {
                "query_id": (s, [f"page{n:05d}" for n in range(len(impressions.queries))]),
                "query_text": (s, [q.text for q in impressions.queries]),
                "asks": (_MAP, [list(q.asks) for q in impressions.queries]),
            }
        ),
        "relevance": _table(
            {
                "query_id": (s, [f"rel{n:04d}" for n in range(len(judged))]),
                "query_text": (s, [q.text for q in judged]),
                "asks": (_MAP, [list(q.asks) for q in judged]),
            }
        ),
    }
    terms = [a.terms() for a in ads]
    out["creatives"] = _table(
        {
            "creative_id": (s, [a.creative_id for a in ads]),
            "product_id": (s, [items[a.item].product_id for a in ads]),
            "interest": (s, [a.interest for a in ads]),
            "scale": (f, [a.scale for a in ads]),
            "x": (f, [a.x for a in ads]),
            "background": (s, [a.background for a in ads]),
            "headline": (s, [a.headline for a in ads]),
            "theme": (s, [a.theme for a in ads]),
            "legible": (pa.bool_(), [a.legible for a in ads]),
            "badge": (s, [a.badge for a in ads]),
            "clutter": (pa.int64(), [a.clutter for a in ads]),
            "product_effect": (f, [a.product_effect for a in ads]),
            **{f"term_{k}": (f, [t[k] for t in terms]) for k in creatives.TERMS},
            "ctr": (f, [a.ctr for a in ads]),
        }
    )
    return out


def truth_numbers(seed: int, products: int, size: int) -> dict[str, Any]:
    """Every parameter that is not a row: models, weights, palettes."""
    return {
        "made_by": "moonshelf demo shop",
        "real": False,
        "seed": seed,
        "products": products,
        "image_size": size,
        "behaviour": {
            "first": when(behaviour.FIRST_DAY).isoformat(),
            "last": when(behaviour.LAST_DAY).isoformat(),
        },
        "categories": {c.key: c.path for c in CATEGORIES},
        "colours": {
            k: {"rgb": list(rgb), "en": list(n[0]), "zh": list(n[1])} for k, (rgb, n) in COLOURS.items()
        },
        "patterns": {k: {"en": list(n[0]), "zh": list(n[1])} for k, n in PATTERNS.items()},
        "materials": {
            k: {"en": list(n[0]), "zh": list(n[1]), "finish": fin} for k, (n, fin, _) in MATERIALS.items()
        },
        "brands": [{"en": b.name, "zh": b.zh, "mark": b.form, "outline": b.outline} for b in BRANDS],
        "styles": list(STYLES),
        "order": {
            "category": [c.key for c in CATEGORIES],
            "colour": list(COLOURS),
            "brand": [b.name for b in BRANDS],
        },
        "utility": users.UTILITY,
        "examine_by_position": list(behaviour.EXAMINE),
        "click": behaviour.CLICK,
        "exposure": behaviour.EXPOSURE,
        "action_share": dict(zip(behaviour.ACTIONS, behaviour.ACTION_SHARE, strict=True)),
        "corrupt_share": behaviour.CORRUPT_SHARE,
        "creative": creatives.WEIGHTS,
        "creative_terms": list(creatives.TERMS),
    }
