"""Who makes other titles and photos: rules on this machine, or models behind an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from moonshelf.augment.scenes import RECIPES
from moonshelf.augment.subject import find_subject
from moonshelf.augment.texts import Piece, enrich
from moonshelf.shop.gazetteer import Gazetteer
from moonshelf.types import Product

Rng = Callable[[str], np.random.Generator]
"""Recipe -> its own stream of random numbers."""


class Writer(Protocol):
    """Makes a title."""

    @property
    def name(self) -> str:
        """Who made it; another name whenever the same product would get another title."""
        ...

    @property
    def pictured(self) -> bool:
        """Whether it looks at the photo."""
        ...

    def write(self, product: Product, photo: Image.Image | None) -> list[Piece]:
        """Pieces of the new title, [] when there is nothing to add.

        Raises:
            Refused: not for this product.
        """
        ...


class Painter(Protocol):
    """Makes photos."""

    @property
    def name(self) -> str:
        """As of a :class:`Writer`."""
        ...

    def paint(
        self, photo: Image.Image, recipes: Sequence[str], rng: Rng
    ) -> Iterator[tuple[str, Image.Image | str]]:
        """(recipe, the photo or why there is none)."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """The embedded default: what the shop says elsewhere, and cut-outs in drawn scenes. Writes and paints."""

    names: Gazetteer
    name: str = "rules"
    pictured: bool = False

    def write(self, product: Product, photo: Image.Image | None) -> list[Piece]:
        """See ``texts.enrich``."""
        return enrich(product, self.names)

    def paint(
        self, photo: Image.Image, recipes: Sequence[str], rng: Rng
    ) -> Iterator[tuple[str, Image.Image | str]]:
        """See ``scenes``; a close-up needs no cut-out."""
        subject = find_subject(photo)
        for recipe in recipes:
            if subject.why_not and recipe != "detail":
                yield recipe, subject.why_not
            else:
                yield recipe, RECIPES[recipe](photo, subject, rng(recipe))


@dataclass(frozen=True, slots=True)
class Makers:
    """Who writes, who paints, and how many products at a time."""

    writer: Writer
    painter: Painter
    at_a_time: int = 2
