"""Stage one, pretrain: what photos look like and what the shop calls them, without any behaviour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moonshelf.encoder import CompactEncoder, Item, collate, product_text
from moonshelf.errors import TooLittleData
from moonshelf.shop.shop import Shop
from moonshelf.training.config import PretrainConfig
from moonshelf.training.distributed import part
from moonshelf.training.gather import encode_together, finite
from moonshelf.training.guard import barred_photos, held_hashes
from moonshelf.training.kin import Kin, join_texts
from moonshelf.training.loop import TrainResult, Validate, train
from moonshelf.training.losses import alignment, matryoshka, nt_xent
from moonshelf.training.photos import PhotoReader
from moonshelf.training.sampler import cycle, step_seed
from moonshelf.training.views import random_views
from moonshelf.types import ProductBatch


@dataclass(frozen=True, slots=True)
class PretrainBatch:
    """Two views of each photo; the text of those that show a product with text."""

    first: ProductBatch
    second: ProductBatch
    texts: ProductBatch
    texted: Tensor  # [T] int64, the photo that each text belongs to
    groups: Tensor  # [B] int64, photos of one group are not negatives
    text_groups: Tensor  # [T] int64


class Pretrain:
    """The stage: two-view self-supervision over all photos, image-text alignment over product photos.

    Val and test query photos take no part, nor do photos that duplicate them (creatives neither: their splits
    belong to later stages). Text pairs come from product photos only; extra shops bring their own texts.
    """

    name = "pretrain"

    def __init__(
        self, shops: Sequence[Shop], encoder: CompactEncoder, config: PretrainConfig, seed: int
    ) -> None:
        self.config, self.seed = config, seed
        self.optim, self.loop = config.optim, config.loop
        self._widths, self._max_tokens = encoder.widths, encoder.config.max_tokens
        self.photos: list[tuple[int, str]] = []
        self.texts: list[str] = []
        self.groups: list[int] = []
        guarded = held_hashes(shops)
        kin = Kin(shops)
        for number, shop in enumerate(shops):
            self._add(number, shop, guarded, kin.shown[number])
        if len(self.photos) < 4:
            raise TooLittleData(
                f"only {len(self.photos)} good photos to pretrain on",
                where=str(shops[0].source),
                mend="add photos, or leave pretrain out with --set stages=posttrain",
            )
        if len(set(self.groups)) < 2:
            raise TooLittleData(
                f"all {len(self.photos)} photos show one product or one picture: nothing to tell apart",
                where=str(shops[0].source),
                mend="add photos of other products, or leave pretrain out with --set stages=posttrain",
            )
        self._text_groups = join_texts(self.texts, self.groups)
        self.reader = PhotoReader([shop.images for shop in shops], config.view_size)
        with_text = np.array([bool(text) for text in self.texts])
        self._texted, self._bare = np.flatnonzero(with_text), np.flatnonzero(~with_text)
        take = min(config.photos or len(self.photos), len(self.photos))
        batch = min(config.batch, take)
        # a shop has few product photos beside its query photos; drawn evenly, alignment would hardly be trained
        share = 0.0 if not len(self._texted) else 1.0 if not len(self._bare) else config.text_share
        self._from_texted = min(round(batch * share), len(self._texted))
        # few bare photos must not come back in every step
        bare_share = max(1.0, batch * len(self._bare) / len(self.photos)) * 2
        self._from_bare = min(batch - self._from_texted, len(self._bare), round(bare_share))
        self._from_texted = min(batch - self._from_bare, len(self._texted))
        self.steps_per_epoch = max(1, take // batch)
        self._fingerprints = [shop.fingerprint for shop in shops]
        start = torch.tensor(math.log(config.scale))
        self.self_scale, self.text_scale = nn.Parameter(start.clone()), nn.Parameter(start.clone())

    def _add(self, number: int, shop: Shop, guarded: frozenset[str], group_of: dict[str, int]) -> None:
        """Take a shop's photos, without any that shows a val or test query (``guarded``: their bytes' hashes)."""
        barred = barred_photos(shop, guarded)
        shown: set[str] = set()
        for product_id in [] if shop.products is None else shop.products["product_id"]:
            product = shop.product(product_id)
            text = product_text(product)
            for image_id in product.image_ids:
                if image_id not in shown and image_id not in barred:
                    shown.add(image_id)
                    self.photos.append((number, image_id))
                    self.texts.append(text)
                    self.groups.append(group_of[image_id])
        for image_id in group_of:  # photos that show nothing we know by name
            if image_id not in shown and image_id not in barred:
                self.photos.append((number, image_id))
                self.texts.append("")
                self.groups.append(group_of[image_id])

    def identity(self) -> dict[str, Any]:
        """See :class:`moonshelf.training.loop.Stage`."""
        return {"shops": self._fingerprints, "seed": self.seed, "config": asdict(self.config)}

    def rows(self, step: int) -> np.ndarray:
        """The photos of a step: shuffled passes over those with text and over those without, side by side."""
        a, b = self._from_texted, self._from_bare
        texted = (
            cycle(len(self._texted), step * a, a, self.seed, "pretrain texted") if a else self._texted[:0]
        )
        bare = cycle(len(self._bare), step * b, b, self.seed, "pretrain bare") if b else self._bare[:0]
        return np.concatenate((self._texted[texted], self._bare[bare]))

    def prepare(self, step: int) -> PretrainBatch:
        """Decode and view the photos of a step."""
        epoch, at = divmod(step, self.steps_per_epoch)
        rows = self.rows(step)
        generator = torch.Generator().manual_seed(step_seed(self.seed, self.name, epoch, at))
        own = part(len(rows))
        pixels = self.reader.read([self.photos[r] for r in rows[own]])
        size, view = self.config.view_size, self.config.view
        views = [
            random_views(pixels, size, view, generator, total=len(rows), start=own.start) for _ in range(2)
        ]
        texted = [i for i, r in enumerate(rows) if self.texts[r]] if self.config.alignment_weight else []
        spoken = texted[part(len(texted))]
        groups = torch.tensor([self.groups[r] for r in rows])
        return PretrainBatch(
            first=photos_batch(views[0]),
            second=photos_batch(views[1]),
            texts=collate(
                [Item(self.texts[rows[i]]) for i in spoken], max_tokens=self._max_tokens, size=size
            ),
            texted=torch.tensor(texted, dtype=torch.int64),
            groups=groups,
            text_groups=torch.from_numpy(self._text_groups[rows[texted]]),
        )

    def loss(
        self, encoder: CompactEncoder, batch: PretrainBatch, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """``self_weight * NT-Xent + alignment_weight * image-text InfoNCE``, each over the nested widths."""
        device = encoder.class_anchors.device
        groups = batch.groups.to(device)

        def encode(own: ProductBatch, what: str) -> Tensor:
            rows = encode_together(encoder, own.to(device), encoder.width, cut=self.optim.shard)
            return finite(rows, what, self.name, step)

        first, second = encode(batch.first, "photos"), encode(batch.second, "photos")
        scale = self.self_scale.exp().clamp(max=100)
        views = matryoshka(lambda a, b: nt_xent(a, b, groups, scale), (first, second), self._widths)
        total, values = self.config.self_weight * views, {"self": views.item(), "scale": scale.item()}
        if len(batch.texted) > 1:
            texts, own = encode(batch.texts, "texts"), first[batch.texted.to(device)]
            text_groups, text_scale = batch.text_groups.to(device), self.text_scale.exp().clamp(max=100)
            match = matryoshka(
                lambda a, b: alignment(a, b, text_groups, text_scale), (own, texts), self._widths
            )
            total = total + self.config.alignment_weight * match
            values |= {"alignment": match.item(), "text_scale": text_scale.item()}
        return total, values

    def parameters(self) -> list[nn.Parameter]:
        """The two learned temperatures."""
        return [self.self_scale, self.text_scale]

    def state(self) -> dict[str, Tensor]:
        """The two learned temperatures."""
        return {"self_scale": self.self_scale.detach(), "text_scale": self.text_scale.detach()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take :meth:`state` back."""
        with torch.no_grad():
            self.self_scale.copy_(state["self_scale"])
            self.text_scale.copy_(state["text_scale"])


def photos_batch(views: Tensor) -> ProductBatch:
    """One photo a row, no text."""
    n = len(views)
    empty = torch.zeros(n, 0, dtype=torch.int64)
    return ProductBatch(n, views, torch.arange(n), empty, empty.bool())


def pretrain(
    shop: Shop,
    encoder: CompactEncoder,
    folder: Path,
    config: PretrainConfig,
    *,
    extra: Sequence[Shop] = (),
    seed: int = 0,
    validate: Validate | None = None,
    resume: bool = True,
) -> TrainResult:
    """Pretrain ``encoder`` in place on a shop's photos and texts, and on the photos of extra shops.

    Raises:
        TooLittleData: there are not four photos.
        InputError: the checkpoint belongs to other settings.
    """
    stage = Pretrain([shop, *extra], encoder, config, seed)
    return train(encoder, stage, folder, validate=validate, resume=resume)
