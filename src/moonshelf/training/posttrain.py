"""Stage two, posttrain: queries (photo or text) and the products that people acted on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from moonshelf.encoder import CompactEncoder, Item, collate, product_text
from moonshelf.errors import TooLittleData
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text
from moonshelf.training.config import PosttrainConfig, PretrainConfig
from moonshelf.training.guard import barred_photos, held_hashes, held_texts
from moonshelf.training.loop import TrainResult, Validate, train
from moonshelf.training.losses import info_nce, matryoshka, nt_xent
from moonshelf.training.memory import ProductMemory
from moonshelf.training.photos import PhotoReader
from moonshelf.training.pretrain import Pretrain, PretrainBatch, numbers, photos_batch
from moonshelf.training.sampler import epoch_order, grouped_batches, step_seed
from moonshelf.training.views import random_views
from moonshelf.types import ProductBatch


@dataclass(frozen=True, slots=True)
class PosttrainBatch:
    """Queries, the products they led to, and second views of the query photos for joint self-supervision."""

    queries: ProductBatch
    query_products: Tensor  # [B] int64, product number
    products: ProductBatch
    product_numbers: Tensor  # [P] int64, distinct
    second: ProductBatch  # [S] other views of the first S query photos; empty unless joint
    second_of: Tensor  # [S] int64, their query
    replay: PretrainBatch | None  # photos and texts of stage one


class Posttrain:
    """The stage: InfoNCE both ways between queries and products, and among queries of one product.

    Negatives are the other products of the batch and the product memory. Products of one SPU or duplicate
    group are no negatives of each other. ``category_negatives``: ``same`` fills batches from one category
    (hard negatives), ``other`` takes a query's own category out of its negatives (no false ones).

    With ``replay`` every step also takes a small batch of stage one over all shops, those without searches too:
    rehearsal, so that one encoder stays good for shops whose behaviour is not known (our design).
    """

    name = "posttrain"

    def __init__(
        self, shops: Sequence[Shop], encoder: CompactEncoder, config: PosttrainConfig, seed: int
    ) -> None:
        self.config, self.seed = config, seed
        self.replay: Pretrain | None = None
        if config.replay > 0:
            first = PretrainConfig(batch=config.replay_batch, view_size=config.view_size, view=config.view)
            self.replay = Pretrain(shops, encoder, first, seed)
        shops = [s for s in shops if s.searches is not None]
        self.optim, self.loop = config.optim, config.loop
        self._widths, self._max_tokens = encoder.widths, encoder.config.max_tokens
        self._max_images = encoder.config.max_images
        self._shops = list(shops)
        self._product_ids: list[tuple[int, str]] = []
        self._queries: list[tuple[int, str | None, str | None]] = []  # shop, image, text
        rows: list[int] = []
        groups: list[int] = []
        categories: list[str] = []
        hashes, texts = held_hashes(shops, creatives=False), held_texts(shops)
        for number, shop in enumerate(shops):
            base, leak = max(groups, default=-1) + 1, shop.leak_groups()
            if shop.products is None:
                continue
            ids = shop.products["product_id"].to_list()
            index = {p: i + len(self._product_ids) for i, p in enumerate(ids)}
            self._product_ids += [(number, p) for p in ids]
            groups += [base + leak[p] for p in ids]
            categories += [f"{number} {c}" for c in shop.products["category"].fill_null("")]
            empty = {p for p in ids if not (shop.product(p).image_ids or product_text(shop.product(p)))}
            barred = barred_photos(shop, hashes)
            for product, image, text in self._pairs(shop):
                held = image in barred or (image is None and plain_text(text) in texts)
                if product in empty or held:  # held: asked in val or test, here or in another shop
                    continue
                rows.append(index[product])
                self._queries.append((number, image, text))
        if len(rows) < 2:
            raise TooLittleData(
                f"only {len(rows)} searches to learn from in split train",
                where=", ".join(str(shop.source) for shop in shops),
                mend="add rows to the table searches, or leave posttrain out with --set stages=pretrain",
            )
        self.pair_products = np.asarray(rows, dtype=np.int64)
        self.groups = torch.tensor(groups)
        codes = numbers(categories)[0]
        self.categories = torch.from_numpy(codes)
        self._pair_categories = codes[self.pair_products]
        self.reader = PhotoReader([shop.images for shop in shops], config.view_size)
        self._take = min(config.pairs or len(rows), len(rows))
        self._epoch_batches = lru_cache(maxsize=2)(self._make_epoch)
        self.steps_per_epoch = len(self._epoch_batches(0))
        self._fingerprints = [shop.fingerprint for shop in shops]
        self.scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        slots = min(config.memory, len(self._product_ids))
        self.memory = ProductMemory(slots, encoder.width)

    @staticmethod
    def _pairs(shop: Shop) -> list[tuple[str, str | None, str | None]]:
        if shop.searches is None:
            return []
        train_rows = shop.searches.filter(pl.col("split") == "train")
        return [
            (row["product_id"], row["query_image_id"], row["query_text"])
            for row in train_rows.select("product_id", "query_image_id", "query_text").iter_rows(named=True)
            if row["query_image_id"] or row["query_text"]
        ]

    def identity(self) -> dict[str, Any]:
        """See :class:`moonshelf.training.loop.Stage`."""
        replay = {"replay": self.replay.identity()} if self.replay else {}
        return {"shops": self._fingerprints, "seed": self.seed, "config": asdict(self.config), **replay}

    def _make_epoch(self, epoch: int) -> list[np.ndarray]:
        order = epoch_order(len(self.pair_products), self._take, self.seed, self.name, epoch)
        return grouped_batches(
            self.pair_products,
            self._pair_categories,
            order,
            batch=self.config.batch,
            per_product=self.config.queries_per_product,
            same_category=self.config.category_negatives == "same",
            rng=np.random.default_rng(step_seed(self.seed, "posttrain batches", epoch)),
        )

    def _query_batch(self, rows: np.ndarray, generator: torch.Generator) -> tuple[ProductBatch, Tensor]:
        config = self.config
        with_photo = [i for i, r in enumerate(rows) if self._queries[r][1] is not None]
        addresses = [(self._queries[rows[i]][0], str(self._queries[rows[i]][1])) for i in with_photo]
        pixels = self.reader.read(addresses)
        views = random_views(pixels, config.view_size, config.view, generator)
        texts = [self._queries[r][2] or "" for r in rows]
        return self._with_views(texts, views, torch.tensor(with_photo, dtype=torch.int64)), pixels

    def _with_views(self, texts: Sequence[str], views: Tensor, owner: Tensor) -> ProductBatch:
        """Texts (empty: none) and photo views to one batch."""
        present = [i for i, text in enumerate(texts) if text.strip()]
        packed = collate(
            [Item(texts[i]) for i in present], max_tokens=self._max_tokens, size=self.config.view_size
        )
        ids = torch.zeros(len(texts), packed.ids.shape[1], dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        ids[present], mask[present] = packed.ids, packed.mask
        return ProductBatch(len(texts), views, owner, ids, mask)

    def _product_batch(self, products: np.ndarray, generator: torch.Generator) -> ProductBatch:
        config = self.config
        drop = torch.rand(len(products), generator=generator)
        pick = torch.rand(len(products), generator=generator)
        texts: list[str] = []
        addresses: list[tuple[int, str]] = []
        owner: list[int] = []
        for i, number in enumerate(products):
            shop, product_id = self._product_ids[number]
            product = self._shops[shop].product(product_id)
            text = product_text(product)
            photo = (
                product.image_ids[int(pick[i] * min(len(product.image_ids), self._max_images))]
                if product.image_ids
                else None
            )
            if photo is not None and text and drop[i] < config.modality_dropout:
                photo, text = (photo, "") if drop[i] < config.modality_dropout / 2 else (None, text)
            texts.append(text)
            if photo is not None:
                addresses.append((shop, photo))
                owner.append(i)
        views = random_views(self.reader.read(addresses), config.view_size, config.product_view, generator)
        return self._with_views(texts, views, torch.tensor(owner, dtype=torch.int64))

    def prepare(self, step: int) -> PosttrainBatch:
        """Decode and view the queries and products of a step."""
        epoch, at = divmod(step, self.steps_per_epoch)
        batches = self._epoch_batches(epoch)
        rows = batches[at % len(batches)]
        generator = torch.Generator().manual_seed(step_seed(self.seed, self.name, epoch, at))
        queries, pixels = self._query_batch(rows, generator)
        products = np.unique(self.pair_products[rows])
        product_batch = self._product_batch(products, generator)
        joint = self.config.self_weight > 0
        second = random_views(
            pixels if joint else pixels[:0], self.config.view_size, self.config.view, generator
        )
        return PosttrainBatch(
            queries=queries,
            query_products=torch.from_numpy(self.pair_products[rows]),
            products=product_batch,
            product_numbers=torch.from_numpy(products),
            second=photos_batch(second),
            second_of=queries.owner[: len(second)],
            replay=self.replay.prepare(step) if self.replay else None,
        )

    def masks(self, queries: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
        """Positive and negative pairs ``[B, P]`` of product numbers; pairs in neither take no part."""
        positive = queries[:, None] == products[None]
        negative = self.groups[queries][:, None] != self.groups[products][None]
        if self.config.category_negatives == "other":
            negative &= self.categories[queries][:, None] != self.categories[products][None]
        return positive, negative

    def loss(
        self, encoder: CompactEncoder, batch: PosttrainBatch, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Query to product, product to query, query to query; each over the nested widths."""
        device = encoder.class_anchors.device
        queries, products = encoder(batch.queries.to(device)), encoder(batch.products.to(device))
        remembered, remembered_numbers = self.memory.contents()
        fresh = ~torch.isin(remembered_numbers, batch.product_numbers)
        candidates = torch.cat((products, remembered[fresh].to(device, products.dtype)))
        candidate_numbers = torch.cat((batch.product_numbers, remembered_numbers[fresh]))
        scale = self.scale.exp().clamp(max=100)
        smoothing = self.config.label_smoothing
        positive, negative = (m.to(device) for m in self.masks(batch.query_products, candidate_numbers))
        there = matryoshka(
            lambda q, c: info_nce(q, c, positive, negative, scale, smoothing),
            (queries, candidates),
            self._widths,
        )
        positive_t, negative_t = (
            m.T.to(device) for m in self.masks(batch.query_products, batch.product_numbers)
        )
        back = matryoshka(
            lambda p, q: info_nce(p, q, positive_t, negative_t, scale, smoothing),
            (products, queries),
            self._widths,
        )
        total = there + back
        values = {
            "query_to_product": there.item(),
            "product_to_query": back.item(),
            "scale": scale.item(),
            "negatives": float(negative.float().sum(1).mean()),
        }
        if self.config.query_weight:
            peer, other = (m.to(device) for m in self.masks(batch.query_products, batch.query_products))
            peer = peer & ~torch.eye(len(peer), dtype=torch.bool, device=device)
            among = matryoshka(
                lambda a, b: info_nce(a, b, peer, other, scale, smoothing), (queries, queries), self._widths
            )
            total = total + self.config.query_weight * among
            values["query_to_query"] = among.item()
        if len(batch.second_of) > 1:
            first, second = queries[batch.second_of.to(device)], encoder(batch.second.to(device))
            groups = self.groups[batch.query_products[batch.second_of]].to(device)
            views = matryoshka(lambda a, b: nt_xent(a, b, groups, scale), (first, second), self._widths)
            total = total + self.config.self_weight * views
            values["self"] = views.item()
        if self.replay is not None and batch.replay is not None:
            rehearsed, parts = self.replay.loss(encoder, batch.replay, step)
            total = total + self.config.replay * rehearsed
            values |= {f"replay_{name}": value for name, value in parts.items()}
        self.memory.put(products, batch.product_numbers)
        return total, values

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
) -> TrainResult:
    """Posttrain ``encoder`` in place on the searches (split train) of a shop and of extra shops.

    Extra shops without searches take part in the replay alone, when there is one.

    Raises:
        TooLittleData: there are not two searches.
        InputError: the checkpoint belongs to other settings.
    """
    stage = Posttrain([shop, *extra], encoder, config, seed)
    return train(encoder, stage, folder, validate=validate, resume=resume)
