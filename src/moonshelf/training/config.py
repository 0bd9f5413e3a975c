"""Settings of the two training stages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from moonshelf.training.cleaning import Filter
from moonshelf.training.views import ViewConfig

Action = Literal["click", "cart", "purchase"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """How weights move. Learning rates are peaks of a linear warm-up and a cosine to zero."""

    trunk_lr: float = 3e-4
    text_lr: float = 3e-4
    head_lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of all steps
    clip: float = 5.0  # largest gradient norm
    average: float = (
        0.99  # decay of the running mean of the weights that is validated and kept; 0: the weights themselves
    )
    shard: bool = (
        False  # several processes: each holds a piece of the weights, gradients and optimiser state (FSDP2)
    )
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16 autocast: pays on GPUs; on CPUs measure first


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopConfig:
    """When to check, save and stop."""

    epochs: float = 8.0
    max_steps: int = 0  # 0: as many as the epochs make
    evaluate_every: float = 1.0  # epochs
    patience: int = 0  # evaluations without a better val recall before stopping; 0: never
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int = 0  # also every so many steps; 0: by time alone


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Self-supervision on photos and image-text alignment inside a product (2205.04168 S1; methods: our design)."""

    # self-supervision at the rate of posttrain wipes out what the published trunk knows (docs/LOG.md, E6)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(trunk_lr=3e-5, text_lr=1e-4, head_lr=1e-3))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(epochs=2.0))
    view: ViewConfig = field(default_factory=ViewConfig)
    view_size: int = 128
    batch: int = 48
    photos: int = 0  # photos an epoch; 0: as many as there are
    text_share: float = 0.5  # of a batch, photos of products with text (where there are photos of both kinds)
    self_weight: float = 1.0
    alignment_weight: float = 1.0
    scale: float = 10.0  # inverse temperature at the start; it is learned


@dataclass(frozen=True, slots=True, kw_only=True)
class DualConfig:
    """Dual-level alignment (MOON2.0 2511.12449): its coefficients are not known, these are ours."""

    inter_weights: tuple[float, ...] = (1.0, 1.0, 1.0)  # of text, image and joint queries against products
    intra_weight: float = (
        1.0  # of image and text of one product against each other; 0: between products alone
    )
    intra_scale: float = 16.0  # inverse temperature of those at the start; it is learned
    weights: Literal["fixed", "learned", "learned-stopgrad"] = "fixed"  # of the objectives, from the experts
    balance: float = 0.01  # rho, of the load balance of experts
    sparsity: float = 0.001  # sigma, of few objectives an expert
    filter: bool = False  # pairs that the encoder does not believe count less
    filter_threshold: float = 0.6
    filter_kappa: float = 10.0
    filter_margin: float = 0.2  # at the start; it falls to 0 with the last step


@dataclass(frozen=True, slots=True, kw_only=True)
class PosttrainConfig:
    """Learning from what users searched and acted on (MOON 2511.11305 stage 2; 2205.04168 S2)."""

    optim: OptimConfig = field(default_factory=OptimConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    view: ViewConfig = field(default_factory=ViewConfig)
    product_view: ViewConfig = field(
        default_factory=lambda: ViewConfig(min_area=0.6, rotate=10.0, erase=0.0, blur=0.0, light=0.2)
    )
    view_size: int = 160
    final_view_size: int = 0  # views of the last steps, larger ones: progressive resizing; 0: as before
    final_share: float = 0.25  # of all steps
    batch: int = 64  # queries
    chunk: int = 0  # rows encoded at a time, so that a batch may be larger than memory; 0: all
    keep_megabytes: int = 0  # of activations that are held, so that their chunks need not be encoded twice
    queries_per_product: int = 1  # 2 or 3 encode fewer product photos a step, and learn less from it
    pairs: int = 0  # queries an epoch, drawn at random; 0: all of them
    category_negatives: Literal["any", "same", "other"] = "any"  # 2205.04168 leaves the direction open
    category_hard: int = 0  # products of a query's category drawn as hard negatives, for every query
    actions: tuple[Action, ...] = ()  # learn from pairs of these actions alone; (): from all
    clean: tuple[Filter, ...] = ()  # filters over the pairs, in this order (shop.clean); hardest comes last
    augmented: str = ""  # folder of made titles and photos of the products (moonshelf augment)
    augmented_share: float = (
        0.5  # of the products of a batch that show a made photo, and of those with a made title
    )
    own_queries: bool = False  # products also ask for themselves, by title and photo (made data)
    own_share: float = 0.5  # of a batch, such queries beside searches; 0 or 1: as many as there are
    types: tuple[
        str, ...
    ] = ()  # typed pairs, query>product:weight, or moon (training.typed), instead of modality_dropout; (): as they come
    align: Literal["joint", "dual"] = "joint"  # dual: text, image and both at once, and inside products
    dual: DualConfig = field(default_factory=DualConfig)
    loss: Literal["info_nce", "circle"] = "info_nce"
    gamma: float = 32.0  # sharpness of the circle loss
    margin: float = 0.25  # of the circle loss
    guard: float = (
        -1.0
    )  # negatives more alike than the best positive by this much are left out; below 0: none are
    mine: int = 0  # hard negatives a query that the encoder at the start of the stage takes for right
    mine_guard: float = (
        0.05  # those more alike than the query's own product by this much are taken for right ones
    )
    mined: str = ""  # or a file of negatives mined before (training.mining)
    mined_per_query: int = 1  # how many of them are drawn for every query
    modality_dropout: float = (
        0.2  # probability that a product of a batch shows only its photo or only its text
    )
    query_weight: float = (
        1.5  # of the term between queries of one product, times the share of queries with such a peer
    )
    memory: int = 8192  # product vectors of earlier steps that serve as further negatives; 0: none
    memory_warmup: int = 0  # steps before they take part: the first vectors of a new encoder age fast
    label_smoothing: float = 0.2  # share of the target spread over the negatives (docs/LOG.md, E12)
    replay: float = 0.0  # weight of stage one's loss on a few photos of all shops a step: not to forget it
    replay_batch: int = 16  # photos of it a step
    self_weight: float = 0.0  # >0: joint with self-supervision on the query photos of the batch
    scale: float = 16.0
