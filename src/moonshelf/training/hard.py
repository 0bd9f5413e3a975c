"""Hard negatives of a step: products of the query's own category, and mined ones, beside the batch's own products."""

from __future__ import annotations

import numpy as np

from moonshelf.encoder import product_text
from moonshelf.errors import InputError
from moonshelf.shop.shop import Shop
from moonshelf.training.pairs import SearchPairs


def require_categories(shop: Shop, stage: str) -> None:
    """Refuse a shop that has no category with two products: ``category_hard`` could draw nothing.

    Raises:
        InputError: so it is.
    """
    sizes = (
        []
        if shop.products is None
        else shop.products["category"].drop_nulls().value_counts()["count"].to_list()
    )
    if max(sizes, default=0) < 2:
        raise InputError(
            "hard negatives of the same category are asked for, but no category holds two products",
            where=str(shop.source),
            mend=f"set {stage}.category_hard=0, or fill the column category of products",
        )


class HardNegatives:
    """Draws products for the queries of a batch. Each kind stays under its own name, for the log.

    MOON (2511.11305) takes a product of the positive's category a pair; mining is our addition.

    Args:
        pairs: queries and products.
        category: products of the same category (and another design) to draw for every query.
        mined: ``[len(pairs), K]`` product numbers or -1 (``mining.load_mined``); None for none.
        mined_per_query: how many of the K to draw for every query.

    Raises:
        InputError: a kind is asked for that these pairs cannot give.
    """

    def __init__(
        self,
        pairs: SearchPairs,
        *,
        category: int = 0,
        mined: np.ndarray | None = None,
        mined_per_query: int = 1,
    ) -> None:
        self._pairs, self._category, self._mined, self._mined_per_query = (
            pairs,
            category,
            mined,
            mined_per_query,
        )
        self._members: dict[int, np.ndarray] = {}
        self._codes, self._groups = pairs.categories.numpy(), pairs.groups.numpy()
        if category:
            shown = np.array([self._encodable(number) for number in range(len(pairs.products))], dtype=bool)
            for code in np.unique(self._codes[pairs.product_of]):
                members = (
                    np.flatnonzero((self._codes == code) & shown) if code >= 0 else np.empty(0, np.int64)
                )
                if len(np.unique(self._groups[members])) > 1:
                    self._members[int(code)] = members
            if not self._members:
                raise InputError(
                    "hard negatives of the same category are asked for, but no category holds two designs",
                    mend=f"set {pairs.stage}.category_hard=0, or fill the column category of products",
                )
        if mined is not None and not (mined >= 0).any():
            raise InputError(
                "the mined negatives are empty", mend="mine with a larger guard, or leave them out"
            )

    def _encodable(self, number: int) -> bool:
        shop, product_id = self._pairs.products[number]
        return bool(self._pairs.photos(number) or product_text(self._pairs.shops[shop].product(product_id)))

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Product numbers by kind (``category``, ``mined``), each sorted and distinct; kinds that are asked for."""
        out: dict[str, np.ndarray] = {}
        own = self._pairs.product_of[rows]
        if self._category:
            drawn: list[int] = []
            for number in own.tolist():
                members = self._members.get(int(self._codes[number]), np.empty(0, np.int64))
                others = members[self._groups[members] != self._groups[number]]
                take = min(self._category, len(others))
                drawn += rng.choice(others, take, replace=False).tolist() if take else []
            out["category"] = np.unique(np.asarray(drawn, dtype=np.int64))
        if self._mined is not None:
            drawn = []
            for row in rows.tolist():
                known = self._mined[row][self._mined[row] >= 0]
                take = min(self._mined_per_query, len(known))
                drawn += rng.choice(known, take, replace=False).tolist() if take else []
            out["mined"] = np.unique(np.asarray(drawn, dtype=np.int64))
        return out
