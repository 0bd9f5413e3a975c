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
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moonshelf.encoder import weights
from moonshelf.encoder.anchor import FEATURE_NORM, anchors, detail_projection
from moonshelf.encoder.efficientnet import CHANNELS, EfficientNetLite0
from moonshelf.encoder.fusion import TEXT, VISUAL, FusionBlock, masked_mean, scatter_photos
from moonshelf.encoder.inputs import Item, collate
from moonshelf.encoder.sentence import TOKEN_WIDTH, SentenceEncoder
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


class CompactEncoder(nn.Module):
    """See the module. ``forward(batch) -> [B, width]`` unnormalised; ``embed`` and ``encode`` give unit rows."""

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CompactConfig()
        width = config.width
        self.trunk = EfficientNetLite0()
        self.classify = nn.Linear(CHANNELS, CLASSES)
        self.class_anchors = nn.Parameter(torch.zeros(CLASSES, width))
        self.grid_project = nn.Linear(CHANNELS, width, bias=False)
        self.sentence = SentenceEncoder()
        self.sentence_project = nn.Linear(TOKEN_WIDTH, width, bias=False)
        self.token_project = nn.Linear(TOKEN_WIDTH, width, bias=False)
        self.modality = nn.Parameter(torch.zeros(2, width))
        self.fusion = nn.ModuleList(FusionBlock(width, config.heads) for _ in range(config.layers))

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
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
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

    def forward(self, batch: ProductBatch) -> Tensor:
        """``[B, width]`` float32, not yet normalised (a Matryoshka prefix is normalised on its own)."""
        tokens: list[Tensor] = []
        masks: list[Tensor] = []
        kinds: list[int] = []
        modality: list[Tensor] = []

        def add(x: Tensor, mask: Tensor, kind: int) -> None:
            tokens.append(x)
            masks.append(mask)
            kinds.append(kind)
            modality.append(self.modality[kind].expand(x.shape[1], -1))

        if len(batch.images):
            for part in self.photo_tokens(batch.images):
                add(*scatter_photos(part, batch.owner, batch.size), VISUAL)
        if batch.ids.shape[1]:
            has_text = batch.mask.any(1)
            # a row without text still needs one token for the windows; its result is masked out below
            states, sentence = self.sentence(batch.ids, batch.mask)
            add(self.sentence_project(sentence).unsqueeze(1), has_text.unsqueeze(1), TEXT)
            add(self.token_project(states), batch.mask, TEXT)
        x, mask = torch.cat(tokens, dim=1), torch.cat(masks, dim=1)
        added = torch.cat(modality, dim=0)
        for block in self.fusion:
            x = block(x, mask, added)
        pooled = x.new_zeros(batch.size, 2, x.shape[-1])
        for part_x, part_mask, kind in zip(
            torch.split(x, [t.shape[1] for t in tokens], dim=1), masks, kinds, strict=True
        ):
            pooled[:, kind] = pooled[:, kind] + masked_mean(part_x, part_mask)
        present = torch.stack([self._present(masks, kinds, kind, mask) for kind in (VISUAL, TEXT)], dim=1)
        return (pooled * present.unsqueeze(-1)).sum(1) / present.sum(1, keepdim=True).clamp(min=1)

    @staticmethod
    def _present(masks: list[Tensor], kinds: list[int], kind: int, like: Tensor) -> Tensor:
        own = [m.any(1) for m, k in zip(masks, kinds, strict=True) if k == kind]
        return (own[0] if own else torch.zeros(like.shape[0], dtype=torch.bool, device=like.device)).float()

    # -- use ------------------------------------------------------------------------------------
    def collate(self, items: Sequence[Item]) -> ProductBatch:
        """Items to a batch at this encoder's limits."""
        c = self.config
        return collate(items, max_tokens=c.max_tokens, max_images=c.max_images, size=c.image_size)

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
