"""The compact encoder: photos, text or both (Chinese and English) to one unit vector. 10.4 M trained parameters.

::

    photo  -> EfficientNet-Lite0 -> grid features f  -> visual tokens  W_v f + anchor(mean f)
    text   -> USE-multilingual   -> token states, sentence vector -> text tokens
    tokens -> fusion transformer -> masked mean a modality, mean of the modalities present -> L2

The prefixes of the vector at ``widths`` are vectors themselves (Matryoshka, Kusupati et al. 2022).
Backbone-with-bidirectional-attention and mean pooling follow MOON (2511.11305, stage 2); this small
architecture, the anchored start and the mean over modalities are our design. The mean over modalities
keeps text and photos in balance however many tokens each has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.encoder import weights
from moonshelf.encoder.anchor import FEATURE_NORM, anchors, detail_projection
from moonshelf.encoder.efficientnet import CHANNELS, EfficientNetLite0
from moonshelf.encoder.fusion import TEXT, VISUAL, FusionBlock, masked_mean, scatter_photos
from moonshelf.encoder.inputs import Item, collate
from moonshelf.encoder.sentence import KIND_BIT, TOKEN_WIDTH, SentenceEncoder
from moonshelf.types import ProductBatch

PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactConfig:
    """Shape of the compact encoder; part of its version."""

    width: int = 256
    widths: tuple[int, ...] = (256, 128, 64, 32)
    layers: int = 2
    heads: int = 4
    image_size: int = 160
    max_tokens: int = 48
    max_images: int = 4
    experts: int = 0  # in place of each feed-forward block of the fusion; 0: none, the block is dense
    top_k: int = 2  # of them for each token
    guided: bool = False  # with experts: two more, for the category's and the attributes' words of products
    core: bool = False  # every photo is seen twice: whole, and its core region alone (encoder.core)


VIEWS = ("text", "image", "joint")


class Part(NamedTuple):
    """Tokens of one tower ``[B, T, D]``, which are real ``[B, T]``, their modality, what they belong to ``[B, T]``."""

    tokens: Tensor
    mask: Tensor
    kind: int
    guide: Tensor | None = None


class CompactEncoder(nn.Module):
    """See the module. ``forward(batch) -> [B, width]`` unnormalised; ``embed`` and ``encode`` give unit rows."""

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CompactConfig()
        self.lockstep = False  # weights lie in pieces over processes: each must run every block equally often
        width = config.width
        self.trunk = EfficientNetLite0()
        self.classify = nn.Linear(CHANNELS, CLASSES)
        self.class_anchors = nn.Parameter(torch.zeros(CLASSES, width))
        self.grid_project = nn.Linear(CHANNELS, width, bias=False)
        self.sentence = SentenceEncoder()
        self.sentence_project = nn.Linear(TOKEN_WIDTH, width, bias=False)
        self.token_project = nn.Linear(TOKEN_WIDTH, width, bias=False)
        self.modality = nn.Parameter(torch.zeros(2, width))
        self.fusion = nn.ModuleList(
            FusionBlock(width, config.heads, experts=config.experts, top_k=config.top_k, guided=config.guided)
            for _ in range(config.layers)
        )

    # -- facts other rooms ask for -------------------------------------------------------------
    @property
    def width(self) -> int:
        """Length of the full vector."""
        return self.config.width

    @property
    def widths(self) -> tuple[int, ...]:
        """Lengths at which the vector may be cut."""
        return self.config.widths

    @property
    def image_size(self) -> int:
        """Side in pixels that photos are prepared to."""
        return self.config.image_size

    @property
    def version(self) -> str:
        """12 hex digits of configuration and weights; vectors of two versions never mix."""
        shape = asdict(self.config)
        if not self.config.experts:  # encoders made before there were experts keep their version
            del shape["experts"], shape["top_k"]
        for name in ("core", "guided"):
            if not shape[name]:
                del shape[name]
        digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    # -- the computation ------------------------------------------------------------------------
    def photo_tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Photos to visual tokens.

        Args:
            images: ``[N, 3, S, S]`` uint8, or float already normalised.

        Returns:
            Anchor ``[N, 1, D]`` and grid tokens ``[N, (S/32)^2, D]``.
        """
        if images.dtype == torch.uint8:
            images = images.float().sub_(PIXEL_MEAN).div_(PIXEL_SCALE)
        grid = self.trunk(images.contiguous(memory_format=torch.channels_last))
        features = grid.flatten(2).transpose(1, 2)
        # The softmax is sharp: its gradient, noisy and large, would drown the one that comes through the grid
        # (docs/LOG.md). The anchor is a hint to start from; the trunk learns through the grid alone.
        mixture = F.softmax(self.classify(features.mean(1).detach()), dim=-1) @ self.class_anchors
        return mixture.unsqueeze(1), self.grid_project(features / FEATURE_NORM)

    def forward(self, batch: ProductBatch, every_view: bool = False) -> Tensor:
        """Vectors of the rows, not yet normalised (a Matryoshka prefix is normalised on its own).

        Args:
            batch: photos, texts or both.
            every_view: also what text alone and photos alone give.

        Returns:
            ``[B, width]``; with ``every_view`` ``[B, 3, width + 2 Z]``, the views in the order of ``VIEWS``, each with
            what the routers did (means over layers of ``G`` and ``G~``, see ``moe``; Z = 0 without experts). The joint
            view of a row with one modality is that modality's; a view that a row cannot have is zero.

        Cost: the towers run once, whatever the views; they share their tokens, and the fusion runs on each.
        """
        parts = self._parts(batch)
        if not every_view:
            return self._fuse(parts, batch.size)[0]
        has = torch.stack(
            [self._any(parts, kind, batch.size, batch.ids.device) for kind in (TEXT, VISUAL)], dim=1
        )
        views = [self._view(parts, has[:, at], (kind,)) for at, kind in enumerate((TEXT, VISUAL))]
        both = has.all(1)
        joint = self._view(parts, both, (VISUAL, TEXT))
        alone = torch.where(has[:, :1], views[0], views[1])
        return torch.stack((*views, torch.where(both.unsqueeze(1), joint, alone)), dim=1)

    def _parts(self, batch: ProductBatch) -> list[Part]:
        """The tokens that the fusion reads, by tower: anchors and grid of the photos, sentence and token states."""
        parts: list[Part] = []
        if len(batch.images):
            for tokens in self.photo_tokens(batch.images):
                parts.append(Part(*scatter_photos(tokens, batch.owner, batch.size), VISUAL))
        if batch.ids.shape[1]:
            has_text = batch.mask.any(1)
            # a row without text still needs one token for the windows; its result is masked out below
            states, sentence = self.sentence(batch.ids, batch.mask)
            parts.append(Part(self.sentence_project(sentence).unsqueeze(1), has_text.unsqueeze(1), TEXT))
            guide = batch.ids >> KIND_BIT if self.config.guided else None
            parts.append(Part(self.token_project(states), batch.mask, TEXT, guide))
        return parts

    def _fuse(self, parts: list[Part], size: int) -> tuple[Tensor, Tensor]:
        """``[B, width]``, and the routing ``[B, 2 Z]``."""
        x = torch.cat([part.tokens for part in parts], dim=1)
        mask = torch.cat([part.mask for part in parts], dim=1)
        added = torch.cat([self.modality[part.kind].expand(part.mask.shape[1], -1) for part in parts])
        guide: Tensor | None = None
        if any(part.guide is not None for part in parts):
            guide = torch.cat(
                [torch.zeros_like(p.mask, dtype=torch.int64) if p.guide is None else p.guide for p in parts],
                dim=1,
            )
        routings = []
        for block in self.fusion:
            x, routing = block(x, mask, added, guide)
            if routing is not None:
                routings.append(routing)
        pooled = x.new_zeros(size, 2, x.shape[-1])
        for part, own in zip(
            parts, torch.split(x, [part.mask.shape[1] for part in parts], dim=1), strict=True
        ):
            pooled[:, part.kind] = pooled[:, part.kind] + masked_mean(own, part.mask)
        present = torch.stack(
            [self._any(parts, kind, size, x.device) for kind in (VISUAL, TEXT)], dim=1
        ).float()
        out = (pooled * present.unsqueeze(-1)).sum(1) / present.sum(1, keepdim=True).clamp(min=1)
        routed = torch.stack(routings).mean(0).flatten(1) if routings else x.new_zeros(size, 0)
        return out, routed

    def _view(self, parts: list[Part], rows: Tensor, kinds: tuple[int, ...]) -> Tensor:
        """``[B, width + 2 Z]`` of the towers of these kinds; zeros in the rows that are not asked for."""
        at = torch.nonzero(rows).flatten()
        chosen = [
            Part(p.tokens[at], p.mask[at], p.kind, None if p.guide is None else p.guide[at])
            for p in parts
            if p.kind in kinds
        ]
        laid = self.class_anchors.new_zeros(len(rows), self.width + 2 * self.config.experts)
        if not len(at):
            if self.lockstep:  # the result is not used, but the blocks run
                token = laid.new_zeros(1, 1, self.width)
                unused = self._fuse([Part(token, token.new_ones(1, 1, dtype=torch.bool), kinds[0])], 1)[0]
                laid = laid + 0.0 * unused.sum()
            return laid
        view = torch.cat(self._fuse(chosen, len(at)), dim=1)
        return laid.to(view.dtype).index_copy(0, at, view)

    @staticmethod
    def _any(parts: list[Part], kind: int, size: int, device: torch.device) -> Tensor:
        own = [part.mask.any(1) for part in parts if part.kind == kind]
        return own[0] if own else torch.zeros(size, dtype=torch.bool, device=device)

    # -- use ------------------------------------------------------------------------------------
    def collate(self, items: Sequence[Item]) -> ProductBatch:
        """Items to a batch at this encoder's limits."""
        c = self.config
        most = c.max_images * (2 if c.core else 1)
        return collate(items, max_tokens=c.max_tokens, max_images=most, size=c.image_size, guided=c.guided)

    @torch.inference_mode()
    def embed(self, batch: ProductBatch) -> Tensor:
        """Unit rows ``[B, width]`` float32 on the CPU; evaluation mode, no gradient."""
        was = self.training
        self.eval()
        try:
            device = self.class_anchors.device
            return F.normalize(self(batch.to(device)).float(), dim=-1).cpu()
        finally:
            self.train(was)

    def encode(self, items: Sequence[Item], batch_size: int = 32) -> np.ndarray:
        """Unit rows ``[len(items), width]`` float32."""
        rows = [self.embed(self.collate(items[i : i + batch_size])) for i in range(0, len(items), batch_size)]
        return torch.cat(rows).numpy() if rows else np.empty((0, self.width), dtype=np.float32)

    @torch.inference_mode()
    def trunk_features(self, images: Tensor) -> Tensor:
        """Mean-pooled trunk features, unit rows ``[N, 1280]``: on untrained weights, the off-the-shelf baseline."""
        pixels = images.float().sub_(PIXEL_MEAN).div_(PIXEL_SCALE) if images.dtype == torch.uint8 else images
        device = self.class_anchors.device
        grid = self.trunk(pixels.to(device).contiguous(memory_format=torch.channels_last))
        return F.normalize(grid.mean((2, 3)).float(), dim=-1).cpu()

    def parameter_groups(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """``(part, name, parameter)`` with part one of ``trunk``, ``text``, ``head``: they learn at different rates."""
        for name, parameter in self.named_parameters():
            published = name.startswith(("trunk.", "classify.", "class_anchors"))
            part = "trunk" if published else "text" if name.startswith("sentence.") else "head"
            yield part, name, parameter

    def upcycled(self, experts: int, top_k: int, *, guided: bool = False) -> CompactEncoder:
        """A copy whose feed-forward blocks are mixtures of experts, each expert a copy of its block.

        It computes the same function; what it learns from there differs. Routers start at a fixed random state.

        Raises:
            ValueError: this encoder has experts already.
        """
        if self.config.experts:
            raise ValueError("this encoder has experts already")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            new = CompactEncoder(replace(self.config, experts=experts, top_k=top_k, guided=guided))
        new.load_state_dict(self.state_dict(), strict=False)
        for mine, theirs in zip(self.fusion, new.fusion, strict=True):
            assert isinstance(mine, FusionBlock) and isinstance(theirs, FusionBlock)
            assert theirs.routed is not None
            theirs.routed.upcycle(mine.up, mine.down)
        new.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return new.to(self.class_anchors.device).train(self.training)

    @classmethod
    def untrained(cls, config: CompactConfig | None = None) -> CompactEncoder:
        """The anchored start: published towers, class-name anchors, identity fusion. About 4 s, deterministic."""
        # one thread: sums in another order differ in their last bits, and these are part of the version
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return cls._anchored(config)
        finally:
            torch.set_num_threads(threads)

    @classmethod
    def _anchored(cls, config: CompactConfig | None) -> CompactEncoder:
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):  # module constructors draw from the global generator
            torch.manual_seed(0)
            model = cls(config)
        weight, bias = model.trunk.load_published(weights.lite0_state())
        model.sentence.load_published()
        with torch.no_grad():
            model.classify.weight.copy_(weight)
            model.classify.bias.copy_(bias)
            class_anchors, basis = anchors(model.sentence, model.width)
            model.class_anchors.copy_(class_anchors)
            model.sentence_project.weight.copy_(basis.T)
            model.token_project.weight.zero_()
            model.grid_project.weight.copy_(detail_projection(CHANNELS, model.width, generator))
        return model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]
