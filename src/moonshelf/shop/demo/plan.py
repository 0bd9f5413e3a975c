"""Which pictures there are, grouped so that one worker paints one shape and marches its views once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moonshelf.shop.demo.behaviour import SearchRow
from moonshelf.shop.demo.catalog import Item
from moonshelf.shop.demo.creatives import Creative, creative_picture
from moonshelf.shop.demo.geometry import Shape, View, make_buffer
from moonshelf.shop.demo.light import PHONE_LIGHTS, STUDIO, Light
from moonshelf.shop.demo.paint import Canvas
from moonshelf.shop.demo.phone import PhoneSettings, phone_photo, phone_views
from moonshelf.shop.demo.render import jpeg, studio_photo
from moonshelf.shop.demo.shapes import build_shape

STUDIO_VIEWS = ("front", "angle", "closeup")
_FILL = 0.68


@dataclass(frozen=True)
class Chunk:
    """All pictures of one shape. Each job carries its own seed, so neither order nor worker matters."""

    category: str
    shape: int
    seed: int
    size: int
    views: int
    side: int  # of the paintings, which are averaged down to size
    photos: tuple[tuple[str, Item, int], ...]  # image id, item, studio view
    queries: tuple[tuple[str, Item, PhoneSettings, int], ...]  # image id, item, settings, number
    creatives: tuple[tuple[str, Item, Creative, int], ...]

    @property
    def pictures(self) -> int:
        """How many pictures it makes."""
        return len(self.photos) + len(self.queries) + len(self.creatives)


def image_ids(items: list[Item], seed: int, most: int) -> list[tuple[str, ...]]:
    """The image ids of every item, main image first: ``most`` views, for one item in three one less (not
    below two).
    """
    rng = np.random.default_rng((seed, 8))
    fewer = rng.random(len(items)) < 0.34
    return [
        tuple(f"{i.product_id}-{k + 1}" for k in range(max(2, most - int(f))))
        for i, f in zip(items, fewer, strict=True)
    ]


def make_chunks(
    items: list[Item],
    names: list[tuple[str, ...]],
    searches: list[SearchRow],
    creatives: list[Creative],
    *,
    seed: int,
    size: int,
    side: int,
    views: int,
) -> list[Chunk]:
    """One chunk a (category, shape), in a fixed order."""
    photos: dict[tuple[str, int], list[tuple[str, Item, int]]] = {}
    queries: dict[tuple[str, int], list[tuple[str, Item, PhoneSettings, int]]] = {}
    ads: dict[tuple[str, int], list[tuple[str, Item, Creative, int]]] = {}
    for item, ids in zip(items, names, strict=True):
        photos.setdefault((item.category, item.shape), []).extend(
            (name, item, k) for k, name in enumerate(ids)
        )
    for number, s in enumerate(searches):
        if s.photo is not None:
            item = items[s.meant]
            queries.setdefault((item.category, item.shape), []).append(
                (f"{s.query_id}-photo", item, s.photo, number)
            )
    for number, c in enumerate(creatives):
        item = items[c.item]
        ads.setdefault((item.category, item.shape), []).append((f"{c.creative_id}-image", item, c, number))
    return [
        Chunk(
            *key, seed, size, views, side, tuple(jobs), tuple(queries.get(key, ())), tuple(ads.get(key, ()))
        )
        for key, jobs in sorted(photos.items())
    ]


def phone_cameras(category: str, shape: int, seed: int, views: int) -> list[View]:
    """The cameras of the phone photos of one shape; also written to the truth."""
    rng = np.random.default_rng((seed, 9, sum(map(ord, category)), shape))
    return phone_views(build_shape(category, shape), rng, views)


class _Views:
    """The views of one shape, marched and lit when first asked for."""

    def __init__(self, chunk: Chunk) -> None:
        self.shape: Shape = build_shape(chunk.category, chunk.shape)
        self.side = chunk.side
        s = self.shape
        turn = 48.0 if s.pitch < 60 else 24.0
        self.cameras: dict[str, View] = {
            "front": View(s.yaw, s.pitch, _FILL),
            "angle": View(s.yaw + turn, s.pitch + (10 if s.pitch < 60 else -16), _FILL),
            "closeup": View(s.yaw + 6, s.pitch, _FILL, 1.9),
        }
        for k, view in enumerate(phone_cameras(chunk.category, chunk.shape, chunk.seed, chunk.views)):
            self.cameras[f"phone{k}"] = view
        self._canvases: dict[str, Canvas] = {}

    def painted(self, item: Item, name: str, light: Light) -> NDArray[np.uint8]:
        """The item seen by the camera ``name`` under ``light``."""
        if name not in self._canvases:
            self._canvases[name] = Canvas(make_buffer(self.shape, self.cameras[name], self.side), self.shape)
        return self._canvases[name].paint(item, light)


def render_chunk(chunk: Chunk) -> list[tuple[str, bytes]]:
    """Paint every picture of a chunk: (image id, JPEG bytes), in the chunk's order."""
    views, out = _Views(chunk), []
    for name, item, k in chunk.photos:
        rng = np.random.default_rng((chunk.seed, 11, item.index, k))
        painted = views.painted(item, STUDIO_VIEWS[k], STUDIO)
        out.append((name, jpeg(studio_photo(item, painted, chunk.size, rng, closeup=k == 2))))
    for name, item, settings, number in chunk.queries:
        rng = np.random.default_rng((chunk.seed, 12, number))
        painted = views.painted(item, f"phone{settings.view}", PHONE_LIGHTS[settings.light])
        out.append((name, phone_photo(item, painted, settings, chunk.size, rng)))
    for name, item, creative, number in chunk.creatives:
        rng = np.random.default_rng((chunk.seed, 13, number))
        painted = views.painted(item, "front", STUDIO)
        out.append((name, jpeg(creative_picture(creative, item, painted, chunk.size, rng))))
    return out
