"""Recipes: functions that return a complete tree of settings. A variant is a few lines over another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from moonshelf.encoder import CompactConfig
from moonshelf.errors import InputError
from moonshelf.ranking.config import RankConfig
from moonshelf.training.config import DualConfig, LoopConfig, OptimConfig, PosttrainConfig, PretrainConfig
from moonshelf.training.typed import parse_types


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
    heatmaps: int = 2  # matches of each kind drawn for the report, with the deletion test; 0: none


def second_posttrain() -> PosttrainConfig:
    """MOON's second post-training (2511.11305, 1.2 and 1.4): purchases alone, cleaned, with hard and mined negatives.

    Length, rates and the choice of filters are ours; the paper names none.
    """
    return PosttrainConfig(
        actions=("purchase",),
        clean=("spu",),
        category_hard=1,
        mine=4,
        optim=OptimConfig(trunk_lr=1e-4, text_lr=1e-4, head_lr=3e-4),
        loop=LoopConfig(epochs=2.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything ``moonshelf run`` can be told."""

    seed: int = 0
    threads: int = 0  # torch threads; 0: as many as there are cores
    stages: Literal["both", "all", "pretrain", "posttrain", "none"] = "both"  # all: with posttrain2
    encoder: CompactConfig = field(default_factory=CompactConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    posttrain: PosttrainConfig = field(default_factory=PosttrainConfig)
    posttrain2: PosttrainConfig = field(default_factory=second_posttrain)
    shelf: ShelfConfig = field(default_factory=ShelfConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    ranking: RankConfig = field(default_factory=RankConfig)


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
        posttrain2=replace(base.posttrain2, view_size=96),
        evaluation=replace(
            base.evaluation, validation_queries=300, validation_products=600, test_queries=600
        ),
        ranking=replace(base.ranking, train=replace(base.ranking.train, epochs=2)),  # val turns after two
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
        posttrain2=replace(base.posttrain2, view_size=64, batch=8, loop=loop, optim=optim),
        evaluation=replace(
            base.evaluation, validation_queries=20, validation_products=30, test_queries=40, heatmaps=0
        ),
    )


def moon2() -> RunConfig:
    """The modality-balanced encoder (MOON2.0 2511.12449) on the compact towers: all directions in every batch, inside
    and between products, experts by modality, doubted pairs counting less. docs/balance.md says what each part brings.
    """
    base = laptop()
    dual = DualConfig(weights="learned", filter=True, inter_weights=(1.0, 3.0, 1.0))
    balanced = replace(base.posttrain, align="dual", own_queries=True, memory=0, query_weight=0.0, dual=dual)
    return replace(base, encoder=replace(base.encoder, experts=4), posttrain=balanced)


# The five iterations of MOON (2511.11305, 1.8) as far as they are known: the list of the paper was not found, so what
# each step adds is our own reading. Each is the one before it and a few changes, to see which step pays on a shop.


def v1() -> RunConfig:
    """Iteration 1: the published towers as they are, no training."""
    return replace(laptop(), stages="none")


def v2() -> RunConfig:
    """Iteration 2: v1 and self-supervision on the shop's photos and texts."""
    return replace(v1(), stages="pretrain")


def v3() -> RunConfig:
    """Iteration 3: v2 and learning from searches, with in-batch negatives alone."""
    base = v2()
    plain = replace(base.posttrain, memory=0, query_weight=0.0, label_smoothing=0.0, modality_dropout=0.0)
    return replace(base, stages="both", posttrain=plain)


def v4() -> RunConfig:
    """Iteration 4: v3 with cleaned pairs, hard negatives and a queue of past products."""
    base = v3()
    harder = replace(base.posttrain, clean=("spu",), category_hard=1, mine=4, memory=8192)
    return replace(base, posttrain=harder)


def v5() -> RunConfig:
    """Iteration 5, all of it: v4 with smoothing, queries of one product, dropped modalities, and two posttrains: clicks
    and carts, then purchases.
    """
    base, full = v4(), PosttrainConfig()
    whole = replace(
        base.posttrain,
        query_weight=full.query_weight,
        label_smoothing=full.label_smoothing,
        modality_dropout=full.modality_dropout,
        actions=("click", "cart"),
    )
    return replace(base, stages="all", posttrain=whole)


RECIPES: dict[str, Callable[[], RunConfig]] = {
    f.__name__: f for f in (laptop, thorough, demo, smoke, moon2, v1, v2, v3, v4, v5)
}


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
    e, pre, limits = config.encoder, config.pretrain, config.evaluation
    above_zero: dict[str, float] = {
        "encoder.width": e.width,
        "encoder.layers": e.layers,
        "encoder.heads": e.heads,
        "encoder.image_size": e.image_size,
        "encoder.max_tokens": e.max_tokens,
        "encoder.max_images": e.max_images,
        "pretrain.batch": pre.batch,
        "pretrain.view_size": pre.view_size,
        "pretrain.scale": pre.scale,
        "evaluation.validation_queries": limits.validation_queries,
        "evaluation.validation_products": limits.validation_products,
    }
    not_negative: dict[str, float] = {
        "seed": config.seed,
        "encoder.experts": e.experts,
        "threads": config.threads,
        "pretrain.photos": pre.photos,
        "pretrain.self_weight": pre.self_weight,
        "pretrain.alignment_weight": pre.alignment_weight,
        "evaluation.test_queries": limits.test_queries,
        "evaluation.heatmaps": limits.heatmaps,
    }
    shares: dict[str, float] = {"pretrain.text_share": pre.text_share}
    for name, post in (("posttrain", config.posttrain), ("posttrain2", config.posttrain2)):
        for key in _POSTTRAIN_ABOVE_ZERO:
            above_zero[f"{name}.{key}"] = getattr(post, key)
        for key in _POSTTRAIN_NOT_NEGATIVE:
            not_negative[f"{name}.{key}"] = getattr(post, key)
        for key in (
            "modality_dropout",
            "label_smoothing",
            "final_share",
            "margin",
            "own_share",
            "augmented_share",
        ):
            shares[f"{name}.{key}"] = getattr(post, key)
        shares[f"{name}.dual.filter_threshold"] = post.dual.filter_threshold
        for key in ("intra_weight", "balance", "sparsity", "filter_kappa", "filter_margin"):
            not_negative[f"{name}.dual.{key}"] = getattr(post.dual, key)
        above_zero[f"{name}.dual.intra_scale"] = post.dual.intra_scale
    for name, stage in (
        ("pretrain", pre),
        ("posttrain", config.posttrain),
        ("posttrain2", config.posttrain2),
    ):
        for key in ("epochs", "evaluate_every"):
            above_zero[f"{name}.loop.{key}"] = getattr(stage.loop, key)
        above_zero[f"{name}.optim.clip"] = stage.optim.clip
        for key in ("max_steps", "patience", "checkpoint_steps", "checkpoint_seconds"):
            not_negative[f"{name}.loop.{key}"] = getattr(stage.loop, key)
        for key in ("trunk_lr", "text_lr", "head_lr", "weight_decay", "warmup", "average"):
            shares[f"{name}.optim.{key}"] = getattr(stage.optim, key)
    for key, value in above_zero.items():
        if not value > 0:
            raise InputError(f"{key} cannot be {value}", mend="give a number above 0")
    for key, value in not_negative.items():
        if not value >= 0:
            raise InputError(f"{key} cannot be negative ({value})", mend="give 0 or more")
    for key, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"{key} cannot be {value}", mend="give a number between 0 and 1")
    _check_together(config)


_POSTTRAIN_ABOVE_ZERO = (
    "batch", "view_size", "scale", "gamma", "queries_per_product", "replay_batch", "mined_per_query",
)  # fmt: skip
_POSTTRAIN_NOT_NEGATIVE = (
    "pairs", "memory", "memory_warmup", "query_weight", "self_weight", "replay", "chunk", "keep_megabytes",
    "category_hard", "mine", "final_view_size",
)  # fmt: skip


def _check_together(config: RunConfig) -> None:
    """Settings that are right alone and wrong together."""
    e = config.encoder
    if not e.widths or max(e.widths) != e.width or min(e.widths) < 1:
        raise InputError(
            f"encoder.widths {list(e.widths)} must end at encoder.width {e.width}",
            mend=f"set both, e.g. --set encoder.width={e.width} --set encoder.widths={e.width},{e.width // 2}",
        )
    if e.experts and not 1 <= e.top_k <= e.experts:
        raise InputError(
            f"encoder.top_k {e.top_k} of encoder.experts {e.experts}",
            mend="let each token go to 1 up to all experts",
        )
    if e.guided and not e.experts:
        raise InputError(
            "encoder.guided adds two experts to others, and there are none",
            mend="set encoder.experts, too (4, say)",
        )
    if e.width % e.heads:
        raise InputError(
            f"encoder.width {e.width} cannot be shared by {e.heads} heads", mend="let heads divide the width"
        )
    for name, post in (("posttrain", config.posttrain), ("posttrain2", config.posttrain2)):
        if post.mine and post.mined:
            raise InputError(
                f"{name}.mine and {name}.mined are both set",
                mend="let it mine, or name the file of negatives mined before",
            )
        parse_types(post.types)
        if post.mined and not Path(post.mined).is_file():
            raise InputError(f"{name}.mined: there is no such file", where=post.mined, mend="mine them first")
        if "hardest" in post.clean[:-1]:
            raise InputError(
                f"{name}.clean: hardest asks an encoder about what the other filters left, so it comes last",
                mend=f"write {','.join([f for f in post.clean if f != 'hardest'] + ['hardest'])}",
            )
        if post.optim.shard and post.chunk:
            raise InputError(
                f"{name}.optim.shard and {name}.chunk: unlike numbers of chunks would wait for each other",
                mend="set one of them",
            )
        if post.keep_megabytes and not post.chunk:
            raise InputError(
                f"{name}.keep_megabytes does nothing without {name}.chunk, the rows encoded at a time",
                mend="set both",
            )
        if post.align == "dual" and post.loss == "circle":
            raise InputError(
                f"{name}.align=dual weighs its pairs and objectives, which the circle loss here does not take",
                mend="set one of them",
            )
        weights = post.dual.inter_weights
        if len(weights) != 3 or min(weights) < 0:
            raise InputError(
                f"{name}.dual.inter_weights={','.join(f'{w:g}' for w in weights)} is not three weights",
                mend="give one for text, photo and joint queries each, such as 1,3,1",
            )
        if post.align == "dual" and post.dual.weights != "fixed" and not e.experts:
            raise InputError(
                f"{name}.dual.weights={post.dual.weights} takes them from the experts, and there are none",
                mend="set encoder.experts (4, say), or the weights to fixed",
            )
        if post.types and (post.queries_per_product > 1 or post.category_negatives == "same"):
            raise InputError(
                f"{name}.types plans the batches, so queries_per_product and category_negatives=same have no say",
                mend="set one of them; category_hard gives hard negatives to typed pairs",
            )
        if post.category_hard and post.category_negatives == "other":
            raise InputError(
                f"{name}.category_hard draws from a query's own category, which category_negatives=other leaves out",
                mend="set one of them",
            )
