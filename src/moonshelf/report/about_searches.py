"""Example searches as pictures: the query, what was found, which of it was right."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moonshelf.errors import InputError
from moonshelf.report.inputs import NAMES, STEPS, Findings, last, mapping_list
from moonshelf.report.markup import DASH, Html, count, number, section, sentence, tag, text
from moonshelf.report.pictures import Pictures
from moonshelf.shelf.search import fit
from moonshelf.shop.shop import Shop
from moonshelf.types import Product

BUDGET = 1_200_000
EACH, TEXTS_EACH, SHOWN = 6, 3, 5
Example = dict[str, Any]
Reader = Callable[[str], Product | None]


def usable(example: Example) -> bool:
    """Whether an example has what is drawn: a rank, right products, products found."""
    ids = example.get("top"), example.get("positives")
    return all(isinstance(i, list) and i for i in ids) and (number(example.get("rank")) or 0) >= 1


def choose(examples: Sequence[Example], wanted: int, category: Callable[[Example], str]) -> list[Example]:
    """``wanted`` examples, the same each time: by a hash of the query, new categories first."""

    def mark(example: Example) -> str:
        key = f"{example.get('query_id')}|{example.get('query_image_id')}|{example.get('query_text')}"
        return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()

    left = sorted(examples, key=mark)
    chosen: list[Example] = []
    seen: Counter[str] = Counter()
    while left and len(chosen) < wanted:
        best = min(left, key=lambda e: seen[category(e)])
        left.remove(best)
        seen[category(best)] += 1
        chosen.append(best)
    return chosen


def searches_section(found: Findings) -> Html:
    """Searches by photo, then by text, each found first and not found first."""
    pictures = Pictures(found.shop.images, BUDGET)
    products = _reader(found.shop)
    parts = [
        part
        for title, results, each in (("photo", found.image, EACH), ("text", found.text, TEXTS_EACH))
        if results
        for part in _block(title, results, each, pictures, products)
    ]
    if not parts:
        parts = [sentence("No search was evaluated: that stage was not run.", class_="none")]
    return section("searches", "Example searches", *parts)


def _block(
    title: str, results: Mapping[str, dict[str, Any]], each: int, pictures: Pictures, products: Reader
) -> list[Html]:
    step = last(results) or STEPS[0]
    examples = [e for e in mapping_list(results[step], "examples") if usable(e)]
    if not examples:
        return [sentence(f"The evaluation of the search by {title} kept no examples.", class_="none")]
    earlier = mapping_list(results.get("untrained", {}), "examples") if step != "untrained" else []
    before = {str(e.get("query_id")): e["rank"] for e in earlier if usable(e)}

    def category(example: Example) -> str:
        product = products(str(example["positives"][0]))
        return product.category if product else ""

    right = choose([e for e in examples if e["rank"] == 1], each, category)
    wrong = choose([e for e in examples if e["rank"] > 1], each, category)
    parts = [
        sentence(
            f"Search by {title}, {NAMES[step]}: {len(right) + len(wrong)} of {count(len(examples))} kept "
            "searches, drawn by a hash over different categories. Right and wrong ones are drawn apart, so "
            "their numbers here say nothing about recall.",
            class_="small lead",
        )
    ]
    for kind, chosen in (("found first", right), ("not found first", wrong)):
        if chosen:
            parts.append(tag("h3", f"By {title}, {kind}"))
            parts += [_search(e, pictures, products, before.get(str(e.get("query_id")))) for e in chosen]
        else:
            parts.append(sentence(f"No kept example of the search by {title} was {kind}.", class_="none"))
    return parts


def _reader(shop: Shop) -> Reader:
    def read(product_id: str) -> Product | None:
        try:
            return shop.product(product_id)
        except InputError:  # a product of a distractor shop
            return None

    return read


def _search(example: Example, pictures: Pictures, products: Reader, before: object) -> Html:
    rank, right = int(example["rank"]), [str(p) for p in example["positives"]]
    asked: list[object] = []
    if example.get("query_image_id"):
        asked.append(pictures.photo(str(example["query_image_id"]), side=128, alt="query photo"))
    if example.get("query_text"):
        asked.append(tag("q", fit(str(example["query_text"])[:2000], 120)))
    asked.append(f"right product at rank {rank:,}")
    if number(before) is not None and before != rank:
        asked.append(tag("div", f"before training: rank {count(before)}"))
    answers = [
        _answer(str(p), f"{'✓' if str(p) in right else '✗'} {i}", str(p) in right, pictures, products)
        for i, p in enumerate(example["top"][:SHOWN], 1)
    ]
    if not any(str(p) in right for p in example["top"][:SHOWN]):
        told = (
            f"right one, rank {rank:,}"
            if len(right) == 1
            else f"one of {len(right)} right ones, best at rank {rank:,}"
        )
        answers.append(_answer(right[0], told, True, pictures, products, " sought"))
    return tag(
        "div", tag("div", *asked, class_="ask"), tag("div", *answers, class_="answers"), class_="search"
    )


def _answer(
    product_id: str,
    told: str,
    right: bool,
    pictures: Pictures,
    products: Reader,
    extra: str = "",
) -> Html:
    product = products(product_id)
    if product is None:
        picture: Html = tag("span", "product of another shop", class_="nophoto")
        name, hint = product_id, product_id
    else:
        picture = pictures.photo(
            product.image_ids[0] if product.image_ids else None, side=104, alt=fit(product.title[:400], 60)
        )
        name = product.title or product.category or product_id
        hint = " · ".join(part[:200] for part in (product.title, product.category, product_id) if part)
    caption = tag("figcaption", tag("b", told), tag("span", fit(name[:400], 60) or DASH))
    return tag(
        "figure",
        tag("span", picture, class_="frame"),
        caption,
        class_=("right" if right else "wrong") + extra,
        title=text(hint),
    )
