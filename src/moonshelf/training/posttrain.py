"""Stage two, posttrain: queries (photo or text) and the products that people acted on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from moonshelf.encoder import CompactEncoder
from moonshelf.progress import say
from moonshelf.shop.shop import Shop
from moonshelf.training.batches import PairBatches, PosttrainBatch
from moonshelf.training.chunks import encode_in_chunks
from moonshelf.training.collapse import CollapseWatch
from moonshelf.training.config import PosttrainConfig, PretrainConfig
from moonshelf.training.distributed import in_turn, part, wait
from moonshelf.training.gather import encode_together, finite, world
from moonshelf.training.loop import TrainResult, Validate, total_steps, train
from moonshelf.training.losses import Relation, circle_loss, info_nce, matryoshka, nt_xent, two_sided
from moonshelf.training.memory import ProductMemory
from moonshelf.training.mining import mine, mined_mark
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.pretrain import Pretrain
from moonshelf.training.prior import FILE as PRIOR
from moonshelf.training.prior import prior_vectors, similarity
from moonshelf.training.typed import asks_products
from moonshelf.types import ProductBatch
from moonshelf.workspace import write_json


class Posttrain:
    """The stage: InfoNCE both ways between queries and products, and among queries of one product.

    Negatives are the other products of the batch and the product memory. Products of one SPU or duplicate
    group are no negatives of each other. ``category_negatives``: ``same`` fills batches from one category
    (hard negatives), ``other`` takes a query's own category out of its negatives (no false ones; products
    without a category stay in).

    With ``replay`` every step also takes a small batch of stage one over all shops, those without searches too:
    rehearsal, so that one encoder stays good for shops whose behaviour is not known (our design).
    """

    def __init__(
        self,
        shops: Sequence[Shop],
        encoder: CompactEncoder,
        config: PosttrainConfig,
        seed: int,
        pairs: SearchPairs | None = None,
        name: str = "posttrain",
    ) -> None:
        self.name = name
        self.config, self.seed = config, seed
        self.replay: Pretrain | None = None
        if config.replay > 0:
            first = PretrainConfig(
                batch=config.replay_batch, view_size=config.view_size, view=config.view, optim=config.optim
            )
            self.replay = Pretrain(shops, encoder, first, seed)
        self.optim, self.loop = config.optim, config.loop
        self._widths = encoder.widths
        self.pairs = pairs or pairs_of(shops, config, seed, name)
        self.batches = PairBatches(self.pairs, config, encoder.config, seed, name)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self._total = total_steps(config.loop, self.steps_per_epoch)
        self._fingerprints = [shop.fingerprint for shop in shops]
        self.scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        slots = min(config.memory, len(self.pairs.products))
        if slots < config.memory:
            say(f"{name}: memory for {slots:,} products, all that there are ({config.memory:,} asked for)")
        self.memory = ProductMemory(slots, encoder.width)
        self._collapse = CollapseWatch(name)

    def identity(self) -> dict[str, Any]:
        """See :class:`moonshelf.training.loop.Stage`."""
        replay = {"replay": self.replay.identity()} if self.replay else {}
        made = self.batches.augmented
        config = asdict(self.config) | {
            "mined": mined_mark(self.config.mined),
            "augmented": made.key if made else "",
        }
        return {"shops": self._fingerprints, "seed": self.seed, "config": config, **replay}

    def view_size(self, step: int) -> int:
        """Side of the views of a step: small ones are cheap to learn from, the last ones come close to use."""
        final = self.config.final_view_size
        return (
            final if final and step >= (1 - self.config.final_share) * self._total else self.config.view_size
        )

    def prepare(self, step: int) -> PosttrainBatch:
        """The batch of a step, and the photos and texts of stage one that it rehearses."""
        batch = self.batches.prepare(step, self.view_size(step))
        return replace(batch, replay=self.replay.prepare(step)) if self.replay else batch

    def loss(
        self, encoder: CompactEncoder, batch: PosttrainBatch, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Query to product, product to query, query to query; each over the nested widths."""
        queries = self._encode(encoder, batch.queries, "queries", step)
        products = self._encode(encoder, batch.products, "products", step)
        found, bank, values = self._against(batch, step, products)
        scale = self.scale.exp().clamp(max=100)
        both_ways = partial(self._both_ways, led=found, scale=scale)
        there, back = matryoshka(both_ways, (queries, products, bank), self._widths)
        values = {
            "query_to_product": there.item(),
            "product_to_query": back.item(),
            "scale": scale.item(),
            **values,
        }
        if self.config.loss == "info_nce":
            self._collapse.see(values["product_to_query"], len(queries))
        total, more = self._beside(encoder, batch, step, queries, scale)
        self.memory.put(products, batch.product_numbers, step)
        return there + back + total, values | more

    def _encode(self, encoder: CompactEncoder, own: ProductBatch, what: str, step: int) -> Tensor:
        """Everybody's rows ``[sum of rows, width]``, by chunks where they are asked for."""
        budget = 0 if what == "second views" else self.config.keep_megabytes * 1_000_000 // 2
        chunked = partial(encode_in_chunks, encoder, rows=self.config.chunk, budget=budget)
        own = own.to(encoder.class_anchors.device)
        return finite(
            encode_together(chunked, own, encoder.width, cut=self.optim.shard), what, self.name, step
        )

    def _against(
        self, batch: PosttrainBatch, step: int, products: Tensor
    ) -> tuple[Relation, Tensor, dict[str, float]]:
        """Right and wrong among the products and the memory; the memory's vectors; how many negatives of which kind."""
        past, past_numbers, past_steps = self.memory.contents()
        fresh = ~torch.isin(past_numbers, batch.product_numbers)
        if step < self.config.memory_warmup:
            fresh = torch.zeros_like(fresh)
        bank = past[fresh].to(products.device, products.dtype)
        numbers = torch.cat((batch.product_numbers, past_numbers[fresh]))
        found = self.pairs.relation(batch.rows, numbers, own_category=self._own_category)
        kinds = batch.kinds | {"memory": torch.ones(int(fresh.sum()), dtype=torch.bool)}
        if world()[1] > 1:  # spatial: encoded by another process
            here = torch.zeros(len(batch.product_numbers), dtype=torch.bool)
            here[part(len(here))] = True
            kinds |= {"in_batch": kinds["in_batch"] & here, "spatial": kinds["in_batch"] & ~here}
        values = {"negatives": float(found.negatives_per_query().float().mean())}
        values |= _counted(found, kinds, len(batch.product_numbers))
        if bool(fresh.any()):
            values["memory_age"] = float((step - past_steps[fresh]).float().mean())
        return found.to(products.device), bank, values

    @property
    def _own_category(self) -> bool:
        return self.config.category_negatives != "other"

    def _beside(
        self, encoder: CompactEncoder, batch: PosttrainBatch, step: int, queries: Tensor, scale: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """What else is learned in the step: queries of one product, second views of photos, stage one's photos."""
        total, values = queries.new_zeros(()), dict[str, float]()
        device, smoothing = queries.device, self.config.label_smoothing
        if self.config.query_weight:
            peers = self.pairs.peers(batch.rows, own_category=self._own_category)
            alike = peers.to(device)
            among = matryoshka(
                lambda a, b: info_nce(a, b, alike, scale, smoothing=smoothing),
                (queries, queries),
                self._widths,
            )
            # Few queries of a large shop meet another one of their product in a batch. Their mean alone would
            # weigh as much as all other queries together, and its noise drowned them (docs/LOG.md, E15).
            paired = torch.bincount(peers.positive[0], minlength=len(queries)) > 0
            share = float((paired & (peers.negatives_per_query() > 0)).float().mean())
            total = total + self.config.query_weight * share * among
            values["query_to_query"] = among.item()
        if len(batch.second_of) > 1:
            first = queries[batch.second_of.to(device)]
            second = self._encode(encoder, batch.second, "second views", step)
            groups = self.pairs.kin(batch.rows[batch.second_of.numpy()]).to(device)
            views = matryoshka(lambda a, b: nt_xent(a, b, groups, scale), (first, second), self._widths)
            total = total + self.config.self_weight * views
            values["self"] = views.item()
        if self.replay is not None and batch.replay is not None:
            rehearsed, parts = self.replay.loss(encoder, batch.replay, step)
            total = total + self.config.replay * rehearsed
            values |= {f"replay_{name}": value for name, value in parts.items()}
        return total, values

    def _both_ways(
        self, queries: Tensor, products: Tensor, bank: Tensor, *, led: Relation, scale: Tensor
    ) -> Tensor:
        """``[2]``: query to product, product to query. Past vectors stand against queries alone."""
        config = self.config
        guard = config.guard if config.guard >= 0 else None
        if config.loss == "info_nce":
            smoothing = config.label_smoothing
            return torch.stack(
                two_sided(queries, products, led, scale, bank=bank, smoothing=smoothing, guard=guard)
            )
        asked = led.columns(0, len(products)).T
        shape: dict[str, Any] = {"gamma": config.gamma, "margin": config.margin, "guard": guard}
        there = circle_loss(queries, products, led, bank=bank, **shape)
        return torch.stack((there, circle_loss(products, queries, asked, **shape)))

    def parameters(self) -> list[nn.Parameter]:
        """The learned temperatures."""
        return [self.scale, *(self.replay.parameters() if self.replay else [])]

    def state(self) -> dict[str, Tensor]:
        """Temperatures and product memory."""
        replay = self.replay.state() if self.replay else {}
        return {"scale": self.scale.detach(), **self.memory.state(), **replay}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take :meth:`state` back."""
        with torch.no_grad():
            self.scale.copy_(state["scale"])
        self.memory.load_state(state)
        if self.replay:
            self.replay.load_state(state)


def _counted(found: Relation, kinds: dict[str, Tensor], here: int) -> dict[str, float]:
    """Mean number of negatives a query by kind; the memory's columns come after the ``here`` of the batch."""
    excluded = torch.bincount(found.excluded[1], minlength=found.shape[1]).float() / max(1, found.shape[0])
    parts = {kind: excluded[here:] if kind == "memory" else excluded[:here] for kind in kinds}
    return {f"negatives_{kind}": float((1 - parts[kind][columns]).sum()) for kind, columns in kinds.items()}


def pairs_of(shops: Sequence[Shop], config: PosttrainConfig, seed: int, name: str) -> SearchPairs:
    """The pairs that a stage of these settings learns from; without searches products that were acted on ask."""
    return SearchPairs(
        shops,
        actions=config.actions,
        clean=config.clean,
        seed=seed,
        stage=name,
        items=asks_products(config.types) or shops[0].searches is None,
        own=config.own_queries,
    )


def posttrain(
    shop: Shop,
    encoder: CompactEncoder,
    folder: Path,
    config: PosttrainConfig,
    *,
    extra: Sequence[Shop] = (),
    seed: int = 0,
    validate: Validate | None = None,
    resume: bool = True,
    name: str = "posttrain",
) -> TrainResult:
    """Posttrain ``encoder`` in place on the searches (split train) of a shop and of extra shops.

    Extra shops without searches take part in the replay alone, when there is one.

    Raises:
        TooLittleData: fewer than two searches, or all for one design.
        InputError: the checkpoint belongs to other settings.
    """
    shops = [shop, *extra]
    pairs = pairs_of(shops, config, seed, name)
    if "hardest" in config.clean or config.mine:
        with in_turn():  # rank 0 asks the encoder, the others read what it kept
            queries, products = prior_vectors(pairs, encoder, folder)
        if "hardest" in config.clean:
            rows = pairs.keep_hardest(similarity(pairs, queries, products))
            queries = queries[rows]
        if config.mine:
            path = folder / "mined.parquet"
            if not world()[0]:
                say(str(mine(queries, products, pairs, path, per_query=config.mine, guard=config.mine_guard)))
            wait()
            config = replace(config, mined=str(path))
    if pairs.cleaned and not world()[0]:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "cleaning.json", pairs.cleaned)
        if pairs.dropped:
            pl.concat(pairs.dropped, how="diagonal").write_parquet(folder / "dropped.parquet")
    kind: type[Posttrain] = Posttrain
    if config.align == "dual":
        from moonshelf.training.dual import DualPosttrain

        kind = DualPosttrain
    stage = kind(shops, encoder, config, seed, pairs, name)
    result = train(encoder, stage, folder, validate=validate, resume=resume)
    if not world()[0]:
        (folder / PRIOR).unlink(missing_ok=True)  # it was needed to start again after a stop
    return result
