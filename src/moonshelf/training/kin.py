"""What is the same thing in several shops: pictures by their bytes, designs by the pictures they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from moonshelf.shop.duplicates import Sets
from moonshelf.shop.shop import Shop


class Kin:
    """Common group numbers for the designs and pictures of several shops; equal numbers are never negatives.

    Inside a shop designs are its ``leak_groups`` and pictures its near-duplicate groups. Two shops share a picture
    when they hold the same bytes, and a design when they show such a picture, unless the picture stands on several
    designs of one shop (a "no photo" sign). Our design.

    Attributes:
        designs: for each shop, product id -> number.
        pictures: for each shop, usable image id -> number of the picture.
        shown: for each shop, usable image id -> number of the design that shows it; without one, a number of its own.
    """

    def __init__(self, shops: Sequence[Shop]) -> None:
        leaks = [shop.leak_groups() for shop in shops]
        tables = [
            shop.images.table.filter(pl.col("status") == "ok").select("image_id", "near_group", "sha256")
            for shop in shops
        ]
        groups = [max(leak.values(), default=-1) + 1 for leak in leaks]
        nears = [int(t["near_group"].max() or 0) + 1 if len(t) else 0 for t in tables]  # type: ignore[arg-type]
        starts = [sum(nears[:i]) for i in range(len(shops))]
        same = Sets(sum(nears))
        first: dict[str, int] = {}
        for start, table in zip(starts, tables, strict=True):
            for near, sha in table.select("near_group", "sha256").iter_rows():
                same.join(first.setdefault(sha, start + near), start + near)
        self.pictures = [
            {image: same.find(start + near) for image, near, _ in table.iter_rows()}
            for start, table in zip(starts, tables, strict=True)
        ]
        joined, base = Sets(sum(nears) + sum(groups)), sum(nears)
        for number, (shop, leak) in enumerate(zip(shops, leaks, strict=True)):
            on: dict[int, set[int]] = {}
            for product_id, group in leak.items():
                for image in shop.product(product_id).image_ids:
                    picture = self.pictures[number].get(image)
                    if picture is not None:
                        on.setdefault(picture, set()).add(base + sum(groups[:number]) + group)
            for picture, designs in on.items():
                if (
                    len(designs) == 1
                ):  # pictures on several designs are signs: leak_groups has joined the others
                    joined.join(picture, next(iter(designs)))
        self.designs = [
            {p: joined.find(base + sum(groups[:number]) + group) for p, group in leak.items()}
            for number, leak in enumerate(leaks)
        ]
        self.shown = [{i: joined.find(picture) for i, picture in found.items()} for found in self.pictures]


def join_texts(texts: Sequence[str], groups: Sequence[int]) -> np.ndarray:
    """``[n]`` int64 numbers for image-text alignment: rows of one group or of the very same text have one number."""
    sets, first = Sets(len(texts)), dict[str | int, int]()
    for i, (text, group) in enumerate(zip(texts, groups, strict=True)):
        for key in (group, text) if text else (group,):
            sets.join(first.setdefault(key, i), i)
    return np.asarray([sets.find(i) for i in range(len(texts))], dtype=np.int64)
