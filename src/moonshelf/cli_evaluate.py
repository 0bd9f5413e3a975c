"""The verb ``evaluate``: image-search, text-search, benchmark (``relevance`` is in ``cli_relevance``)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshelf.errors import InputError

WHAT = ("image-search", "text-search", "benchmark", "relevance")


def evaluate_options(p: argparse.ArgumentParser) -> None:
    """The options of the verb, beside what is measured and the shop."""
    p.add_argument("--encoder", metavar="PATH")
    p.add_argument("--vectors", metavar="FILE", help="benchmark: vectors of another model, .parquet or .npz")
    p.add_argument(
        "--inputs", metavar="DIR", help="benchmark: write what is to be embedded, for another model"
    )
    p.add_argument("--against", metavar="PATH", help="benchmark: encoder or vectors to take differences to")
    p.add_argument(
        "--ask",
        choices=("searches", "products"),
        help="benchmark: who asks (default: searches if there are any)",
    )
    p.add_argument("--limit", type=int, metavar="N", help="benchmark: at most N queries a view")
    p.add_argument("--model", metavar="PATH", help="relevance: the model to measure")
    p.add_argument("--shelf", metavar="DIR", help="relevance: the shelf it was trained with (with --encoder)")
    p.add_argument("--split", choices=("train", "val", "test"), default="test")
    p.add_argument("--distractors", nargs="*", metavar="SHOP", help="shops whose products join the gallery")
    p.add_argument(
        "--products", metavar="FILE", help="ask only for these products (one id a line); gallery stays whole"
    )
    p.add_argument("--json", metavar="FILE")


def evaluate(a: argparse.Namespace) -> int:
    """Measure what was asked for; returns the exit code."""
    from moonshelf import commands, measuring, pipeline
    from moonshelf.encoder import load_encoder
    from moonshelf.shop.shop import open_shop
    from moonshelf.workspace import write_json

    for name in ("model", "shelf"):
        if getattr(a, name) is not None:
            raise InputError(f"--{name} belongs to evaluate relevance", mend="leave it out")
    if a.what == "benchmark":
        return _benchmark(a)
    alone = [
        name for name in ("vectors", "inputs", "against", "ask", "limit") if getattr(a, name) is not None
    ]
    if alone:
        raise InputError(f"--{alone[0]} belongs to evaluate benchmark", mend="leave it out")
    if a.encoder is None:
        raise InputError("no encoder is named", mend="add --encoder PATH")
    settings = [f"evaluation.split={a.split}"] if a.split else []
    config = commands.resolve("laptop", settings, a.seed)
    products = commands.read_ids(Path(a.products)) if a.products else None
    shop = open_shop(a.shop, fetch=a.fetch)
    result, value = measuring.evaluate(
        shop,
        load_encoder(a.encoder, pipeline.device()),
        config,
        kind="text" if a.what == "text-search" else "image",
        distractors=pipeline.open_extra([Path(d) for d in a.distractors or ()], shop, a.fetch),
        products=products,
    )
    if a.json:
        write_json(Path(a.json), value)
    print(result)
    return 0


def _benchmark(a: argparse.Namespace) -> int:
    from moonshelf import commands, pipeline
    from moonshelf.encoder import load_encoder
    from moonshelf.evaluation import benchmark
    from moonshelf.shop.layouts import convert, layout_of
    from moonshelf.shop.shop import cache_home, open_shop
    from moonshelf.workspace import digest, write_json

    if sum(x is not None for x in (a.encoder, a.vectors, a.inputs)) != 1 or a.distractors:
        raise InputError(
            "the benchmark takes one of --encoder, --vectors and --inputs, and no --distractors",
            mend="name the encoder to measure, a file of vectors, or a folder to write the inputs to",
        )
    config = commands.resolve("laptop", [], a.seed)
    source = Path(a.shop)
    if source.is_dir() and layout_of(source) is not None:  # public data as it was published
        source = cache_home() / "layouts" / digest([str(source.resolve()), a.split])
        if not source.is_dir():
            convert(Path(a.shop), source, split=a.split)
    shop = open_shop(source, fetch=a.fetch)
    products = commands.read_ids(Path(a.products)) if a.products else None
    tasks = benchmark.build_tasks(
        shop, split=a.split, products=products, ask=a.ask, limit=a.limit, seed=config.seed
    )
    if a.inputs:
        n = benchmark.write_inputs(tasks.sources(), shop, Path(a.inputs))
        print(f"inputs  {a.inputs}/inputs.jsonl  {n} to embed; give the vectors back with --vectors")
        return 0

    def embedding(value: str) -> Any:
        if Path(value).suffix in (".npz", ".parquet"):
            return Path(value)
        return benchmark.of_encoder(load_encoder(value, pipeline.device()))

    other = embedding(a.against) if a.against else None
    result = benchmark.measure(
        shop, embedding(a.vectors or a.encoder), against=other, tasks=tasks, seed=config.seed
    )
    if a.json:
        write_json(Path(a.json), result.to_json())
    print(result)
    return 0
