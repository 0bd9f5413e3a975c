"""Thumbnails inside the page: JPEG as base64, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from functools import lru_cache

from PIL import Image

from moonshelf.errors import InputError
from moonshelf.report.markup import Html, tag
from moonshelf.shop.images import ImageStore

_QUALITY = 74


def thumbnail(image: Image.Image, side: int) -> bytes:
    """JPEG bytes of ``image`` with its longer side at most ``side``."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


class Pictures:
    """Draws photos of a shop into a page until its budget is spent, then names what is left out.

    Args:
        store: the photos.
        budget: most bytes of markup that all pictures together may take.

    Attributes:
        shown: pictures drawn. skipped: pictures that found no room.
    """

    def __init__(self, store: ImageStore, budget: int) -> None:
        self._store, self._left = store, budget
        self.shown = self.skipped = 0
        self._encoded = lru_cache(maxsize=512)(self._encode)

    def _encode(self, image_id: str, side: int) -> str | None:
        try:
            image = self._store.decode(image_id, short_side=side)
        except InputError:  # gone or changed since the audit
            return None
        return base64.b64encode(thumbnail(image, side)).decode()

    def photo(self, image_id: str | None, *, side: int = 96, alt: str = "") -> Html:
        """The picture as an ``img``, or a box that says why there is none."""
        if image_id is None:
            return empty("no photo")
        data = self._encoded(image_id, side)
        if data is None:
            return empty("photo cannot be read")
        if len(data) > self._left:
            self.skipped += 1
            return empty("left out to keep this file small")
        self._left -= len(data)
        self.shown += 1
        return tag("img", src=f"data:image/jpeg;base64,{data}", alt=alt)


def empty(why: str) -> Html:
    """A box in place of a picture."""
    return tag("span", why, class_="nophoto")
