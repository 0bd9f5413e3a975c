"""What each verb of the command line does: one function a verb, returning the lines or the object to print."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from moonshelf import __version__, applying, grading, measuring, pipeline, workspace
from moonshelf.config import as_dict, config_hash, override
from moonshelf.encoder import CompactEncoder, load_encoder, save_encoder
from moonshelf.errors import InputError, TooLittleData
from moonshelf.progress import duration, say
from moonshelf.recipes import RunConfig, check_settings, recipe
from moonshelf.report.inputs import NAMES
from moonshelf.report.matches import draw_matches
from moonshelf.report.page import write_report
from moonshelf.report.sheet import Cell, contact_sheet
from moonshelf.shelf import Hit, Shelf, embed_shop
from moonshelf.shelf.vectors import check_format
from moonshelf.shop.fetch import Reach
from moonshelf.shop.images import decode_image
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.distributed import in_turn
from moonshelf.training.gather import world
from moonshelf.training.hard import require_categories
from moonshelf.training.typed import asks_products


def resolve(name: str, settings: Sequence[str], seed: int | None) -> RunConfig:
    """A recipe with the settings of the command line applied."""
    settings = [*settings, *([f"seed={seed}"] if seed is not None else [])]
    config = override(recipe(name), settings)
    check_settings(config)  # before hours of training
    check_format(config.shelf.dim, config.shelf.dtype, config.encoder.widths)
    pipeline.set_threads(config)
    return config


def train(
    name: pipeline.StageName,
    shop: Shop,
    work: Path,
    config: RunConfig,
    *,
    resume: bool,
    extra: Sequence[Path] = (),
    fetch: Reach | None = None,
) -> Path:
    """One training stage; posttrain starts from the pretrained encoder when there is one, posttrain2 from posttrain's.

    Raises:
        InputError: posttrain2 without a posttrain on the same data.
    """
    at = pipeline.STAGES.index(name)
    earlier = work / pipeline.STAGES[at - 1] if at else None
    before = workspace.read_manifest(earlier) if earlier is not None else None
    fits = before is not None and before["inputs"].get("shop") == shop.fingerprint
    if name == "posttrain2" and not fits:
        raise InputError(
            "there is no first posttrain on this data to go on from",
            where=str(earlier),
            mend="run posttrain first",
        )
    if before is not None and not fits:
        say(f"{name}: the encoder in {earlier} belongs to other data; starting from compact instead")
    start = earlier if fits and earlier is not None else "compact"
    with in_turn():
        lent = pipeline.open_extra(extra, shop, fetch)
    folder = pipeline.train_stage(name, shop, work, config, start=start, extra=lent, resume=resume)
    later = [stage for stage in pipeline.STAGES[at + 1 :] if (work / stage).is_dir()]
    if world()[0]:
        return folder
    if later:
        verb = "posttrain --second" if later[0] == "posttrain2" else later[0]
        say(f"{name}: work/encoder stays that of {later[-1]}; run {verb} again to build on this stage")
    else:
        pipeline.publish_encoder(folder, work)
    return folder


def run(
    source: Path,
    work: Path,
    config: RunConfig,
    *,
    extra: Sequence[Path] = (),
    distractors: Sequence[Path] = (),
    fetch: Reach | None = None,
) -> list[str]:
    """Every stage that the shop's tables allow, top to bottom: the whole system in one function."""
    timings: dict[str, float] = {}
    begun = time.monotonic()
    shop = open_shop(source, cache=work / "shop", fetch=fetch)
    others, noise = (pipeline.open_extra(paths, shop, fetch) for paths in (extra, distractors))
    pipeline.stopwatch(timings, "read the shop", begun)

    stages: list[pipeline.StageName] = []
    if config.stages in ("both", "all", "pretrain") and len(shop.images):
        stages.append("pretrain")
    if config.stages in ("both", "all", "posttrain") and (
        measuring.has_searches(shop, "train", "image")
        or measuring.has_searches(shop, "train", "text")
        or (shop.events is not None and (shop.searches is None or asks_products(config.posttrain.types)))
        or config.posttrain.own_queries
    ):
        stages += ["posttrain", "posttrain2"] if config.stages == "all" else ["posttrain"]
    for stage in stages:
        if stage != "pretrain" and getattr(config, stage).category_hard:
            require_categories(shop, stage)  # now, not after the stages before it
    start: str | Path = "compact"
    folders: dict[str, str | Path] = {"untrained": "compact"}
    for stage in stages:
        begun = time.monotonic()
        try:
            start = pipeline.train_stage(stage, shop, work, config, start=start, extra=others)
        except TooLittleData as error:
            say(f"{stage}: left out: {error}")
            continue
        folders[stage] = start
        pipeline.stopwatch(timings, stage, begun)

    begun = time.monotonic()
    if start == "compact":
        encoder = CompactEncoder.untrained(config.encoder)
        with workspace.atomic_folder(work / "encoder", ("encoder.json",)) as out:
            save_encoder(encoder, out)
    else:
        encoder = load_encoder(pipeline.publish_encoder(Path(start), work))
    shelf = embed_shop(
        shop, encoder.to(pipeline.device()), work / "shelf", dim=config.shelf.dim, dtype=config.shelf.dtype
    )
    pipeline.stopwatch(timings, "embed", begun)

    begun = time.monotonic()
    results: dict[str, dict[str, Any]] = {}
    seen: dict[str, CompactEncoder] = {}
    for name, folder in folders.items():
        last = name == [*folders][-1]
        if not last:
            encoder = (
                CompactEncoder.untrained(config.encoder) if folder == "compact" else load_encoder(folder)
            )
        else:
            encoder = load_encoder(work)
        if last or folder == "compact":
            seen[NAMES[name]] = encoder
        rows = measuring.shelf_rows(shelf, shop, encoder) if last and not noise else None
        found = measuring.evaluated(work, name, shop, encoder, config, noise, baselines=last, rows=rows)
        results |= {f"{kind} search, {name}": result for kind, result in found.items()}
    pipeline.stopwatch(timings, "evaluate", begun)

    if config.ranking.relevance and shop.relevance is not None:
        begun = time.monotonic()
        try:
            results["relevance"] = grading.relevance_stage(shop, work, config.seed)
        except InputError as error:
            say(f"relevance: left out: {error}")
        else:
            pipeline.stopwatch(timings, "relevance", begun)

    if config.ranking.run and applying.can_rank(shop):
        begun = time.monotonic()
        try:
            results_of = applying.ranked(shop, work, config)
        except TooLittleData as error:
            say(f"ranking: left out: {error}")
        else:
            results["click model"] = results_of
            pipeline.stopwatch(timings, "ranking", begun)

    begun = time.monotonic()
    if config.evaluation.heatmaps:
        asked = {
            kind: results.get(f"{kind} search, {name}", {}).get("examples", ()) for kind in ("image", "text")
        }
        draw_matches(work, shop, seen, asked, each=config.evaluation.heatmaps)
        pipeline.stopwatch(timings, "heatmaps", begun)
    else:
        shutil.rmtree(
            work / "heatmaps", ignore_errors=True
        )  # those of an earlier run would pass for this one's

    begun = time.monotonic()
    settings = {**as_dict(config), "hash": config_hash(config), "torch_threads": torch.get_num_threads()}
    out = work / "report" / "index.html"
    page = write_report(work, shop, config=settings, timings=timings, out=out, steps=tuple(folders))
    pipeline.stopwatch(timings, "report", begun)
    workspace.write_json(work / "timings.json", timings)
    clicks, relevant = results.pop("click model", None), results.pop("relevance", None)
    lines = [f"{name:<32} recall@1 {measuring.shown(result)}" for name, result in results.items()]
    lines += measuring.beside(results)
    if relevant is not None:
        lines.append(grading.line(relevant))
    if clicks is not None:
        lines += applying.lines(clicks)
    total = duration(sum(timings.values()))
    return [*lines, f"shelf   {work / 'shelf'}", f"report  {page}", f"done in {total}"]


def demo_shop(folder: Path, *, products: int, seed: int, make: Callable[..., Path]) -> Path:
    """The demo shop in ``folder``, made when it is not there yet."""
    wanted = {"products": products, "seed": seed, "generator": __version__}
    mark = folder / "truth" / "made-with.json"
    if mark.is_file() and json.loads(mark.read_text()) == wanted:
        say(f"demo shop: made already ({folder})")
        return folder
    with workspace.atomic_folder(folder, ("truth/made-with.json",)) as temporary:
        make(temporary, products=products, seed=seed)
        workspace.write_json(temporary / "truth" / "made-with.json", wanted)
    return folder


def read_ids(path: Path) -> set[str]:
    """Product ids from a text file, one a line.

    Raises:
        InputError: the file is missing or holds none.
    """
    try:
        ids = {line.strip() for line in path.read_text().splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "the list of products cannot be read", where=str(path), mend="give a text file, one id a line"
        ) from error
    if not ids:
        raise InputError("the list of products is empty", where=str(path), mend="write one product_id a line")
    return ids


def draw_hits(
    hits: Sequence[Hit],
    shelf: Shelf,
    folder: Path,
    *,
    text: str | None,
    image: str | None,
    shop: str | None,
    out: Path,
) -> None:
    """The answers of a search as a contact sheet.

    Raises:
        InputError: the shop whose photos these are was not found.
    """
    source = Path(shop) if shop else folder.parent / "shop"
    if not source.is_dir():
        raise InputError(
            "the photos of this shelf were not found",
            where=str(source),
            mend="name their shop with --shop SHOP",
        )
    photos = open_shop(source).images
    cells = []
    if image is not None:
        cells.append(Cell(decode_image(Path(image).read_bytes()), "query photo", query=True))
    for hit in hits:
        photo = photos.decode(hit.image_id) if hit.image_id is not None and hit.image_id in photos else None
        cells.append(Cell(photo, f"{hit.title or hit.product_id}  {hit.score:.2f}", fallback=hit.product_id))
    contact_sheet([(text or "search by photo", cells)], out)
