"""From products, photos and texts to the encoder's input. Pillow and NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from moonshelf.encoder.sentence import ATTRIBUTES, CATEGORY, END, KIND_BIT, tokenizer, unmarked
from moonshelf.errors import InputError
from moonshelf.types import Product, ProductBatch

LENGTH_STEP = 8

Pixels = np.ndarray
"""uint8 ``[3, S, S]``."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one row of a batch is made of: a text, photos, or both."""

    text: str | None = None
    images: tuple[Pixels, ...] = ()


def prepare_image(image: Image.Image, size: int) -> Pixels:
    """RGB image to uint8 ``[3, size, size]``: the whole picture, stretched to a square, bicubic.

    Nothing is cropped away, so a product at the edge of a phone photo stays in view; query and
    catalogue photos meet the same rule. Cost: about 0.5 ms from 192 px.
    """
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(image if image.mode == "RGB" else image.convert("RGB")).transpose(2, 0, 1)


def stack_pixels(photos: Sequence[Pixels]) -> Tensor:
    """uint8 ``[N, 3, S, S]``; in memory the channels stay last, as pictures have them and convolutions want them."""
    return torch.from_numpy(np.stack([pixels.transpose(1, 2, 0) for pixels in photos])).permute(0, 3, 1, 2)


def product_text(product: Product, *, marked: bool = False) -> str:
    """The text that stands for a product: title, category, brand, attributes, start of the description.

    Args:
        marked: say which part is the category and which the attributes (``sentence.MARKED``), for guided experts.
    """
    category = product.category.replace(" > ", ", ")
    attributes = ", ".join(f"{k} {v}" for k, v in product.attributes.items() if v)[:200]
    if marked:
        category, attributes = unmarked(category), unmarked(attributes)
        category = f"{CATEGORY}{category.strip()}{END}" if category.strip() else ""
        attributes = f"{ATTRIBUTES}{attributes.strip()}{END}" if attributes.strip() else ""
    others = [product.title[:300], product.brand, product.description[:300]]
    title, brand, description = (unmarked(part) for part in others) if marked else others
    parts = (title, category, brand, attributes, description)
    return ". ".join(part.strip() for part in parts if part and part.strip())


def collate(
    items: Sequence[Item], *, max_tokens: int = 48, max_images: int = 4, size: int = 160, guided: bool = False
) -> ProductBatch:
    """Pack items into one batch; photos past ``max_images`` and tokens past ``max_tokens`` are left out.

    With ``guided`` the ids of a marked text carry what they belong to (``sentence.KIND_BIT``).

    Raises:
        InputError: an item has neither text nor photo, or a photo has another size.
    """
    photos: list[Pixels] = []
    owner: list[int] = []
    rows: list[tuple[int, ...]] = []
    for i, item in enumerate(items):
        text = (item.text or "").strip()
        if not text and not item.images:
            raise InputError(
                f"item {i} has neither text nor photo", mend="leave it out, or give it one of the two"
            )
        ids = tokenizer().ids(text, max_tokens) if text else ()
        if guided and text:
            kinds = tokenizer().kinds(text, max_tokens)
            ids = tuple(i | kind << KIND_BIT for i, kind in zip(ids, kinds, strict=True))
        rows.append(ids)
        for pixels in item.images[:max_images]:
            if pixels.shape != (3, size, size) or pixels.dtype != np.uint8:
                raise InputError(
                    f"item {i} has a photo of shape {pixels.shape}, {pixels.dtype}", mend="use prepare_image"
                )
            photos.append(pixels)
            owner.append(i)
    # Lengths are rounded up: the library under torch keeps buffers for every shape it has met, so with any length
    # at all memory grows by 100 MB over a few thousand products (docs/LOG.md, E13).
    longest = max((len(row) for row in rows), default=0)
    length = min(-(-longest // LENGTH_STEP) * LENGTH_STEP, max(max_tokens, longest))
    packed = torch.zeros(len(items), length, dtype=torch.int64)
    mask = torch.zeros(len(items), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        packed[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[i, : len(row)] = True
    if photos:
        images = stack_pixels(photos)
    else:
        images = torch.empty(0, 3, size, size, dtype=torch.uint8)
    return ProductBatch(len(items), images, torch.tensor(owner, dtype=torch.int64), packed, mask)
