"""The verb ``rank``: train and evaluate a click model, and ask the three stages together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshelf.cli_shop import fetch_option, shop_argument

PARTS = ("train", "evaluate", "query")
EXAMPLES = """examples:
  moonshelf rank train my-shop --shelf work/shelf --work work
  moonshelf rank evaluate my-shop --model work --json rank.json
  moonshelf rank work --text 'linen dress' --user u17"""


def rank_options(verbs: Any) -> None:
    """The verb with its three forms."""
    parser = verbs.add_parser(
        "rank",
        help="train, evaluate and ask a click model",
        description="Train and evaluate a click model; with a work folder, products for a query and a user.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    forms = parser.add_subparsers(dest="what", required=True, metavar="{train,evaluate} or a work folder")

    p = forms.add_parser("train", help="learn from impressions, or from acts beside drawn negatives")
    shop_argument(p)
    p.add_argument("--shelf", metavar="DIR", help="product vectors (default: the work folder's)")
    p.add_argument("--encoder", metavar="PATH", help="for past queries (default: the one of the shelf)")
    p.add_argument("--work", required=True, metavar="DIR")
    p.add_argument("--recipe", default="laptop", help="its settings ranking.* (default: %(default)s)")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="e.g. ranking.model.interest=din"
    )

    p = forms.add_parser("evaluate", help="GAUC, AUC, calibration and more on the rows of test")
    shop_argument(p)
    p.add_argument("--model", required=True, metavar="PATH", help="work folder, or its folder ranking")
    p.add_argument("--shelf", metavar="DIR")
    p.add_argument("--encoder", metavar="PATH")
    p.add_argument("--json", metavar="FILE")

    p = forms.add_parser("query", help="products for a query and a user")
    p.add_argument("model", metavar="WORK")
    p.add_argument("--text", metavar="T")
    p.add_argument("--image", metavar="FILE")
    p.add_argument("--user", metavar="ID")
    p.add_argument("-k", type=int, default=10, help="products to show (default: %(default)s)")
    p.add_argument("--pool", type=int, default=100, help="candidates that are ranked (default: %(default)s)")
    p.add_argument("--least-grade", type=float, metavar="G", help="leave out what relevance grades lower")
    p.add_argument("--relevance", metavar="PATH", help="relevance model (default: the work folder's, if any)")
    p.add_argument("--new", action="store_true", help="leave out what the user has acted on")
    p.add_argument("--category", help="keep this category and those below it")
    p.add_argument("--min-price", type=float)
    p.add_argument("--max-price", type=float)
    p.add_argument("--shop", metavar="SHOP", help="default: the one that the work folder has read")
    fetch_option(p)
    p.add_argument("--shelf", metavar="DIR")
    p.add_argument("--encoder", metavar="PATH")
    p.add_argument("--json", metavar="FILE")
    for form in forms.choices.values():
        form.add_argument("--seed", type=int, default=None, help="seed of everything random (default: 0)")
    parser.set_defaults(call=rank_verb)


def rank_words(words: list[str]) -> list[str]:
    """``rank WORK ...`` as ``rank query WORK ...``."""
    asks = words[:1] == ["rank"] and len(words) > 1 and words[1] not in (*PARTS, "-h", "--help")
    return ["rank", "query", *words[1:]] if asks else words


def rank_verb(a: argparse.Namespace) -> int:
    """Do one of the three; returns the exit code."""
    return {"train": _train, "evaluate": _evaluate, "query": _query}[a.what](a)


def _train(a: argparse.Namespace) -> int:
    from moonshelf import applying, commands
    from moonshelf.shop.shop import open_shop

    config = commands.resolve(a.recipe, a.set, a.seed)
    work = Path(a.work)
    shop = open_shop(a.shop, cache=work / "shop", fetch=a.fetch)
    folder = applying.train_rank(shop, work, config, a.shelf, a.encoder)
    print(f"click model  {folder}")
    return 0


def _evaluate(a: argparse.Namespace) -> int:
    from moonshelf import applying
    from moonshelf.shop.shop import open_shop
    from moonshelf.workspace import write_json

    result = applying.evaluate_rank(
        open_shop(a.shop, fetch=a.fetch), a.model, shelf=a.shelf, encoder=a.encoder, seed=a.seed or 0
    )
    if a.json:
        write_json(Path(a.json), result.to_json())
    print(result)
    return 0


def _query(a: argparse.Namespace) -> int:
    from moonshelf import applying
    from moonshelf.ranking.joined import format_ranked, ranked_json
    from moonshelf.workspace import write_json

    shop = applying.shop_of(a.model, a.shop, a.fetch)
    grader = None
    if (a.text or "").strip() or a.relevance:  # without a text nothing is graded
        grader = applying.open_grader(a.model, a.relevance, shop, shelf=a.shelf, encoder=a.encoder)
    stages, encoder = applying.open_stages(shop, a.model, shelf=a.shelf, encoder=a.encoder, grader=grader)
    price = (a.min_price, a.max_price) if a.min_price is not None or a.max_price is not None else None
    found = applying.rank(
        stages, encoder, text=a.text, image=a.image, user=a.user, k=a.k, pool=a.pool, least=a.least_grade,
        category=a.category, price=price, again=not a.new,
    )  # fmt: skip
    if a.json:
        asked = {"text": a.text, "image": a.image, "user": a.user}
        write_json(Path(a.json), {"query": asked, "products": ranked_json(found)})
    print(format_ranked(found))
    return 0
