"""Posttrain in all directions at once: three views of every query and product, aligned between and inside products.

MOON2.0 (2511.12449): each batch trains text, image and joint queries against the joint view of the product
(inter-product), and image and text of a product against each other (intra-product), in place of a fixed mix of kinds of
queries. Views are not separate batches: the towers run once a row and the fusion on each view, so a step costs little
more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moonshelf.encoder import CompactEncoder
from moonshelf.encoder.compact import VIEWS
from moonshelf.errors import InputError
from moonshelf.shop.shop import Shop
from moonshelf.training.batches import PosttrainBatch
from moonshelf.training.chunks import encode_in_chunks
from moonshelf.training.config import PosttrainConfig
from moonshelf.training.doubt import confidence, logged, weights_of
from moonshelf.training.gather import encode_together, finite
from moonshelf.training.kin import join_texts
from moonshelf.training.losses import Relation, matryoshka, two_sided
from moonshelf.training.objectives import OBJECTIVES, objective_weights, routing_losses
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.posttrain import Posttrain
from moonshelf.types import ProductBatch


class Views(NamedTuple):
    """Vectors ``[n, 3, D]`` in the order of ``VIEWS``, which there are ``[n, 3]``, routing ``[n, 3, Z]``."""

    vectors: Tensor
    there: Tensor
    chance: Tensor
    kept: Tensor


class DualPosttrain(Posttrain):
    """The stage with dual-level alignment; batches, negatives, memory and the rest are those of :class:`Posttrain`.

    ``L = sum over m of w_m L_m + rho L_balance + sigma L_sparsity`` with ``m`` in ``OBJECTIVES``; ``w`` see
    ``objectives``, the weight of each pair see ``doubt``. The way back from products to queries has half of each
    inter-product term, and ``joint>joint`` counts rows with both modalities alone (our design).
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
        super().__init__(shops, encoder, config, seed, pairs, name)
        self.intra_scale = nn.Parameter(torch.tensor(math.log(config.dual.intra_scale)))
        self.experts = encoder.config.experts
        generator = torch.Generator().manual_seed(
            seed
        )  # equal rows would all get the same gradient of the sparsity
        self.mixing = nn.Parameter(0.01 * torch.randn(self.experts, len(OBJECTIVES), generator=generator))
        if config.dual.weights != "fixed" and not self.experts:
            raise InputError(
                f"{name}.dual.weights={config.dual.weights} takes them from the experts, and there are none",
                mend="set encoder.experts (4, say), or the weights to fixed",
            )

    def loss(
        self, encoder: CompactEncoder, batch: PosttrainBatch, step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """See the class; each term over the nested widths."""
        config = self.config.dual
        queries = self._views(encoder, batch.queries, "queries", step)
        products = self._views(encoder, batch.products, "products", step)
        target = products.vectors[:, 2]
        found, bank, values = self._against(batch, step, target)
        scale = self.scale.exp().clamp(max=100)
        trust: Tensor | None = None
        if config.filter:
            margin = config.filter_margin * max(0.0, 1 - step / max(1, self._total))
            phi = confidence(
                queries.vectors[:, 2], target, found.columns(0, len(target)), config.filter_kappa, margin
            )
            trust = weights_of(phi, config.filter_threshold)
            values |= logged(phi, trust)
        terms: dict[str, Tensor] = {}
        routed: dict[str, Tensor] = {}
        for at, view in enumerate(VIEWS):
            asks = queries.there[:, at] & (queries.there.all(1) if view == "joint" else queries.there[:, at])
            rows = torch.nonzero(asks).flatten()
            if len(rows):
                inter = partial(
                    self._inter,
                    led=found.rows(rows),
                    scale=scale,
                    trust=None if trust is None else trust[rows],
                )
                own = queries.vectors[rows, at]
                terms[f"{view}>joint"] = config.inter_weights[at] * matryoshka(
                    inter, (own, target, bank), self._widths
                )
                routed[f"{view}>joint"] = queries.kept[rows, at]
        both = torch.nonzero(products.there.all(1)).flatten()
        if config.intra_weight and len(both) > 1:
            numbers = self._alike[batch.product_numbers].to(both.device)[both]
            intra = partial(self._intra, groups=numbers, scale=self.intra_scale.exp().clamp(max=100))
            text, image = products.vectors[both, 0], products.vectors[both, 1]
            there, back = matryoshka(intra, (image, text), self._widths)
            terms |= {"image>text": config.intra_weight * there, "text>image": config.intra_weight * back}
            routed |= {"image>text": products.kept[both, 1], "text>image": products.kept[both, 0]}
        weights = objective_weights(routed, self.mixing, config.weights)
        total = target.new_zeros(())
        for name, term in terms.items():
            total = total + weights[name] * term
            values |= {f"loss_{name}": term.item(), f"weight_{name}": weights[name].item()}
        if self.experts:
            extra, more = routing_losses(
                torch.cat((queries.chance, products.chance)),
                torch.cat((queries.kept, products.kept)),
                torch.cat((queries.there, products.there)),
                self.mixing,
                balance=config.balance,
                sparsity=config.sparsity,
            )
            total, values = total + extra, values | more
        beside, more = self._beside(encoder, batch, step, queries.vectors[:, 2], scale)
        values |= {"scale": scale.item(), "intra_scale": self.intra_scale.exp().item(), **more}
        self.memory.put(target, batch.product_numbers, step)
        return total + beside, values

    def _views(self, encoder: CompactEncoder, own: ProductBatch, what: str, step: int) -> Views:
        """Everybody's rows in all views."""
        width, experts = encoder.width, self.experts
        chunked = partial(
            encode_in_chunks,
            partial(encoder, every_view=True),
            rows=self.config.chunk,
            budget=self.config.keep_megabytes * 1_000_000 // 2,
        )
        own = own.to(encoder.class_anchors.device)
        shape = (len(VIEWS), width + 2 * experts)
        rows = finite(encode_together(chunked, own, shape, cut=self.optim.shard), what, self.name, step)
        vectors, chance, kept = torch.split(rows, [width, experts, experts], dim=-1)
        return Views(vectors, vectors.detach().ne(0).any(-1), chance, kept)

    def _inter(
        self,
        queries: Tensor,
        products: Tensor,
        bank: Tensor,
        *,
        led: Relation,
        scale: Tensor,
        trust: Tensor | None,
    ) -> Tensor:
        guard = self.config.guard if self.config.guard >= 0 else None
        there, back = two_sided(
            queries,
            products,
            led,
            scale,
            bank=bank,
            weights=trust,
            smoothing=self.config.label_smoothing,
            guard=guard,
        )
        return 0.5 * (there + back)

    def _intra(self, images: Tensor, texts: Tensor, *, groups: Tensor, scale: Tensor) -> Tensor:
        """``[2]``: image to text, text to image of one product; products of one design or one text do not repel."""
        own = torch.arange(len(images), device=images.device)
        same = Relation.from_ids(groups, groups)
        led = Relation(same.shape, torch.stack((own, own)), same.excluded)
        return torch.stack(two_sided(images, texts, led, scale, smoothing=self.config.label_smoothing))

    @cached_property
    def _alike(self) -> Tensor:
        """``[products]`` int64: equal for products of one design or of the very same text."""
        return torch.from_numpy(join_texts(self.pairs.texts(), self.pairs.groups.tolist()))

    def parameters(self) -> list[nn.Parameter]:
        """Temperatures, and the matrix of experts and objectives."""
        return [*super().parameters(), self.intra_scale, *([self.mixing] if self.experts else [])]

    def state(self) -> dict[str, Tensor]:
        """See :class:`Posttrain`."""
        own = {"intra_scale": self.intra_scale.detach(), "mixing": self.mixing.detach()}
        return {**super().state(), **own}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take :meth:`state` back."""
        super().load_state(state)
        with torch.no_grad():
            self.intra_scale.copy_(state["intra_scale"])
            self.mixing.copy_(state["mixing"])
