"""The stages joined: what each verb of the command line calls, and ``run``, which does them all in order.

Every stage writes one artefact folder in the work folder and is skipped when a folder of the same inputs
and settings is there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from moonshelf import workspace
from moonshelf.augment.store import augmented_mark
from moonshelf.config import as_dict
from moonshelf.encoder import CompactEncoder, Item, load_encoder, photo_reader, product_text, save_encoder
from moonshelf.errors import InputError
from moonshelf.evaluation.metrics import first_hit_ranks
from moonshelf.progress import duration, say
from moonshelf.recipes import RunConfig
from moonshelf.shelf import Shelf
from moonshelf.shop.fetch import Reach
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.training.checkpoint import drop_checkpoints, has_checkpoint
from moonshelf.training.config import PosttrainConfig, PretrainConfig
from moonshelf.training.distributed import wait
from moonshelf.training.gather import world
from moonshelf.training.loop import TrainResult
from moonshelf.training.mining import mined_mark
from moonshelf.training.posttrain import posttrain
from moonshelf.training.pretrain import pretrain

StageName = Literal["pretrain", "posttrain", "posttrain2"]
STAGES: tuple[StageName, ...] = ("pretrain", "posttrain", "posttrain2")


def set_threads(config: RunConfig) -> None:
    """Give torch the number of threads of the settings (0 leaves torch's own choice)."""
    if config.threads:
        torch.set_num_threads(config.threads)


def device() -> str:
    """``cuda`` when there is a GPU that torch can use, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


# -- validation ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Validation:
    """Val queries and a bounded gallery, decoded once; called with an encoder it gives recall@1 and MRR.

    Early stopping needs a quick, steady number, so the gallery holds the products searched for in val and
    then others up to ``validation_products``; its recall is not comparable to the reported one.
    """

    queries: list[Item]
    gallery: list[Item]
    positives: list[np.ndarray]
    masked: list[np.ndarray]  # other products of a positive's design: neither right nor wrong
    identity: str  # of the shop and the limits that it was drawn with

    def __call__(self, encoder: CompactEncoder) -> dict[str, float]:
        """``{"recall@1", "mrr"}`` on val."""
        queries, gallery = encoder.encode(self.queries), encoder.encode(self.gallery)
        ranks = first_hit_ranks(queries, gallery, self.positives, masked=self.masked)
        return {"recall@1": float((ranks <= 1).mean()), "mrr": float((1 / ranks).mean())}


def validation(shop: Shop, config: RunConfig) -> Validation | None:
    """The validation set of a shop, or None when it has no val searches."""
    if shop.searches is None or shop.products is None:
        return None
    rows = shop.searches.filter(
        (pl.col("split") == "val")
        & (pl.col("query_image_id").is_not_null() | pl.col("query_text").is_not_null())
    )
    asked = ["query_image_id", "query_text"]
    rows = rows.group_by(asked, maintain_order=True).agg(pl.col("product_id").unique(maintain_order=True))
    limits, size = config.evaluation, config.encoder.image_size
    if not len(rows):
        return None
    if len(rows) > limits.validation_queries:
        rows = rows.sample(limits.validation_queries, seed=config.seed)
    wanted = rows["product_id"].explode().unique(maintain_order=True).to_list()
    chosen = set(wanted)
    others = [p for p in shop.products["product_id"] if p not in chosen]
    rng = np.random.default_rng(config.seed)
    spare = max(0, limits.validation_products - len(wanted))
    wanted += [others[i] for i in np.sort(rng.permutation(len(others))[:spare])]

    read = photo_reader(shop.images, size, core=config.encoder.core)

    def item(text: str | None, images: Sequence[str]) -> Item:
        return Item(text, tuple(pixels for i in images for pixels in read(i)))

    gallery: list[Item] = []
    place: dict[str, int] = {}
    for product_id in wanted:
        product = shop.product(product_id)
        text = product_text(product, marked=config.encoder.guided)
        if text or product.image_ids:
            place[product_id] = len(gallery)
            gallery.append(item(text, product.image_ids[: config.encoder.max_images]))
    design = dict(shop.products.select("product_id", "spu_id").iter_rows())
    same: dict[str, list[int]] = {}
    for product_id, at in place.items():
        if design[product_id]:
            same.setdefault(design[product_id], []).append(at)
    drawn = [shop.fingerprint, limits.validation_queries, limits.validation_products, size, config.seed]
    found = Validation([], gallery, [], [], workspace.digest(drawn))
    for image, text, ids in rows.iter_rows():
        right = [place[p] for p in ids if p in place]
        if right:
            found.queries.append(item(text, [image] if image else []))
            found.positives.append(np.array(right))
            kin = {at for p in ids for at in same.get(design.get(p) or "", [])}
            found.masked.append(np.array(sorted(kin - set(right)), dtype=np.int64))
    return found if found.queries else None


# -- stages -------------------------------------------------------------------------------------


def _identity(shop: Shop, extra: Sequence[Shop], start: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"shop": shop.fingerprint, "extra": [s.fingerprint for s in extra], "start": start, **settings}


def train_stage(
    name: StageName,
    shop: Shop,
    work: Path,
    config: RunConfig,
    *,
    start: str | Path = "compact",
    extra: Sequence[Shop] = (),
    resume: bool = True,
) -> Path:
    """Train one stage into ``work/<name>`` and return that folder.

    Unfinished work lies in ``work/.<name>.unfinished`` with its checkpoint.

    Args:
        start: encoder to start from.
        resume: go on from an unfinished run; False refuses when there is one, so that nothing is lost.

    Raises:
        InputError: nothing to train on, or an unfinished run without ``resume``.
    """
    folder, unfinished = work / name, work / f".{name}.unfinished"
    encoder = (
        load_encoder(start)
        if str(start) != "compact"
        else CompactEncoder.untrained(replace(config.encoder, experts=0, guided=False))
    )
    wanted, given = config.encoder, encoder.config
    free = ("image_size", "max_tokens", "max_images", "core")
    encoder.config = replace(given, **{name: getattr(wanted, name) for name in free})
    if (
        name == "pretrain" or not encoder.config.experts
    ):  # experts come with posttrain, as copies of dense blocks
        wanted = replace(wanted, experts=0, top_k=encoder.config.top_k, guided=False)
    if encoder.config != wanted:
        raise InputError(
            f"the encoder to start from has another shape ({given.width} wide, {given.layers} layers)",
            where=str(start),
            mend="use its encoder.width, widths, layers, heads and experts, or start from compact in a new work folder",
        )
    if config.encoder.experts and name != "pretrain" and not encoder.config.experts:
        e = config.encoder
        encoder = encoder.upcycled(e.experts, e.top_k, guided=e.guided)
    stage_config: PretrainConfig | PosttrainConfig = getattr(config, name)
    limits = config.evaluation
    settings = {
        "encoder": as_dict(config.encoder),
        "validation": [limits.validation_queries, limits.validation_products],
    }
    stage_settings = as_dict(stage_config)
    if stage_settings.get("augmented"):
        stage_settings["augmented"] = augmented_mark(stage_settings["augmented"])
    if stage_settings.get("mined"):
        stage_settings["mined"] = mined_mark(
            stage_settings["mined"]
        )  # what the file holds, not where it lies
    inputs = _identity(shop, extra, encoder.version, settings)
    key = workspace.digest([name, inputs, stage_settings, config.seed])
    workspace.refuse_strangers(folder)
    done = workspace.read_manifest(folder)
    if done is not None and done["key"] == key:
        say(f"{name}: done already ({folder})")
        return folder
    finished = workspace.read_manifest(unfinished) if unfinished.is_dir() else None
    rank = world()[0]
    if finished is not None and finished["key"] == key:  # stopped between the last write and the rename
        wait()
        if not rank:
            _move_in(unfinished, folder)
        wait()
        return folder
    if not resume and has_checkpoint(unfinished):
        raise InputError(
            "an unfinished run is here",
            where=str(unfinished),
            mend="add --resume to go on with it, or delete it",
        )
    wait()  # all have looked before anything is written
    encoder.to(device())
    check = validation(shop, config)
    if check is None:
        say(f"{name}: no val searches, so the last weights are kept instead of the best")
    shared: dict[str, Any] = {"extra": extra, "seed": config.seed, "validate": check, "resume": resume}
    result: TrainResult
    if name == "pretrain":
        result = pretrain(shop, encoder, unfinished, config.pretrain, **shared)
    else:
        later = config.posttrain if name == "posttrain" else config.posttrain2
        result = posttrain(shop, encoder, unfinished, later, name=name, **shared)
    encoder.cpu()
    if not rank:
        _finish(name, unfinished, folder, encoder, result, inputs, stage_settings, config.seed)
    wait()
    return folder


def _finish(
    name: StageName,
    unfinished: Path,
    folder: Path,
    encoder: CompactEncoder,
    result: TrainResult,
    inputs: dict[str, Any],
    settings: dict[str, Any],
    seed: int,
) -> None:
    """The trained encoder, its manifest, and the rename that makes it a finished stage."""
    save_encoder(encoder, unfinished)
    metrics = {
        "steps": result.steps,
        "best": result.best,
        "history": result.history,
        "stopped_early": result.stopped_early,
    }
    workspace.write_manifest(
        unfinished,
        stage=name,
        inputs=inputs,
        config=settings,
        seed=seed,
        seconds=result.seconds,
        metrics=metrics,
    )
    _move_in(unfinished, folder)
    say(f"{name}: {result.steps} steps in {duration(result.seconds)}, best val {result.best}")


def _move_in(unfinished: Path, folder: Path) -> None:
    """The finished stage takes its place; the checkpoints go only after that, so no moment loses the work."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    drop_checkpoints(folder)
    shutil.rmtree(old, ignore_errors=True)


def publish_encoder(source: Path, work: Path) -> Path:
    """Copy a stage's encoder to ``work/encoder``, the one that later stages and users take."""
    with workspace.atomic_folder(work / "encoder", ("encoder.json",)) as out:
        for name in ("encoder.json", "model.safetensors", workspace.MANIFEST):
            shutil.copy2(source / name, out / name)
    return work / "encoder"


def open_extra(paths: Sequence[Path], shop: Shop, fetch: Reach | None = None) -> list[Shop]:
    """Open shops that only lend photos, texts or distractors to ``shop``; a products table is not needed.

    Their photos by address are fetched as those of ``shop`` are (``fetch``, see ``open_shop``).

    Raises:
        InputError: one of them is ``shop`` itself, or is given twice.
    """
    shops = [open_shop(path, require_products=False, fetch=fetch) for path in paths]
    seen = {shop.fingerprint}
    for path, other in zip(paths, shops, strict=True):
        if other.fingerprint in seen:
            raise InputError(
                "this shop is the main shop itself or given twice", where=str(path), mend="name each once"
            )
        seen.add(other.fingerprint)
    return shops


def stopwatch(timings: dict[str, float], name: str, begun: float) -> None:
    """Note how long a stage took."""
    timings[name] = round(time.monotonic() - begun, 1)


def open_shelf(path: Path) -> tuple[Shelf, Path]:
    """A shelf by its folder or its work folder, and the folder it lies in."""
    folder = path / "shelf" if (path / "shelf" / "shelf.json").is_file() else path
    return Shelf.open(folder), folder


def encoder_of(shelf_folder: Path, given: str | None, shelf: Shelf) -> CompactEncoder:
    """The encoder that made a shelf: the one given, or the one in the same work folder, or ``compact``.

    Raises:
        InputError: none of them has the shelf's version.
    """
    tried: list[str | Path] = [given] if given else [shelf_folder.parent, "compact"]
    for candidate in tried:
        try:
            encoder = load_encoder(candidate)
        except InputError:
            if given:
                raise
            continue
        if encoder.version == shelf.encoder_version:
            return encoder
    raise InputError(
        f"the encoder {shelf.encoder_version} that made this shelf was not found",
        where=str(shelf_folder),
        mend="name it with --encoder PATH, or embed the shop again",
    )
