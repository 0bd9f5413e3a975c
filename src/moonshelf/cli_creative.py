"""The verb ``creative``: train a selector of creatives, measure it, ask it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from moonshelf.cli_shop import shop_argument
from moonshelf.errors import InputError

PARTS = ("train", "evaluate", "select")


def creative_options(verbs: Any) -> None:
    """Add the verb with its three forms."""
    parser = verbs.add_parser(
        "creative",
        help="choose between creatives and say why",
        description="Choose between advertising creatives and say why.",
        epilog="example: moonshelf creative select --model work a.jpg b.jpg",
    )
    forms = parser.add_subparsers(dest="what", required=True, metavar="FORM")
    p = forms.add_parser(
        "train",
        help="learn from a shop's table creatives",
        epilog="example: moonshelf creative train my-shop --work work",
    )
    shop_argument(p)
    p.add_argument("--work", required=True, metavar="DIR", help="the selector goes to DIR/creative")
    p.add_argument(
        "--backbone", metavar="smol|hf:PATH",
        help="train a language model that writes the comparison, too (needs moonshelf[vlm])",
    )  # fmt: skip
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change one setting: rules.z, rules.by, rules.gap, reason.hint, sft.epochs, grpo.steps ...",
    )  # fmt: skip
    p.add_argument("--encoder", metavar="PATH", help="default: the work folder's, or compact")
    p.add_argument(
        "--language", choices=("smol",), default="",
        help="the selector reads texts with a frozen language model, too (needs moonshelf[vlm])",
    )  # fmt: skip
    p.add_argument(
        "--teacher", metavar="URL", help="traces by a chat model behind an OpenAI-compatible endpoint"
    )
    p.add_argument("--teacher-model", metavar="NAME")
    p.add_argument("--no-photos-to-teacher", action="store_true", help="for models that read texts alone")
    p.add_argument("--at-a-time", type=int, default=8, metavar="N", help="questions to it at once (8)")
    p.add_argument("--budget", type=int, default=0, metavar="N", help="calls at most; 0: no limit")
    p.add_argument("--answers", metavar="DIR", help="where its answers are kept, to be paid for once")
    p.add_argument(
        "--teacher-key-variable", default="", metavar="NAME",
        help="environment variable with its key (default: OPENAI_API_KEY for api.openai.com, none for others)",
    )  # fmt: skip
    p = forms.add_parser(
        "evaluate",
        help="accuracy on the pairs of a split, asked in both orders",
        epilog="example: moonshelf creative evaluate my-shop --model work --json out.json",
    )
    shop_argument(p)
    p.add_argument("--model", required=True, metavar="PATH", help="work folder or its folder creative")
    p.add_argument("--split", choices=("train", "val", "test"), default="test")
    p.add_argument("--fast", action="store_true", help="do not ask the reasoner, if there is one")
    p.add_argument("--zero-shot", action="store_true", help="ask its backbone as it came, too")
    p.add_argument("--limit", type=int, default=0, metavar="N", help="at most N pairs, drawn by lot")
    p.add_argument("--encoder", metavar="PATH")
    p.add_argument("--json", metavar="FILE")
    p = forms.add_parser(
        "select",
        help="the best of two or more creatives, and why",
        epilog="example: moonshelf creative select --model work --title 'red mug' --query 'gift for her' a.jpg b.jpg",
    )
    p.add_argument(
        "creatives", nargs="+", metavar="CREATIVE", help="files of pictures, or texts, as it was trained on"
    )
    p.add_argument("--model", required=True, metavar="PATH")
    p.add_argument("--title", default="", metavar="T", help="of the product")
    p.add_argument(
        "--words",
        action="append",
        default=[],
        metavar="T",
        help="on each picture, in their order ('' for none)",
    )
    p.add_argument("--product-photo", metavar="FILE", help="the product's own photo, on plain ground")
    p.add_argument("--query", action="append", default=[], metavar="Q", help="what its buyers search for")
    p.add_argument(
        "--other-query", action="append", default=[], metavar="Q",
        help="choose for people who search for this instead, too",
    )  # fmt: skip
    p.add_argument(
        "--close",
        type=float,
        default=None,
        metavar="P",
        help="no verdict below this probability (default: 0.55)",
    )
    p.add_argument("--fast", action="store_true", help="do not ask the reasoner, if there is one")
    p.add_argument(
        "--sheet", metavar="OUT.html", help="draw the creatives with the verdict of every question"
    )
    p.add_argument("--encoder", metavar="PATH")
    p.add_argument("--json", metavar="FILE")
    for name in ("train", "evaluate"):
        forms.choices[name].add_argument(
            "--seed", type=int, default=None, help="seed of everything random (default: 0)"
        )
    parser.set_defaults(call=creative_verb)


def creative_verb(a: argparse.Namespace) -> int:
    """Do one of the three; returns the exit code."""
    return {"train": _train, "evaluate": _evaluate, "select": _select}[a.what](a)


def _train(a: argparse.Namespace) -> int:
    from moonshelf import choosing
    from moonshelf.config import override
    from moonshelf.creative.backbones import check_backbone
    from moonshelf.creative.config import CreativeConfig, check
    from moonshelf.shop.shop import open_shop

    config = override(CreativeConfig(), a.set)
    check(config)
    if (a.teacher is None) != (a.teacher_model is None):
        raise InputError(
            "an endpoint is an address and a model: --teacher and --teacher-model", mend="give both"
        )
    for name, given in (
        ("--budget", a.budget), ("--answers", a.answers), ("--no-photos-to-teacher", a.no_photos_to_teacher),
        ("--teacher-key-variable", a.teacher_key_variable),
    ):  # fmt: skip
        if given and a.teacher is None:
            raise InputError(f"{name} is of a teacher behind an endpoint", mend="add --teacher")
    if a.teacher and not a.backbone:
        raise InputError("a teacher writes for a language model", mend="add --backbone")
    if a.backbone:
        check_backbone(a.backbone)
    work, seed = Path(a.work), a.seed or 0
    shop = open_shop(a.shop, cache=work / "shop", require_products=False, fetch=a.fetch)
    encoder = choosing.encoder_for(work, a.encoder)
    folder = choosing.train_creative(shop, work, encoder, config.rules, seed=seed, language=a.language)
    print(f"creative selector  {folder}")
    if a.backbone:
        from moonshelf.reasoning import train_reasoner

        teaching = _teaching(a)
        folder = train_reasoner(shop, work, encoder, a.backbone, config, seed=seed, teaching=teaching)
        print(f"creative reasoner  {folder}")
    return 0


def _teaching(a: argparse.Namespace) -> Any:
    """The teacher behind an endpoint, if one is named."""
    if a.teacher is None:
        return None
    from moonshelf.creative.endpoint_teacher import TOLD, teach_by_endpoint
    from moonshelf.creative.samples import Sample
    from moonshelf.reasoning import Teaching
    from moonshelf.remote import Endpoint, EndpointConfig
    from moonshelf.shop.shop import cache_home
    from moonshelf.workspace import digest

    config = EndpointConfig(
        url=a.teacher, model=a.teacher_model, key_variable=a.teacher_key_variable, budget=a.budget
    )
    endpoint = Endpoint(config, Path(a.answers) if a.answers else cache_home() / "answers")
    pictured = not a.no_photos_to_teacher

    def write(samples: list[Sample]) -> tuple[list[Sample], dict[str, int]]:
        try:
            return teach_by_endpoint(endpoint, samples, pictured=pictured, at_a_time=a.at_a_time)
        finally:
            print(
                f"teacher  {endpoint.calls} calls, {endpoint.cached} answers found, {endpoint.tokens:,} tokens"
            )

    return Teaching(f"{a.teacher_model} {digest([a.teacher, TOLD, pictured])}", write)


def _evaluate(a: argparse.Namespace) -> int:
    from moonshelf import choosing
    from moonshelf.creative.chooser import load_chooser
    from moonshelf.shop.shop import open_shop
    from moonshelf.workspace import write_json

    if a.limit < 0:
        raise InputError(f"--limit is {a.limit}", mend="give a number of pairs, or 0 for all")
    encoder = choosing.encoder_for(a.model, a.encoder, load_chooser(a.model))
    shop = open_shop(a.shop, require_products=False, fetch=a.fetch)
    result = choosing.evaluate_creative(
        shop,
        a.model,
        encoder,
        split=a.split,
        seed=a.seed or 0,
        words=not a.fast,
        zero_shot=a.zero_shot,
        limit=a.limit,
    )
    if a.json:
        write_json(Path(a.json), result.to_json())
    print(result)
    return 0


def _select(a: argparse.Namespace) -> int:
    from moonshelf import choosing
    from moonshelf.creative.choose import read_creatives, select
    from moonshelf.creative.chooser import load_chooser
    from moonshelf.creative.tournament import CLOSE
    from moonshelf.pipeline import device
    from moonshelf.reasoning import choose_by_words, has_reasoner
    from moonshelf.workspace import write_json

    close = CLOSE if a.close is None else a.close
    if not 0.5 <= close <= 1:
        raise InputError(f"--close is {close}", mend="give a probability from 0.5 to 1")
    chooser = load_chooser(a.model)
    creatives = read_creatives(a.creatives, chooser, a.title, a.query, words=a.words, photo=a.product_photo)
    encoder = choosing.encoder_for(a.model, a.encoder, chooser)
    others = [replace(c, queries=tuple(a.other_query)) for c in creatives] if a.other_query else None
    if not a.fast and has_reasoner(a.model):
        found = choose_by_words(a.model, chooser, encoder, creatives, a.creatives, close=close)
        other = (
            choose_by_words(a.model, chooser, encoder, others, a.creatives, close=close) if others else None
        )
    else:
        from moonshelf.creative.backbones import read_with

        language = read_with(chooser.language, device())
        found = select(chooser, encoder, creatives, a.creatives, close=close, language=language)
        other = (
            select(chooser, encoder, others, a.creatives, close=close, language=language) if others else None
        )
    if a.json:
        told = found.to_json() | ({"other": other.to_json()} if other is not None else {})
        write_json(Path(a.json), told)
    if a.sheet:
        from moonshelf.report.verdicts import write_verdicts

        write_verdicts(found, creatives, chooser.kind, Path(a.sheet), other=other)
    print(found)
    if other is not None:
        print(other)
    if a.sheet:
        print(f"sheet  {a.sheet}")
    return 0
