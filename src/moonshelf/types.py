"""The shared vocabulary: one row of each table of a shop folder, as frozen, typed records."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the vocabulary is read by rooms that never load torch
    import torch
    from PIL import Image
    from torch import Tensor

Action = Literal["click", "cart", "purchase"]
Split = Literal["train", "val", "test"]

ACTIONS: tuple[Action, ...] = ("click", "cart", "purchase")
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Product:
    """A product (SKU). ``category`` is a path ``"A > B > C"``; ``spu_id`` joins SKUs of one design."""

    product_id: str
    title: str = ""
    description: str = ""
    category: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    brand: str = ""
    price: float | None = None
    spu_id: str = ""
    image_ids: tuple[str, ...] = ()
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """A query (text, photo or both) and a product the user acted on."""

    query_id: str
    product_id: str
    query_text: str | None = None
    query_image_id: str | None = None
    action: Action = "click"
    user_id: str | None = None
    time: datetime | None = None
    place: str | None = None
    split: Split = "train"


@dataclass(frozen=True, slots=True)
class Event:
    """Something a user did with a product at a time (UTC)."""

    user_id: str
    time: datetime
    product_id: str
    action: Action
    query_text: str | None = None
    price: float | None = None


@dataclass(frozen=True, slots=True)
class Impression:
    """A product that was shown, and whether it was clicked."""

    product_id: str
    clicked: bool
    user_id: str | None = None
    time: datetime | None = None
    query_id: str | None = None
    query_text: str | None = None
    position: int | None = None
    propensity: float | None = None


@dataclass(frozen=True, slots=True)
class Creative:
    """One creative (image or text) of a product or of a randomised test, with its counts."""

    creative_id: str
    impressions: int
    clicks: int
    image_id: str | None = None
    text: str | None = None
    product_id: str | None = None
    test_id: str | None = None
    queries: tuple[str, ...] = ()
    split: Split = "train"


@dataclass(frozen=True, slots=True)
class Interval:
    """A measured value with its 95% interval and the number of units it rests on."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        """The shape that every ``--json`` file uses."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def signed(self) -> str:
        """A difference: its sign shown."""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True, slots=True)
class Shown:
    """A text, a picture, or both, as an embedding function gets it.

    ``marked``: the text with marks around category and attributes, for encoders that can read them; "" without any.
    """

    text: str | None
    image: Image.Image | None
    marked: str = ""


@dataclass(frozen=True, slots=True)
class ProductBatch:
    """``size`` products, queries or both, as tensors; either modality may be missing in any row.

    Attributes:
        size: number of rows B.
        images: ``[N, 3, S, S]``, uint8 pixels or float32 already normalised; N photos of all rows together.
        owner: ``[N]`` int64, the row of each photo, ascending.
        ids: ``[B, L]`` int64 token ids, 0 where masked.
        mask: ``[B, L]`` bool, True at real tokens; a row without text is all False.
    """

    size: int
    images: Tensor
    owner: Tensor
    ids: Tensor
    mask: Tensor

    def to(self, device: str | torch.device) -> ProductBatch:
        """The same batch on another device."""
        moved = (t.to(device, non_blocking=True) for t in (self.images, self.owner, self.ids, self.mask))
        return ProductBatch(self.size, *moved)
