"""The pairs that posttrain learns from: queries of split train and the products that people acted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from moonshelf.encoder import product_text
from moonshelf.errors import TooLittleData
from moonshelf.shop.duplicates import Sets
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text, query_keys
from moonshelf.training.guard import barred_photos, held_hashes, held_texts
from moonshelf.training.kin import Kin
from moonshelf.workspace import digest


class SearchPairs:
    """Pairs and products of several shops under consecutive numbers; what is right and wrong for each pair.

    One query often led to several products. They are all right for it, in whichever pair it stands.

    Args:
        shops: the main one first. What any of them asks for in val or test is not learned from in the others
            either. Shops without searches take no part.

    Attributes:
        queries: ``(shop, photo or None, text or None)`` a pair.
        products: ``(shop, product id)`` a product number.
        product_of: ``[n]`` int64, product number of each pair.
        categories: ``[products]`` int64 category numbers, -1 where a product has none.

    Raises:
        TooLittleData: fewer than two pairs, or all of one design: there would be no negative.
    """

    def __init__(self, shops: Sequence[Shop]) -> None:
        self.shops = list(shops)
        self.products: list[tuple[int, str]] = []
        self.queries: list[tuple[int, str | None, str | None]] = []
        rows: list[int] = []
        keys: list[str] = []
        groups: list[int] = []
        names: list[str] = []
        hashes, texts = held_hashes(shops, creatives=False), held_texts(shops)
        kin = Kin(shops)
        self._barred = [barred_photos(shop, hashes) for shop in shops]
        for number, shop in enumerate(shops):
            if shop.products is None or shop.searches is None:
                continue
            ids = shop.products["product_id"].to_list()
            index = {product_id: i + len(self.products) for i, product_id in enumerate(ids)}
            self.products += [(number, product_id) for product_id in ids]
            groups += [kin.designs[number][product_id] for product_id in ids]
            names += [f"{number} {c}" if c else "" for c in shop.products["category"]]
            for product_id, image, text, key in _rows(shop, kin.pictures[number]):
                held = image in self._barred[number] or (image is None and plain_text(text) in texts)
                at = index[product_id]
                if not held and (self.photos(at) or product_text(shop.product(product_id))):
                    rows.append(at)
                    keys.append(key)
                    self.queries.append((number, image, text))
        self.product_of = np.asarray(rows, dtype=np.int64)
        self.groups = torch.tensor(groups, dtype=torch.int64)
        codes = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name))}
        self.categories = torch.tensor([codes.get(name, -1) for name in names], dtype=torch.int64)
        self._key_of, self._right = keys, _several(keys, rows)
        if len(rows) < 2 or len(set(self.groups[self.product_of].tolist())) < 2:
            raise TooLittleData(
                f"only {len(rows)} searches of split train to learn from, for "
                f"{len(set(self.groups[self.product_of].tolist()))} designs",
                where=", ".join(str(shop.source) for shop in shops),
                mend="add rows to the table searches, or leave posttrain out with --set stages=pretrain",
            )

    def __len__(self) -> int:
        return len(self.product_of)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the shops and the numbering of pairs and products."""
        marks = [shop.fingerprint for shop in self.shops]
        return digest([marks, self.products, self.queries, self.product_of.tolist()])

    def photos(self, number: int) -> tuple[str, ...]:
        """The photos of a product; in extra shops without those that another shop asks for in val or test."""
        shop, product_id = self.products[number]
        ids = self.shops[shop].product(product_id).image_ids
        return ids if shop == 0 else tuple(i for i in ids if i not in self._barred[shop])

    def masks(
        self, rows: np.ndarray, products: Tensor, *, own_category: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Right and wrong products for pairs, ``[B, P]`` bool each; what is neither takes no part.

        Right: all products that the pair's query led to. Wrong: products of other designs (SPU, shared photo) than
        these; with ``own_category`` False only those known to be of another category than the pair's product.

        Args:
            rows: ``[B]`` pair numbers.
            products: ``[P]`` product numbers.
        """
        asked = torch.from_numpy(self.product_of[rows])
        right = asked[:, None] == products[None]
        wrong = self.groups[asked][:, None] != self.groups[products][None]
        for i, row in enumerate(rows.tolist()):
            several = self._right.get(self._key_of[row])
            if several is not None:
                right[i] = torch.isin(products, several)
                wrong[i] = ~torch.isin(self.groups[products], self.groups[several])
        if not own_category:
            mine, theirs = self.categories[asked][:, None], self.categories[products][None]
            wrong &= (mine != theirs) | (mine < 0)
        return right, wrong

    def peers(self, rows: np.ndarray, *, own_category: bool = True) -> tuple[Tensor, Tensor]:
        """The same among the queries of pairs, ``[B, B]``: two agree when what one led to is right for the other."""
        right, wrong = self.masks(rows, torch.from_numpy(self.product_of[rows]), own_category=own_category)
        right, wrong = right | right.T, wrong & wrong.T
        # the same query again is no lesson: two equal texts are one vector
        keys = np.asarray([self._key_of[row] for row in rows.tolist()])
        again = torch.from_numpy(keys[:, None] == keys[None])
        return right & ~again, wrong & ~again

    def kin(self, rows: np.ndarray) -> Tensor:
        """``[B]`` group numbers of queries that must not repel each other: one query, or products of one design."""
        sets, first = Sets(len(rows)), dict[str | int, int]()
        for i, row in enumerate(rows.tolist()):
            for key in (self._key_of[row], int(self.groups[self.product_of[row]])):
                sets.join(first.setdefault(key, i), i)
        return torch.tensor([sets.find(i) for i in range(len(rows))], dtype=torch.int64)


def _rows(shop: Shop, pictures: dict[str, int]) -> list[tuple[str, str | None, str | None, str]]:
    """(product, photo, text, key of the query) of the searches of split train."""
    assert shop.searches is not None
    frame = shop.searches.with_columns(query_keys(shop.searches, pictures)).filter(pl.col("split") == "train")
    found = frame.select("product_id", "query_image_id", "query_text", "key").iter_rows()
    return [(product, image, text, key) for product, image, text, key in found if image or text]


def _several(keys: Sequence[str], rows: Sequence[int]) -> dict[str, Tensor]:
    """The products of every query that led to more than one."""
    found: dict[str, set[int]] = {}
    for key, row in zip(keys, rows, strict=True):
        found.setdefault(key, set()).add(row)
    return {key: torch.tensor(sorted(right)) for key, right in found.items() if len(right) > 1}
