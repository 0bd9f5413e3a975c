"""Which regions of a photo and which words of a text a similarity comes from.

Three methods. ``gradient``: at every place of the trunk's grid the similarity's gradient times the value, summed over
channels (after Grad-CAM, Selvaraju et al. 2017); the anchor's path, which training leaves out, is followed here. Words
are left out one by one: how far the similarity falls. ``occlusion``: the same for the cells of the grid, each blurred
away in turn (Zeiler and Fergus 2014); slow, and true by construction, also where gradients vanish near a perfect match.
``rollout``: attention rollout (Abnar and Zuidema 2020) through
the fusion, heads averaged, half of each layer passed by; it does not depend on what is compared, and on this encoder it
fails the deletion test (docs/LOG.md, E35).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from moonshelf.encoder.anchor import FEATURE_NORM
from moonshelf.encoder.compact import PIXEL_MEAN, PIXEL_SCALE, CompactEncoder, Part
from moonshelf.encoder.fusion import TEXT, VISUAL, FusionBlock, scatter_photos
from moonshelf.encoder.inputs import Item, Pixels
from moonshelf.encoder.sentence import tokenizer

Method = Literal["gradient", "occlusion", "rollout"]
METHODS: tuple[Method, ...] = ("gradient", "occlusion", "rollout")


@dataclass(frozen=True, slots=True)
class Saliency:
    """What a similarity comes from.

    Attributes:
        similarity: cosine of the item and what it is compared with.
        regions: ``[photos, h, w]`` float32, one value a cell of the grid (32 pixels of the prepared photo); negative
            ones speak against the match. Empty without photos.
        words: (word, value) in the order of the text.
    """

    similarity: float
    regions: np.ndarray
    words: tuple[tuple[str, float], ...]


def saliency(
    encoder: CompactEncoder, item: Item, target: np.ndarray, method: Method = "gradient"
) -> Saliency:
    """Where ``cos(encoder(item), target)`` comes from.

    Args:
        item: a prepared photo or several, a text, or both.
        target: ``[width]`` vector that it is compared with.
        method: see the module.

    Cost: a forward pass and a backward pass of the parts above the trunk; with ``occlusion`` a forward pass a cell.
    """
    device = encoder.class_anchors.device
    batch = encoder.collate([item]).to(device)
    goal = torch.from_numpy(np.asarray(target, dtype=np.float32)).to(device)[None]
    spans = _spans((item.text or "").strip(), encoder.config.max_tokens)
    was = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            pixels = (batch.images.float() - PIXEL_MEAN) / PIXEL_SCALE
            grid = (
                encoder.trunk(pixels.contiguous(memory_format=torch.channels_last)) if len(pixels) else None
            )
            rows = encoder.sentence.rows(batch.ids)
        with torch.enable_grad():
            leaf = None if grid is None else grid.detach().requires_grad_()
            parts = _parts(encoder, leaf, batch.owner, rows, batch.mask)
            vector = encoder._fuse(parts, 1)[0]
            cosine = F.cosine_similarity(vector, goal)[0]
            if method != "rollout":
                if method == "gradient":
                    cosine.backward()  # type: ignore[no-untyped-call]
                    regions = _times_gradient(leaf)
                    encoder.zero_grad(set_to_none=True)
                else:
                    regions = (
                        None if leaf is None else _occluded(encoder, item, goal, cosine.item(), leaf.shape)
                    )
                with torch.no_grad():
                    values = _left_out(encoder, spans, grid, batch.owner, rows, batch.mask, goal)
            else:
                with torch.no_grad():
                    regions, tokens = _rollout(encoder, parts, None if leaf is None else leaf.shape)
                values = (
                    [sum(float(tokens[at]) for at in places) for _, places in spans]
                    if tokens is not None
                    else []
                )
    finally:
        encoder.train(was)
    found = regions if regions is not None else torch.zeros(0, 1, 1)
    words = tuple((word, value) for (word, _), value in zip(spans, values, strict=True))
    return Saliency(cosine.item(), found.detach().float().cpu().numpy(), words)


def _parts(
    encoder: CompactEncoder, grid: Tensor | None, owner: Tensor, rows: Tensor, mask: Tensor
) -> list[Part]:
    """As ``CompactEncoder._parts``, from the trunk's grid and the token table on, the anchor's path open."""
    parts: list[Part] = []
    if grid is not None:
        features = grid.flatten(2).transpose(1, 2)
        mixture = F.softmax(encoder.classify(features.mean(1)), dim=-1) @ encoder.class_anchors
        for tokens in (mixture.unsqueeze(1), encoder.grid_project(features / FEATURE_NORM)):
            parts.append(Part(*scatter_photos(tokens, owner, 1), VISUAL))
    if mask.any():
        states, sentence = encoder.sentence.from_rows(rows, mask)
        parts.append(Part(encoder.sentence_project(sentence).unsqueeze(1), mask.any(1, keepdim=True), TEXT))
        parts.append(Part(encoder.token_project(states), mask, TEXT))
    return parts


def _times_gradient(leaf: Tensor | None) -> Tensor | None:
    """``[photos, h, w]``: value times gradient, summed over channels."""
    return None if leaf is None or leaf.grad is None else (leaf.detach() * leaf.grad).sum(1)


def without(photo: Pixels, cells: np.ndarray, shape: Sequence[int]) -> Pixels:
    """A photo in which some cells of a grid are blurred away.

    Args:
        photo: ``[3, S, S]`` uint8.
        cells: numbers of the cells, row by row.
        shape: (rows, columns) of the grid.
    """
    picture = Image.fromarray(photo.transpose(1, 2, 0))
    gone = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    gone[cells] = 255
    mask = Image.fromarray(gone.reshape(shape[0], shape[1])).resize(picture.size, Image.Resampling.NEAREST)
    blurred = picture.filter(ImageFilter.GaussianBlur(picture.width / 6))
    return np.array(Image.composite(blurred, picture, mask)).transpose(2, 0, 1)


def _occluded(encoder: CompactEncoder, item: Item, target: Tensor, whole: float, shape: torch.Size) -> Tensor:
    """``[photos, h, w]``: how far the similarity falls when a cell is blurred away."""
    photos, h, w = shape[0], shape[2], shape[3]
    goal = F.normalize(target, dim=-1)[0].cpu().numpy()
    falls = np.empty((photos, h * w), dtype=np.float32)
    for at in range(photos):
        cut = [
            Item(
                item.text,
                (
                    *item.images[:at],
                    without(item.images[at], np.array([cell]), (h, w)),
                    *item.images[at + 1 :],
                ),
            )
            for cell in range(h * w)
        ]
        falls[at] = whole - encoder.encode(cut) @ goal
    return torch.from_numpy(falls).view(photos, h, w)


def _rollout(
    encoder: CompactEncoder, parts: list[Part], shape: torch.Size | None
) -> tuple[Tensor | None, Tensor | None]:
    x = torch.cat([part.tokens for part in parts], dim=1)
    mask = torch.cat([part.mask for part in parts], dim=1)
    added = torch.cat([encoder.modality[p.kind].expand(p.mask.shape[1], -1) for p in parts])
    through = torch.eye(x.shape[1], device=x.device)
    for block in encoder.fusion:
        assert isinstance(block, FusionBlock)
        attention = block.attention(x, mask, added)[0].mean(0)
        through = (0.5 * attention + 0.5 * torch.eye(len(through), device=x.device)) @ through
        x = block(x, mask, added)[0]
    # the pooling: means of parts, summed by modality, mean of modalities
    kinds = {part.kind for part in parts}
    pooled = torch.cat([p.mask[0].float() / p.mask.sum().clamp(min=1) / len(kinds) for p in parts])
    flow = torch.split(pooled / pooled.sum() @ through, [part.mask.shape[1] for part in parts])
    regions = tokens = None
    for part, own in zip(parts, flow, strict=True):
        if part.kind == VISUAL and shape is not None and len(own) == shape[0] * shape[2] * shape[3]:
            regions = own.view(shape[0], shape[2], shape[3])
        if part.kind == TEXT and len(own) > 1:
            tokens = own
    return regions, tokens


def _spans(text: str, most: int) -> list[tuple[str, list[int]]]:
    """Words of a text and the places of their tokens; Chinese pieces stay as the tokenizer cuts them."""
    found: list[tuple[str, list[int]]] = []
    begins = True
    for at, piece in enumerate(
        tokenizer().pieces(text, most) if text else (), 1
    ):  # the begin mark comes first
        word = piece.lstrip("▁")
        begins = begins or piece.startswith("▁")
        if not word:
            continue
        if begins or _chinese(word[0]) or _chinese(found[-1][0][-1]):
            found.append((word, [at]))
        else:
            found[-1] = (found[-1][0] + word, [*found[-1][1], at])
        begins = False
    return found


def _chinese(character: str) -> bool:
    return character >= "\u2e80"


def _left_out(
    encoder: CompactEncoder,
    spans: list[tuple[str, list[int]]],
    grid: Tensor | None,
    owner: Tensor,
    rows: Tensor,
    mask: Tensor,
    target: Tensor,
) -> list[float]:
    """How far the similarity falls when each word is left out, in turn; the whole text cannot be."""
    falls: list[float] = []
    whole = F.cosine_similarity(encoder._fuse(_parts(encoder, grid, owner, rows, mask), 1)[0], target)[0]
    for _, places in spans:
        kept = [i for i in range(rows.shape[1]) if mask[0, i] and i not in places]
        parts = _parts(encoder, grid, owner, rows[:, kept], mask[:, kept])
        falls.append(float(whole - F.cosine_similarity(encoder._fuse(parts, 1)[0], target)[0]))
    return falls
