"""Titles, descriptions, attributes and text queries: as noisy as people write, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.words import BRANDS, COLOURS, MATERIALS, PATTERNS, Names

LANGUAGES = ("en", "zh", "mixed")
LANGUAGE_SHARE = (0.60, 0.25, 0.15)
_FILLER = (
    (
        "new",
        "hot sale",
        "2025",
        "best seller",
        "free shipping",
        "high quality",
        "trendy",
        "premium",
        "original",
    ),
    ("新款", "热卖", "2025", "爆款", "包邮", "高品质", "网红", "正品", "ins风"),
)
_AUDIENCE = (
    ("for home", "for women", "for men", "gift", "everyday", "unisex"),
    ("家用", "女士", "男士", "送礼", "日常", "通用"),
)
INTERESTS: dict[str, tuple[str, str]] = {
    "gift": ("gift", "礼物"),
    "office": ("office", "办公室"),
    "budget": ("cheap", "便宜"),
    "kids": ("kids", "儿童"),
    "outdoor": ("outdoor", "户外"),
    "travel": ("travel", "旅行"),
    "gym": ("gym", "健身"),
    "party": ("party", "派对"),
    "luxury": ("luxury", "高档"),
    "minimal": ("minimalist", "简约"),
    "vintage": ("vintage", "复古"),
}
ATTRIBUTES = ("colour", "pattern", "material", "shape", "brand")


def _pick(rng: np.random.Generator, names: Names, lang: int, usual: float = 0.65) -> str:
    options = names[lang]
    return options[0] if rng.random() < usual else str(options[int(rng.integers(len(options)))])


def typo(text: str, rng: np.random.Generator) -> str:
    """One slip of the finger in a longer Latin word: a letter lost, doubled or swapped."""
    words = text.split(" ")
    long = [i for i, w in enumerate(words) if len(w) > 4 and w.isascii() and w.isalpha()]
    if not long:
        return text
    i = long[int(rng.integers(len(long)))]
    w, at = words[i], int(rng.integers(1, len(words[i]) - 1))
    kind = int(rng.integers(3))
    words[i] = w[:at] + (
        w[at + 1 :] if kind == 0 else w[at] + w[at:] if kind == 1 else w[at + 1] + w[at] + w[at + 2 :]
    )
    return " ".join(words)


def _facts(item: Item, rng: np.random.Generator, lang: int) -> dict[str, str]:
    brand = BRANDS[item.brand]
    facts = {
        "brand": brand.name if lang == 0 or rng.random() < 0.45 else brand.zh,
        "colour": _pick(rng, COLOURS[item.colour][1], lang),
        "material": _pick(rng, MATERIALS[item.material][0], lang),
        "shape": item.shape_name[lang],
        "category": _pick(rng, item.info.names, lang),
    }
    if item.pattern != "plain" or rng.random() < 0.2:
        facts["pattern"] = _pick(rng, PATTERNS[item.pattern], lang)
    return facts


def title(item: Item, rng: np.random.Generator) -> tuple[str, str]:
    """A seller's title and its language (LANGUAGES): facts left out, order shuffled, filler, at times a
    typo.
    """
    language = LANGUAGES[int(rng.choice(3, p=LANGUAGE_SHARE))]
    lang = 0 if language == "en" else 1
    facts = _facts(item, rng, lang)
    keep = {"brand": 0.74, "colour": 0.78, "material": 0.62, "shape": 0.5, "pattern": 0.75, "category": 1.0}
    words = [(k, w) for k, w in facts.items() if rng.random() < keep[k]]
    if language == "mixed":
        other = _facts(item, rng, 0)
        words = [(k, other.get(k, w)) if rng.random() < 0.45 else (k, w) for k, w in words]
    order = ["brand", "colour", "pattern", "material", "shape", "category"]
    words.sort(key=lambda kw: order.index(kw[0]))
    if rng.random() < 0.3:
        words = [words[int(i)] for i in rng.permutation(len(words))]
    parts = [w for _, w in words]
    for bank, chance in ((_FILLER, 0.38), (_AUDIENCE, 0.3)):
        if rng.random() < chance:
            parts.insert(int(rng.choice([0, len(parts)])), bank[lang][int(rng.integers(len(bank[lang])))])
    if language == "zh":
        return ("" if rng.random() < 0.7 else " ").join(parts), language
    text = " ".join(parts)
    if language == "en":
        style = rng.random()
        text = (
            text.title().replace("T-Shirt", "T-shirt")
            if style < 0.45
            else text.upper()
            if style < 0.5
            else text
        )
    return (typo(text, rng) if rng.random() < 0.14 else text), language


def description(item: Item, language: str, rng: np.random.Generator) -> str:
    """One to three sentences; about one product in six has none."""
    if rng.random() < 0.16:
        return ""
    if language == "en" or (language == "mixed" and rng.random() < 0.5):
        f = _facts(item, rng, 0)
        f["material"] = MATERIALS[item.material][0][0][0]  # the noun reads better in a sentence
        lines = [
            f"A {f['shape']} {f['category']} in {f['colour']}, made of {f['material']}.",
            f"{f['brand']} design with {f['pattern']} look."
            if "pattern" in f
            else f"Clean design by {f['brand']}.",
            f"Fits every day and makes a good {INTERESTS[item.info.scenes[int(rng.integers(4))]][0]} choice.",
        ]
        return " ".join(lines[: int(rng.integers(1, 4))])
    f = _facts(item, rng, 1)
    lines = [
        f"{f['colour']}{f['category']}，{f['shape']}设计，{f['material']}材质。",
        f"{f['brand']}出品" + (f"，{f['pattern']}图案。" if "pattern" in f else "，简洁大方。"),
        f"适合{INTERESTS[item.info.scenes[int(rng.integers(4))]][1]}。",
    ]
    return "".join(lines[: int(rng.integers(1, 4))])


@dataclass(frozen=True)
class Fault:
    """An attribute that the seller left out (``written`` None) or got wrong."""

    product_id: str
    attribute: str
    true: str
    written: str | None


def true_attributes(item: Item) -> dict[str, str]:
    """What is true of the item, by the usual English words."""
    return {
        "colour": COLOURS[item.colour][1][0][0],
        "pattern": PATTERNS[item.pattern][0][0],
        "material": MATERIALS[item.material][0][0][0],
        "shape": item.shape_name[0],
        "brand": BRANDS[item.brand].name,
    }


def attributes(item: Item, rng: np.random.Generator) -> tuple[dict[str, str], list[Fault]]:
    """The attributes as written, and every fault in them: 14% missing, 5% wrong (never the brand)."""
    written: dict[str, str] = {}
    faults = []
    for name, value in true_attributes(item).items():
        dice = rng.random()
        if dice < 0.14:
            faults.append(Fault(item.product_id, name, value, None))
            continue
        if dice < 0.19 and name in ("colour", "pattern", "material"):
            if name == "colour":
                others = [n[0][0] for _, n in COLOURS.values()]
            elif name == "pattern":
                others = [n[0][0] for n in PATTERNS.values()]
            else:
                others = [MATERIALS[m][0][0][0] for m in MATERIALS]
            wrong = [o for o in others if o != value]
            written[name] = wrong[int(rng.integers(len(wrong)))]
            faults.append(Fault(item.product_id, name, value, written[name]))
            continue
        written[name] = value
    return written, faults


@dataclass(frozen=True)
class Query:
    """A text query and what it asks for: factor name -> key (category always; colour, pattern, material,
    shape, brand).
    """

    text: str
    language: str
    asks: tuple[tuple[str, str], ...]

    def grade(self, item: Item) -> float:
        """True relevance 0..3: 0 another category, else 1 + 2 * share of the other asked factors that
        hold.
        """
        asked = dict(self.asks)
        if asked.pop("category") != item.category:
            return 0.0
        if not asked:
            return 3.0
        true = factors(item)
        return round(1.0 + 2.0 * sum(true[k] == v for k, v in asked.items()) / len(asked), 3)


def factors(item: Item) -> dict[str, str]:
    """The factors a query can ask for, by key."""
    return {
        "category": item.category,
        "colour": item.colour,
        "pattern": item.pattern,
        "material": item.material,
        "shape": item.shape_name[0],
        "brand": BRANDS[item.brand].name,
    }


def query(item: Item, rng: np.random.Generator, zh: bool, most: int = 3) -> Query:
    """What a shopper who wants ``item`` types: the category and up to ``most`` factors, with synonyms and
    typos.
    """
    lang = int(zh)
    names = ["colour", "pattern", "material", "shape", "brand"]
    weights = np.asarray([0.42, 0.24 if item.pattern != "plain" else 0.03, 0.14, 0.1, 0.1])
    count = min(most, int(rng.choice([0, 1, 2, 3], p=[0.08, 0.44, 0.36, 0.12])))
    chosen = [names[int(i)] for i in rng.choice(5, count, replace=False, p=weights / weights.sum())]
    words = {
        "colour": _pick(rng, COLOURS[item.colour][1], lang, 0.6),
        "pattern": _pick(rng, PATTERNS[item.pattern], lang, 0.6),
        "material": _pick(rng, MATERIALS[item.material][0], lang, 0.6),
        "shape": item.shape_name[lang],
        "brand": BRANDS[item.brand].zh if zh and rng.random() < 0.5 else BRANDS[item.brand].name,
    }
    parts = [*(words[c] for c in chosen), _pick(rng, item.info.names, lang, 0.6)]
    text = ("" if zh and rng.random() < 0.75 else " ").join(parts)
    if not zh and rng.random() < 0.09:
        text = typo(text, rng)
    true = factors(item)
    return Query(text, "zh" if zh else "en", (("category", item.category), *((c, true[c]) for c in chosen)))


def interest_queries(item: Item, interest: str, rng: np.random.Generator) -> list[str]:
    """Five frequent queries of a product; three carry its main interest, the others another one."""
    out = []
    for k in range(5):
        scenes = item.info.scenes
        theme = interest if k < 3 else str(scenes[int(rng.integers(len(scenes)))])
        lang = int(rng.random() < 0.25)
        extra = _pick(rng, COLOURS[item.colour][1], lang) if rng.random() < 0.4 else ""
        words = [w for w in (INTERESTS[theme][lang], extra, _pick(rng, item.info.names, lang)) if w]
        out.append(("" if lang else " ").join(words))
    return [out[int(i)] for i in rng.permutation(5)]
