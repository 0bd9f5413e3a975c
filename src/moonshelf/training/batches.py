"""The batches of posttrain: queries, the products they led to, hard negatives; decoded and viewed, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moonshelf.augment.store import Augmented
from moonshelf.encoder import CompactConfig, Item, collate, product_text
from moonshelf.training.asking import OWN
from moonshelf.training.config import PosttrainConfig
from moonshelf.training.distributed import part
from moonshelf.training.hard import HardNegatives
from moonshelf.training.mining import load_mined
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.photos import PhotoReader
from moonshelf.training.pretrain import PretrainBatch, photos_batch
from moonshelf.training.sampler import epoch_order, grouped_batches, step_seed
from moonshelf.training.typed import SHOWS, MixedSampler, TypedSampler, modalities, needed, parse_types
from moonshelf.training.views import random_views
from moonshelf.types import Product, ProductBatch


@dataclass(frozen=True, slots=True)
class PosttrainBatch:
    """Queries, the products they led to, and second views of the query photos for joint self-supervision.

    Photos and texts are those of this process's part of the rows, numbers those of the whole batch.
    """

    queries: ProductBatch
    rows: np.ndarray  # [B] int64, pair numbers
    products: ProductBatch
    product_numbers: Tensor  # [P] int64; distinct, unless typed pairs show a product in several ways
    kinds: dict[
        str, Tensor
    ]  # [P] bool each, disjoint: which products are here as what (in_batch, category, mined)
    second: ProductBatch  # other views of the query photos; empty unless joint
    second_of: Tensor  # [S] int64, their query
    replay: PretrainBatch | None  # photos and texts of stage one


class PairBatches:
    """Makes the batch of a step, a function of (seed, step).

    Args:
        pairs: what to learn from.
        config: of the stage.
        encoder: for the number of tokens and photos.
        seed, name: of the streams of random numbers.
    """

    def __init__(
        self, pairs: SearchPairs, config: PosttrainConfig, encoder: CompactConfig, seed: int, name: str
    ) -> None:
        self.pairs, self.config, self.seed, self.name = pairs, config, seed, name
        self._max_tokens, self._max_images = encoder.max_tokens, encoder.max_images
        self.hard: HardNegatives | None = None
        if config.category_hard or config.mined:
            mined = load_mined(Path(config.mined), pairs) if config.mined else None
            self.hard = HardNegatives(
                pairs, category=config.category_hard, mined=mined, mined_per_query=config.mined_per_query
            )
        self._categories = pairs.categories.numpy()[pairs.product_of]
        # products that ask do so with catalogue photos: what makes them look taken by phone would only hide them
        self.query_view = config.product_view if set(pairs.source) == {"product"} else config.view
        sizes = {config.view_size, config.final_view_size or config.view_size}
        stores = [shop.images for shop in pairs.shops]
        self.augmented: Augmented | None = None
        if config.augmented:
            self.augmented = Augmented(Path(config.augmented), pairs.shops[0])
            stores.append(self.augmented.images)
        self._readers = {size: PhotoReader(stores, size, core=encoder.core) for size in sizes}
        self._copies, self._guided = 2 if encoder.core else 1, encoder.guided
        self._take = min(config.pairs or len(pairs), len(pairs))
        self._epoch_batches = lru_cache(maxsize=2)(self._make_epoch)
        self.typed: TypedSampler | None = None
        self.mixed: MixedSampler | None = None
        if config.types:
            kinds = [
                modalities(image, text, source)
                for (_, image, text), source in zip(pairs.queries, pairs.source, strict=True)
            ]
            shows = [self._can_show(number) for number in range(len(pairs.products))]
            per_pair = [shows[number] for number in pairs.product_of]
            types = parse_types(config.types)
            self.typed = TypedSampler(kinds, per_pair, types, min(config.batch, self._take), seed, name)
            self.steps_per_epoch = max(1, self._take // min(config.batch, self._take))
            return
        own = (pairs.source == OWN).to_numpy()
        if 0 < config.own_share < 1 and own.any() and not own.all() and min(config.batch, self._take) > 1:
            self.mixed = MixedSampler(own, config.own_share, min(config.batch, self._take), seed, name)
            self.steps_per_epoch = max(1, self._take // min(config.batch, self._take))
        else:
            self.steps_per_epoch = len(self._epoch_batches(0))

    def _can_show(self, number: int) -> frozenset[str]:
        shop, product_id = self.pairs.products[number]
        text = product_text(self.pairs.shops[shop].product(product_id))
        return frozenset((["image"] if self.pairs.photos(number) else []) + (["rich"] if text else []))

    def _make_epoch(self, epoch: int) -> list[np.ndarray]:
        order = epoch_order(len(self.pairs), self._take, self.seed, self.name, epoch)
        return grouped_batches(
            self.pairs.product_of,
            self._categories,
            order,
            batch=self.config.batch,
            per_product=self.config.queries_per_product,
            same_category=self.config.category_negatives == "same",
            rng=np.random.default_rng(step_seed(self.seed, f"{self.name} batches", epoch)),
        )

    def _query_batch(
        self, rows: np.ndarray, asks: Sequence[str], size: int, generator: torch.Generator
    ) -> tuple[ProductBatch, ProductBatch, Tensor]:
        """This process's part of the queries; second views of its photos; rows of all photos in the whole batch.

        ``asks``: the modality that each shows; "": as it is.
        """
        view = self.query_view
        own = part(len(rows))
        asked = [self.pairs.asked(row, kind) for row, kind in zip(rows.tolist(), asks, strict=True)]
        photos = [(i, (shop, image)) for i, (shop, image, _) in enumerate(asked) if image is not None]
        mine = [(i, address) for i, address in photos if own.start <= i < own.stop]
        start = sum(i < own.start for i, _ in photos)
        pixels = self._readers[size].read([address for _, address in mine])
        k = self._copies
        views = random_views(pixels, size, view, generator, total=len(photos) * k, start=start * k)
        texts = [text for _, _, text in asked[own]]
        owner = torch.tensor([i - own.start for i, _ in mine], dtype=torch.int64).repeat_interleave(k)
        second, others = pixels[:0], [i for i, _ in photos]
        if self.config.self_weight > 0:
            second = random_views(pixels[::k], size, view, generator, total=len(photos), start=start)
        else:
            others = []
        return (
            self._with_views(texts, views, owner),
            photos_batch(second),
            torch.tensor(others, dtype=torch.int64),
        )

    def _with_views(self, texts: Sequence[str], views: Tensor, owner: Tensor) -> ProductBatch:
        """Texts (empty: none) and photo views to one batch."""
        present = [i for i, text in enumerate(texts) if text.strip()]
        packed = collate(
            [Item(texts[i]) for i in present],
            max_tokens=self._max_tokens,
            size=self.config.view_size,
            guided=self._guided,
        )
        ids = torch.zeros(len(texts), packed.ids.shape[1], dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        ids[present], mask[present] = packed.ids, packed.mask
        return ProductBatch(len(texts), views, owner, ids, mask)

    def _product_batch(
        self, products: np.ndarray, shown: Sequence[str], size: int, generator: torch.Generator
    ) -> ProductBatch:
        """This process's part of the products, each showing what its type says; without types all that it has."""
        config, own = self.config, part(len(products))
        drop = torch.rand(len(products), generator=generator)
        pick = torch.rand(len(products), generator=generator)
        made = torch.rand(3, len(products), generator=generator) if self.augmented else torch.ones(3, 0)
        texts: list[str] = []
        addresses: list[tuple[int, str]] = []
        owner: list[int] = []
        for i, number in enumerate(products.tolist()):
            shop, product_id = self.pairs.products[number]
            product = self.pairs.shops[shop].product(product_id)
            text = product_text(product, marked=self._guided)
            photos = self.pairs.photos(number)[: self._max_images]
            photo = photos[int(pick[i] * len(photos))] if photos else None
            store = shop
            if self.augmented and shop == 0:
                text, store, photo = self._made(product, text, photo, made[:, i].tolist())
            if shown:
                photo = None if shown[i] == "rich" else photo
                text = "" if shown[i] == "image" else product.title if shown[i] == "title+image" else text
            elif photo is not None and text and drop[i] < config.modality_dropout:
                photo, text = (photo, "") if drop[i] < config.modality_dropout / 2 else (None, text)
            texts.append(text)
            if photo is not None:
                addresses.append((store, photo))
                owner.append(i)
        mine = slice(sum(i < own.start for i in owner), sum(i < own.stop for i in owner))
        pixels = self._readers[size].read(addresses[mine])
        k = self._copies
        views = random_views(
            pixels, size, config.product_view, generator, total=len(addresses) * k, start=mine.start * k
        )
        at = torch.tensor(owner[mine], dtype=torch.int64) - own.start
        return self._with_views(texts[own], views, at.repeat_interleave(k))

    def _made(
        self, product: Product, text: str, photo: str | None, drawn: Sequence[float]
    ) -> tuple[str, int, str | None]:
        """Text, number of the store and photo of a product, some of them made."""
        assert self.augmented is not None
        share, store = self.config.augmented_share, 0
        photos = self.augmented.photos.get(product.product_id, ())
        if photo is not None and photos and drawn[0] < share:
            store, photo = len(self.pairs.shops), photos[int(drawn[1] * len(photos))]
        if drawn[2] < share:
            text = self.augmented.texts.get(product.product_id, text)
        return text, store, photo

    def _candidates(
        self, rows: np.ndarray, shows: Sequence[str], epoch: int, at: int
    ) -> tuple[np.ndarray, list[str], dict[str, Tensor]]:
        """Products of a step: those of its pairs, then hard negatives that are not among them yet.

        With typed pairs a product stands there once for everything it shows. A hard negative shows what the product of
        one of the pairs does, drawn at random: were it shown in full, its text would give it away beside photos alone.
        """
        own = self.pairs.product_of[rows]
        codes = np.array([SHOWS.index(show) for show in shows] or [0] * len(own), dtype=np.int64)
        both = np.unique(own * len(SHOWS) + codes)
        parts, shown = {"in_batch": both // len(SHOWS)}, [SHOWS[code] for code in both % len(SHOWS)]
        if self.hard is not None:
            rng = np.random.default_rng(step_seed(self.seed, f"{self.name} hard", epoch, at))
            for kind, numbers in self.hard.draw(rows, rng).items():
                parts[kind] = np.setdiff1d(numbers, np.concatenate(list(parts.values())))
                shown += [self._shown(number, shows, rng) for number in parts[kind].tolist()]
        kind_of = np.repeat(np.arange(len(parts)), [len(numbers) for numbers in parts.values()])
        kinds = {kind: torch.from_numpy(kind_of == i) for i, kind in enumerate(parts)}
        return np.concatenate(list(parts.values())), shown if shows else [], kinds

    def _shown(self, number: int, shows: Sequence[str], rng: np.random.Generator) -> str:
        has = self._can_show(number) if shows else frozenset[str]()
        able = [show for show in shows if needed(show) <= has]
        return able[int(rng.integers(len(able)))] if able else "rich+image"

    def prepare(self, step: int, size: int) -> PosttrainBatch:
        """Decode and view the queries and products of a step.

        Args:
            step: from 0.
            size: side of the views.
        """
        epoch, at = divmod(step, self.steps_per_epoch)
        if self.typed is not None:
            rows, types = self.typed.rows(step)
            shows, asks = [one.show for one in types], [one.query for one in types]
        else:
            batches = [] if self.mixed else self._epoch_batches(epoch)
            rows = self.mixed.rows(step) if self.mixed else batches[at % len(batches)]
            shows, asks = [], [""] * len(rows)
        generator = torch.Generator().manual_seed(step_seed(self.seed, self.name, epoch, at))
        queries, second, second_of = self._query_batch(rows, asks, size, generator)
        products, shown, kinds = self._candidates(rows, shows, epoch, at)
        product_batch = self._product_batch(products, shown, size, generator)
        return PosttrainBatch(
            queries=queries,
            rows=rows,
            products=product_batch,
            product_numbers=torch.from_numpy(products),
            kinds=kinds,
            second=second,
            second_of=second_of,
            replay=None,
        )
