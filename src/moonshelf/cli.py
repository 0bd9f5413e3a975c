"""The command line: one verb a stage. Parses, calls one function, prints one summary.

Exit codes: 0 done, 1 bad input (one clear line on stderr), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from moonshelf import __version__
from moonshelf.cli_augment import augment_options, augment_verb
from moonshelf.cli_creative import creative_options
from moonshelf.cli_evaluate import WHAT, evaluate, evaluate_options
from moonshelf.cli_rank import rank_options, rank_words
from moonshelf.cli_relevance import evaluate_relevance, relevance_options, relevance_verb
from moonshelf.cli_shop import shop_argument
from moonshelf.errors import InputError
from moonshelf.workspace import full_disk

NOT_BUILT = {
    "study": "exchange rate and scaling studies",
    "export": "ONNX and sentence-transformers export",
    "serve": "HTTP API and web page",
}


def _demo(a: argparse.Namespace) -> int:
    from moonshelf import commands
    from moonshelf.shop.demo import make_demo_shop

    config = commands.resolve(a.recipe, a.set, a.seed)
    out = Path(a.out)
    shop = commands.demo_shop(out / "demo-shop", products=a.products, seed=config.seed, make=make_demo_shop)
    _print(commands.run(shop, out, config))
    return 0


def _check(a: argparse.Namespace) -> int:
    from moonshelf.shop.check import check_report, format_check
    from moonshelf.shop.shop import open_shop
    from moonshelf.workspace import write_json

    report = check_report(open_shop(a.shop, require_products=False, fetch=a.fetch))
    if a.json:
        write_json(Path(a.json), report)
    print(format_check(report))
    return 0 if report["usable"] else 1


def _run(a: argparse.Namespace) -> int:
    from moonshelf import commands

    config = commands.resolve(a.recipe, a.set, a.seed)
    _print(
        commands.run(
            Path(a.shop),
            Path(a.work),
            config,
            extra=_paths(a.extra),
            distractors=_paths(a.distractors),
            fetch=a.fetch,
        )
    )
    return 0


def _train(a: argparse.Namespace) -> int:
    from moonshelf import commands, pipeline
    from moonshelf.shop.shop import open_shop
    from moonshelf.training.distributed import in_turn, joined

    config = commands.resolve(a.recipe, a.set, a.seed)
    work = Path(a.work)
    name: pipeline.StageName = "posttrain2" if getattr(a, "second", False) else a.verb
    with joined() as first:
        with in_turn():
            shop = open_shop(a.shop, cache=work / "shop", fetch=a.fetch)
        folder = commands.train(
            name, shop, work, config, resume=a.resume, extra=_paths(a.extra), fetch=a.fetch
        )
        if first:
            print(f"encoder  {folder}")
    return 0


def _embed(a: argparse.Namespace) -> int:
    from moonshelf.encoder import load_encoder
    from moonshelf.pipeline import device
    from moonshelf.shelf import embed_shop
    from moonshelf.shop.shop import open_shop

    encoder = load_encoder(a.encoder, device())
    shelf = embed_shop(open_shop(a.shop, fetch=a.fetch), encoder, a.out, dim=a.dim, dtype=a.dtype)
    print(
        f"shelf  {a.out}  {len(shelf)} products, {shelf.dim} x {shelf.dtype}, encoder {shelf.encoder_version}"
    )
    return 0


def _search(a: argparse.Namespace) -> int:
    from moonshelf import commands, pipeline
    from moonshelf.shelf.search import format_hits, hits_json, search
    from moonshelf.workspace import write_json

    shelf, folder = pipeline.open_shelf(Path(a.shelf))
    encoder = pipeline.encoder_of(folder, a.encoder, shelf)
    price = (a.min_price, a.max_price) if a.min_price is not None or a.max_price is not None else None
    hits = search(shelf, encoder, text=a.text, image=a.image, k=a.k, category=a.category, price=price)
    if a.json:
        write_json(Path(a.json), {"query": {"text": a.text, "image": a.image}, "hits": hits_json(hits)})
    if a.sheet:  # before anything is printed: a reader that goes away (| head) must not cost the picture
        commands.draw_hits(hits, shelf, folder, text=a.text, image=a.image, shop=a.shop, out=Path(a.sheet))
    print(format_hits(hits))
    if a.sheet:
        print(f"contact sheet  {a.sheet}")
    return 0


def _evaluate(a: argparse.Namespace) -> int:
    return evaluate_relevance(a) if a.what == "relevance" else evaluate(a)


def _heatmap(a: argparse.Namespace) -> int:
    from moonshelf.encoder import load_encoder
    from moonshelf.pipeline import device
    from moonshelf.report.heatmap import heatmap, sides

    query, product = sides(a.image, a.text, a.against_image, a.against_text)
    encoders = {"after training": load_encoder(a.encoder, device())}
    before = load_encoder(a.before, device())
    if before.version != encoders["after training"].version:
        encoders = {"before": before, **encoders}
    else:
        encoders = {"untrained" if a.encoder == "compact" else "encoder": before}
    result = heatmap(encoders, query, product, Path(a.out), a.method)
    if a.json:
        from moonshelf.workspace import write_json

        write_json(Path(a.json), result)
    _print(f"{name:<24} similarity {found['similarity']:.3f}" for name, found in result.items())
    print(f"heatmap  {a.out}")
    return 0


def _doctor(a: argparse.Namespace) -> int:
    from moonshelf.doctor import examine

    findings = examine()
    _print(str(f) for f in findings)
    return 1 if any(f.level == "problem" for f in findings) else 0


def _print(lines: Any) -> None:
    for line in lines:
        print(line)


def _paths(values: Sequence[str] | None) -> list[Path]:
    return [Path(value) for value in values or ()]


def _verb(
    verbs: Any, name: str, what: str, example: str, call: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=f"example: moonshelf {example}",
    )
    parser.set_defaults(call=call)
    parser.add_argument(
        "--seed", type=int, default=None, help="seed of everything random (default: the recipe's, 0)"
    )
    return parser


def _recipe_options(parser: argparse.ArgumentParser, default: str = "laptop") -> None:
    parser.add_argument(
        "--recipe", default=default, help="laptop, thorough, demo, smoke, or v1 to v5 (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, e.g. posttrain.loop.epochs=3",
    )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="moonshelf", description="Product vectors from photos, texts and behaviour."
    )
    parser.add_argument("--version", action="version", version=f"moonshelf {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    p = _verb(verbs, "demo", "make the demo shop and run everything on it", "demo --out demo-work", _demo)
    p.add_argument("--out", default="demo-work", help="work folder (default: %(default)s)")
    p.add_argument("--products", type=int, default=3000, help="size of the shop (default: %(default)s)")
    _recipe_options(p, "demo")

    p = _verb(verbs, "check", "validate a shop folder; exit 1 if it cannot be used", "check my-shop", _check)
    shop_argument(p)
    p.add_argument("--json", metavar="FILE", help="write the report as JSON too")

    p = _verb(verbs, "run", "every stage that the shop's tables allow", "run my-shop --work work", _run)
    shop_argument(p)
    p.add_argument("--work", required=True, metavar="DIR", help="artefacts go here; run again to resume")
    p.add_argument(
        "--extra", nargs="*", metavar="SHOP", help="shops whose photos, texts and searches train along"
    )
    p.add_argument("--distractors", nargs="*", metavar="SHOP", help="shops whose products join the gallery")
    _recipe_options(p)

    for stage, what in (
        ("pretrain", "self-supervision and image-text alignment"),
        ("posttrain", "learn from searches"),
    ):
        p = _verb(verbs, stage, what, f"{stage} my-shop --work work", _train)
        shop_argument(p)
        p.add_argument("--work", required=True, metavar="DIR")
        p.add_argument("--resume", action="store_true", help="go on with an unfinished run")
        p.add_argument("--extra", nargs="*", metavar="SHOP", help="shops that train along")
        if stage == "posttrain":
            p.add_argument(
                "--second",
                action="store_true",
                help="the second posttrain (settings posttrain2.*): purchases, hard negatives; after the first",
            )
        _recipe_options(p)

    p = _verb(verbs, "embed", "product vectors in bulk", "embed my-shop --encoder work --out shelf", _embed)
    shop_argument(p)
    p.add_argument("--encoder", required=True, metavar="PATH", help="work folder, encoder folder, or compact")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--dim", type=int, default=None, help="256, 128, 64 or 32 (default: full)")
    p.add_argument("--dtype", choices=("f32", "f16", "i8"), default="f32")

    p = _verb(
        verbs,
        "search",
        "search a shelf by text, photo or both",
        "search work/shelf --text '红色 跑鞋'",
        _search,
    )
    p.add_argument("shelf", metavar="SHELF")
    p.add_argument("--text", metavar="T")
    p.add_argument("--image", metavar="FILE")
    p.add_argument("-k", type=int, default=10, help="products to show (default: %(default)s)")
    p.add_argument("--category", help="keep this category and those below it, e.g. 'Home > Mugs'")
    p.add_argument("--min-price", type=float)
    p.add_argument("--max-price", type=float)
    p.add_argument("--encoder", metavar="PATH", help="default: the one in the shelf's work folder")
    p.add_argument(
        "--shop", metavar="SHOP", help="where the photos for --sheet are (default: the shelf's work folder)"
    )
    p.add_argument("--sheet", metavar="OUT.png", help="draw the answers as pictures")
    p.add_argument("--json", metavar="FILE")

    p = _verb(
        verbs,
        "augment",
        "other titles and photos of products, for training",
        "augment my-shop --out made --encoder work",
        augment_verb,
    )
    shop_argument(p)
    augment_options(p)

    p = _verb(
        verbs,
        "relevance",
        "train a model of how well products answer queries",
        "relevance train my-shop --work work",
        relevance_verb,
    )
    p.add_argument("action", choices=("train",))
    shop_argument(p)
    relevance_options(p)

    p = _verb(
        verbs,
        "evaluate",
        "measure an encoder or a relevance model",
        "evaluate image-search my-shop --encoder work",
        _evaluate,
    )
    p.add_argument("what", choices=WHAT)
    shop_argument(p)
    evaluate_options(p)

    rank_options(verbs)
    creative_options(verbs)

    p = _verb(
        verbs,
        "heatmap",
        "show which regions and words made a query match a product",
        "heatmap --encoder work --image shoe.jpg --text 'red running shoe' --out heat.png",
        _heatmap,
    )
    p.add_argument("--encoder", required=True, metavar="PATH")
    p.add_argument(
        "--image", metavar="FILE", help="the photo, of the product unless --against-* names the product"
    )
    p.add_argument("--text", metavar="T", help="the text")
    p.add_argument("--against-image", metavar="FILE", help="the product's photo; then --image and --text ask")
    p.add_argument("--against-text", metavar="T", help="the product's text; then --image and --text ask")
    p.add_argument(
        "--before", default="compact", metavar="PATH", help="encoder beside it (default: the untrained one)"
    )
    p.add_argument("--method", choices=("gradient", "occlusion", "rollout"), default="gradient")
    p.add_argument("--out", required=True, metavar="PNG")
    p.add_argument("--json", metavar="FILE", help="the numbers behind the picture")

    _verb(verbs, "doctor", "explain a broken environment", "doctor", _doctor)
    for name, what in NOT_BUILT.items():
        if " " not in name:
            verbs.add_parser(name, help=f"{what} (not built yet)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        missing = next((name for name in (" ".join(words[:2]), *words[:1]) if name in NOT_BUILT), None)
        if missing is not None:
            what = f"moonshelf {missing} is not built yet ({NOT_BUILT[missing]})"
            raise InputError(what, mend="see docs/LOG.md for the plan")
        args = build_parser().parse_args(rank_words(words))
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and args.call is not _train:
            raise InputError(
                f"moonshelf {words[0]} is one process; torchrun would start it several times in one folder",
                mend="give only pretrain and posttrain to torchrun, and start this verb without it",
            )
        return int(args.call(args))
    except InputError as error:
        print(f"moonshelf: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output went away (| head)
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(f"moonshelf: {full_disk(Path(str(error.filename or 'while writing')))}", file=sys.stderr)
            return 1
        where = f" ({error.filename})" if error.filename else ""
        print(f"moonshelf: {error.strerror or error}{where}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "moonshelf: stopped; run the command again to go on (pretrain and posttrain: with --resume)",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
