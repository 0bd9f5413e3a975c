"""The verb ``augment``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from moonshelf.errors import InputError

if TYPE_CHECKING:
    from moonshelf.augment.makers import Makers
    from moonshelf.remote import Endpoint
    from moonshelf.shop.shop import Shop


def augment_options(p: argparse.ArgumentParser) -> None:
    """The options of the verb, beside the shop."""
    p.add_argument(
        "--out", required=True, metavar="DIR", help="then train with --set posttrain.augmented=DIR"
    )
    p.add_argument(
        "--encoder",
        default="compact",
        metavar="PATH",
        help="who checks that title and photo agree (default: compact)",
    )
    p.add_argument("--unchecked", action="store_true", help="keep everything that was made")
    p.add_argument("--chat", metavar="URL", help="titles by a model behind an OpenAI-compatible endpoint")
    p.add_argument("--chat-model", metavar="NAME")
    p.add_argument("--no-photos-to-chat", action="store_true", help="for models that read texts alone")
    p.add_argument("--edit", metavar="URL", help="photos by an image-edit model behind such an endpoint")
    p.add_argument("--edit-model", metavar="NAME")
    p.add_argument("--at-a-time", type=int, default=8, metavar="N", help="products asked about at once (8)")
    p.add_argument("--budget", type=int, default=0, metavar="N", help="calls at most, of each endpoint")
    p.add_argument("--answers", metavar="DIR", help="where answers are kept, to be paid for once")
    for what in ("chat", "edit"):
        p.add_argument(
            f"--{what}-key-variable",
            default="",
            metavar="NAME",
            help="environment variable with its key (default: OPENAI_API_KEY for api.openai.com, none for others)",
        )


def augment_verb(a: argparse.Namespace) -> int:
    """Make, check and write; returns the exit code."""
    from moonshelf.augment.make import AugmentConfig, augment
    from moonshelf.encoder import load_encoder
    from moonshelf.evaluation.benchmark import of_encoder
    from moonshelf.pipeline import device
    from moonshelf.shop.shop import cache_home, open_shop

    asked: dict[str, Endpoint] = {}
    for what in ("chat", "edit"):
        url, model = getattr(a, what), getattr(a, f"{what}_model")
        if (url is None) != (model is None):
            raise InputError(
                f"an endpoint is an address and a model: --{what} and --{what}-model", mend="give both"
            )
        if url is not None:
            from moonshelf.remote import Endpoint, EndpointConfig

            config = EndpointConfig(
                url=url, model=model, key_variable=getattr(a, f"{what}_key_variable"), budget=a.budget
            )
            asked[what] = Endpoint(config, Path(a.answers) if a.answers else cache_home() / "answers")
    shop = open_shop(a.shop, fetch=a.fetch)
    encoder = None if a.unchecked else load_encoder(a.encoder, device())
    try:
        folder = augment(
            shop,
            Path(a.out),
            None if encoder is None else of_encoder(encoder),
            AugmentConfig(seed=a.seed or 0),
            makers=_makers(shop, asked, a) if asked else None,
            checked_by="" if encoder is None else encoder.version,
        )
    finally:
        for what, one in asked.items():
            print(f"{what}  {one.calls} calls, {one.cached} answers found, {one.tokens:,} tokens")
    counts = json.loads((folder / "counts.json").read_text())
    print(f"made  {folder}  {counts['images']} photos, {counts['texts']} titles")
    for why, n in counts["left_out"].items():
        print(f"left out  {n}: {why}")
    return 0


def _makers(shop: Shop, asked: dict[str, Endpoint], a: argparse.Namespace) -> Makers:
    from moonshelf.augment.endpoints import ChatWriter, EditPainter
    from moonshelf.augment.makers import Makers, Rules
    from moonshelf.errors import TooLittleData
    from moonshelf.shop.gazetteer import Gazetteer

    if shop.products is None:
        raise TooLittleData("there are no products", where=shop.name, mend="add the table products")
    rules = Rules(Gazetteer.of_products(shop.products))
    return Makers(
        ChatWriter(asked["chat"], pictured=not a.no_photos_to_chat) if "chat" in asked else rules,
        EditPainter(asked["edit"]) if "edit" in asked else rules,
        max(1, a.at_a_time),
    )
