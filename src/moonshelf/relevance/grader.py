"""A relevance model bound to a shop: what the joined stages ask between retrieval and ranking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.relevance.goods import Goods
from moonshelf.relevance.model import RelevanceModel, open_relevance, trained_on
from moonshelf.relevance.vectors import ShelfVectors
from moonshelf.shop.shop import Shop


class ShopGrader:
    """Grades and reasons for products of a shop, by id.

    Where the shop is as it was in training, products are taken as the model keeps them; else they are read from the
    shop as it is now, so that new products have a grade and new titles count. Our design.

    Args:
        same: whether the shop is as it was in training.

    Raises:
        InputError: the model and the shop share no product.
    """

    def __init__(self, model: RelevanceModel, shop: Shop, *, same: bool) -> None:
        if shop.products is None or not model.knows_one_of(shop.products["product_id"].to_list()):
            raise InputError(
                "the relevance model was trained on another shop: they share no product",
                where=shop.name,
                mend="train one for this shop with: moonshelf relevance train",
            )
        self.model, self.same = model, same
        self._products = shop.products
        self._row = {product_id: i for i, product_id in enumerate(shop.products["product_id"].to_list())}
        if not same:
            say("relevance: the shop is not as it was when the model was trained; its products are read anew")

    def grades(self, query_text: str, product_ids: Sequence[str]) -> np.ndarray:
        """Mean grade that a judge would give, ``[n]`` float32.

        Raises:
            InputError: the query has no text, or a product is not in the shop.
        """
        return self.model.grades(query_text, self._goods(product_ids))

    def reasons(self, query_text: str, product_ids: Sequence[str]) -> list[str]:
        """A line a product. Errors as ``grades``."""
        return self.model.reasons(query_text, self._goods(product_ids))

    def _goods(self, product_ids: Sequence[str]) -> Goods:
        unknown = [p for p in product_ids if p not in self._row]
        if unknown:
            raise InputError(
                f"{len(unknown)} of {len(product_ids)} products are not in the shop, e.g. {unknown[0]}",
                mend="embed the shop again, or name the right one with --shop",
            )
        if self.same:
            return self.model.goods(product_ids)
        return self.model.read(self._products[[self._row[p] for p in product_ids]])


def open_shop_grader(path: str | Path, shop: Shop, vectors: ShelfVectors | None = None) -> ShopGrader:
    """Open a model (``open_relevance``) for a shop.

    Raises:
        InputError: the model cannot be opened, or is one of another shop.
    """
    model = open_relevance(path, vectors)
    return ShopGrader(model, shop, same=trained_on(path) == shop.fingerprint)
