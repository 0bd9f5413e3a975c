"""Recipes: functions that return a complete tree of settings. A variant is a few lines over another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from moonshelf.encoder import CompactConfig
from moonshelf.errors import InputError
from moonshelf.training.config import LoopConfig, OptimConfig, PosttrainConfig, PretrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfConfig:
    """How product vectors are stored."""

    dim: int = 256
    dtype: Literal["f32", "f16", "i8"] = "f32"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What is measured after every stage."""

    split: Literal["train", "val", "test"] = "test"
    validation_queries: int = 600  # most val queries that early stopping looks at
    validation_products: int = 1000  # most products in its gallery (all that are searched for come first)
    test_queries: int = 0  # most queries of the split; 0: all


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything ``moonshelf run`` can be told."""

    seed: int = 0
    threads: int = 0  # torch threads; 0: as many as there are cores
    stages: Literal["both", "pretrain", "posttrain", "none"] = "both"
    encoder: CompactConfig = field(default_factory=CompactConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    posttrain: PosttrainConfig = field(default_factory=PosttrainConfig)
    shelf: ShelfConfig = field(default_factory=ShelfConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def laptop() -> RunConfig:
    """The default: two epochs of pretrain and eight of posttrain, for a shop of some thousand photos."""
    return RunConfig()


def thorough() -> RunConfig:
    """Within an hour on two cores for about 3,000 query photos: more epochs, larger pictures when used."""
    base = laptop()
    return replace(
        base,
        encoder=replace(base.encoder, image_size=224),
        pretrain=replace(base.pretrain, loop=LoopConfig(epochs=2.0)),
        posttrain=replace(
            base.posttrain, final_view_size=192, loop=LoopConfig(epochs=18.0, evaluate_every=2.0)
        ),
    )


def demo() -> RunConfig:
    """The demo shop in a few minutes: small views, a sample of the photos and searches each epoch."""
    base = laptop()
    return replace(
        base,
        encoder=replace(base.encoder, image_size=128, max_images=2, max_tokens=32),
        pretrain=replace(
            base.pretrain,
            view_size=96,
            photos=2400,
            self_weight=2.0,
            optim=replace(base.pretrain.optim, trunk_lr=1e-4),  # 50 steps: too few for the harm of E6
            loop=LoopConfig(epochs=1.0),
        ),
        posttrain=replace(
            base.posttrain, view_size=96, pairs=3000, loop=LoopConfig(epochs=2.25, evaluate_every=2.25)
        ),
        evaluation=replace(
            base.evaluation, validation_queries=300, validation_products=600, test_queries=600
        ),
    )


def smoke() -> RunConfig:
    """A few steps of everything, for tests: not meant to learn."""
    base = laptop()
    loop = LoopConfig(epochs=1.0, max_steps=3, evaluate_every=1.0)
    optim = OptimConfig(trunk_lr=1e-5, text_lr=1e-5, head_lr=1e-4)  # steady: golden losses are kept of it
    return replace(
        base,
        encoder=replace(base.encoder, image_size=64),
        pretrain=replace(base.pretrain, view_size=64, batch=8, loop=loop, optim=optim),
        posttrain=replace(base.posttrain, view_size=64, batch=8, loop=loop, optim=optim),
        evaluation=replace(base.evaluation, validation_queries=20, validation_products=30, test_queries=40),
    )


RECIPES: dict[str, Callable[[], RunConfig]] = {f.__name__: f for f in (laptop, thorough, demo, smoke)}


def recipe(name: str) -> RunConfig:
    """The recipe of a name.

    Raises:
        InputError: there is none.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}", mend=f"one of {', '.join(RECIPES)}")
    return RECIPES[name]()


def check_settings(config: RunConfig) -> None:
    """Refuse values that would fail or do nothing later.

    Raises:
        InputError: with the setting and what it may be.
    """
    e, pre, post, limits = config.encoder, config.pretrain, config.posttrain, config.evaluation
    above_zero = {
        "encoder.width": e.width,
        "encoder.layers": e.layers,
        "encoder.heads": e.heads,
        "encoder.image_size": e.image_size,
        "encoder.max_tokens": e.max_tokens,
        "encoder.max_images": e.max_images,
        "pretrain.batch": pre.batch,
        "pretrain.view_size": pre.view_size,
        "pretrain.scale": pre.scale,
        "pretrain.loop.epochs": pre.loop.epochs,
        "pretrain.loop.evaluate_every": pre.loop.evaluate_every,
        "posttrain.batch": post.batch,
        "posttrain.view_size": post.view_size,
        "posttrain.scale": post.scale,
        "posttrain.gamma": post.gamma,
        "posttrain.queries_per_product": post.queries_per_product,
        "posttrain.replay_batch": post.replay_batch,
        "posttrain.mined_per_query": post.mined_per_query,
        "posttrain.loop.epochs": post.loop.epochs,
        "posttrain.loop.evaluate_every": post.loop.evaluate_every,
        "evaluation.validation_queries": limits.validation_queries,
        "evaluation.validation_products": limits.validation_products,
    }
    not_negative = {
        "seed": config.seed,
        "threads": config.threads,
        "pretrain.photos": pre.photos,
        "posttrain.pairs": post.pairs,
        "posttrain.memory": post.memory,
        "posttrain.query_weight": post.query_weight,
        "posttrain.self_weight": post.self_weight,
        "posttrain.replay": post.replay,
        "posttrain.chunk": post.chunk,
        "posttrain.keep": post.keep,
        "posttrain.category_hard": post.category_hard,
        "posttrain.memory_warmup": post.memory_warmup,
        "posttrain.mine": post.mine,
        "posttrain.final_view_size": post.final_view_size,
        "evaluation.test_queries": limits.test_queries,
    }
    shares = {
        "pretrain.text_share": pre.text_share,
        "posttrain.modality_dropout": post.modality_dropout,
        "posttrain.label_smoothing": post.label_smoothing,
        "posttrain.final_share": post.final_share,
        "posttrain.margin": post.margin,
    }
    for key, value in above_zero.items():
        if not value > 0:
            raise InputError(f"{key} cannot be {value}", mend="give a number above 0")
    for key, value in not_negative.items():
        if not value >= 0:
            raise InputError(f"{key} cannot be negative ({value})", mend="give 0 or more")
    for key, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"{key} cannot be {value}", mend="give a share between 0 and 1")
    if not e.widths or max(e.widths) != e.width or min(e.widths) < 1:
        raise InputError(
            f"encoder.widths {list(e.widths)} must end at encoder.width {e.width}",
            mend=f"set both, e.g. --set encoder.width={e.width} --set encoder.widths={e.width},{e.width // 2}",
        )
    for stage, loop, optim in (("pretrain", pre.loop, pre.optim), ("posttrain", post.loop, post.optim)):
        for key in ("max_steps", "patience", "checkpoint_steps", "checkpoint_seconds"):
            if getattr(loop, key) < 0:
                raise InputError(f"{stage}.loop.{key} cannot be negative", mend="give 0 or more")
        for key in ("trunk_lr", "text_lr", "head_lr", "weight_decay"):
            if not 0 <= getattr(optim, key) < 1:
                raise InputError(
                    f"{stage}.optim.{key} cannot be {getattr(optim, key)}", mend="give 0 or more, below 1"
                )
        if not 0 <= optim.warmup <= 1 or not 0 <= optim.average < 1 or not optim.clip > 0:
            raise InputError(
                f"{stage}.optim: warmup {optim.warmup}, average {optim.average}, clip {optim.clip}",
                mend="warmup is a share of the steps (0 to 1), average a decay (0 to below 1), clip above 0",
            )
    if post.mine and post.mined:
        raise InputError(
            "posttrain.mine and posttrain.mined are both set",
            mend="mine them, or name the file of those mined before",
        )
    if post.category_hard and post.category_negatives == "other":
        raise InputError(
            "posttrain.category_hard draws from a query's own category, which category_negatives=other leaves out",
            mend="set one of them",
        )
    if e.width % e.heads:
        raise InputError(
            f"encoder.width {e.width} cannot be shared by {e.heads} heads", mend="let heads divide the width"
        )
