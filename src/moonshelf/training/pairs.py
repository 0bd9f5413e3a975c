"""The pairs that posttrain learns from: queries of split train and the products that people acted on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import polars as pl
import torch
from torch import Tensor

from moonshelf.encoder import product_text
from moonshelf.errors import TooLittleData
from moonshelf.progress import say
from moonshelf.shop.clean import Cleaned, hardest_query
from moonshelf.shop.duplicates import Sets
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text
from moonshelf.training.asking import COLUMNS, OWN, from_events, from_products, from_searches, namesakes
from moonshelf.training.cleaning import Filter, clean_pairs, named
from moonshelf.training.guard import barred_photos, held_hashes, held_texts
from moonshelf.training.kin import Kin
from moonshelf.training.losses.relation import Relation, join
from moonshelf.workspace import digest


class SearchPairs:
    """Pairs and products of several shops under consecutive numbers; what is right and wrong for each pair.

    One query often led to several products. They are all right for it, in whichever pair it stands. Pairs that are
    not learned from (other actions, cleaned away) still say that their product is no negative of the query.

    Args:
        shops: the main one first. What any of them asks for in val or test is not learned from in the others
            either. Shops without searches take no part.
        actions: learn from pairs with these actions; () for all.
        clean: filters of ``shop.clean`` to run over each shop's pairs (``hardest`` needs ``keep_hardest``).
        seed: of the filters that draw.
        stage: whose settings an error names.
        items: also learn from products that users acted on one after another (``shop.follows``): the query is a
            product, with its first photo and its text, or what it has of the two.
        own: also every product asks for itself, with its title and a photo. Made data, for shops without searches
            and for designs that nobody searched for.

    Attributes:
        queries: ``(shop, photo or None, text or None)`` a pair.
        source: ``search``, ``product`` or ``own`` a pair: who asks.
        products: ``(shop, product id)`` a product number.
        product_of: ``[n]`` int64, product number of each pair.
        categories: ``[products]`` int64 category numbers, -1 where a product has none.
        cleaned: what each filter kept and dropped, a line each.
        dropped: the pairs that filters took out, with ``shop``, ``filter`` and ``reason``; a frame a filter.

    Raises:
        TooLittleData: fewer than two pairs, or all of one design: there would be no negative.
        InputError: a filter that the main shop cannot have.
    """

    def __init__(
        self,
        shops: Sequence[Shop],
        *,
        actions: Sequence[str] = (),
        clean: Sequence[Filter] = (),
        seed: int = 0,
        stage: str = "posttrain",
        items: bool = False,
        own: bool = False,
    ) -> None:
        self.shops, self.stage, self._actions = list(shops), stage, tuple(actions)
        self.products: list[tuple[int, str]] = []
        self.cleaned: list[str] = []
        self.dropped: list[pl.DataFrame] = []
        groups: list[int] = []
        names: list[str] = []
        hashes, texts = held_hashes(shops, creatives=False), held_texts(shops)
        kin = Kin(shops)
        self._barred = [barred_photos(shop, hashes) for shop in shops]
        known: list[pl.DataFrame] = []
        kept: list[pl.DataFrame] = []
        for number, shop in enumerate(shops):
            acted = items and shop.events is not None
            if shop.products is None or not (shop.searches is not None or acted or own):
                continue
            ids = shop.products["product_id"].to_list()
            index = {product_id: i + len(self.products) for i, product_id in enumerate(ids)}
            self.products += [(number, product_id) for product_id in ids]
            groups += [kin.designs[number][product_id] for product_id in ids]
            names += [f"{number} {c}" if c else "" for c in shop.products["category"]]
            rows = from_searches(shop, kin.pictures[number])

            def photos(product_id: str, index: dict[str, int] = index) -> tuple[str, ...]:
                return self.photos(index[product_id])

            if acted:
                rows = pl.concat([rows, from_events(shop, kin.designs[number], photos)])
            if own:
                rows = pl.concat([rows, from_products(shop, photos)])
            rows = rows.with_columns(
                pl.lit(number).alias("shop"), pl.col("product_id").replace_strict(index).alias("at")
            )
            held = rows["query_image_id"].is_in(
                pl.Series(list(self._barred[number]), dtype=pl.String).implode()
            ).fill_null(value=False) | (
                rows["query_image_id"].is_null()
                & rows["query_text"].is_in(_originals(rows, texts).implode()).fill_null(value=False)
            )
            shown = [
                bool(self.photos(at) or product_text(shop.product(p)))
                for at, p in rows.select("at", "product_id").iter_rows()
            ]
            rows = rows.filter(~held & pl.Series(shown, dtype=pl.Boolean))
            known.append(rows)
            known.append(
                namesakes(rows).select(
                    "key", at=pl.col("product_id").replace_strict(index, return_dtype=pl.Int64)
                )
            )
            known.append(  # a product that asks is no negative of itself
                rows.filter(pl.col("asked").is_not_null()).select(
                    "key", pl.col("asked").replace_strict(index, return_dtype=pl.Int64).alias("at")
                )
            )
            learned = rows.filter(pl.col("action").is_in([*actions, OWN])) if actions else rows
            learned, lines, dropped = clean_pairs(
                learned, shop, clean, seed=seed, required=number == 0, stage=stage
            )
            kept.append(learned)
            self.cleaned += lines
            self.dropped += dropped
        for line in self.cleaned:
            say(line)
        self.groups = torch.tensor(groups, dtype=torch.int64)
        codes = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name))}
        self.categories = torch.tensor([codes.get(name, -1) for name in names], dtype=torch.int64)
        self._known = _several(known)
        self._take(pl.concat(kept) if kept else pl.DataFrame(schema=_SCHEMA))

    def _take(self, pairs: pl.DataFrame) -> None:
        self._pairs = pairs
        self.product_of = pairs["at"].to_numpy().astype(np.int64)
        self.queries: list[tuple[int, str | None, str | None]] = list(
            pairs.select("shop", "query_image_id", "query_text").iter_rows()
        )
        self.source = pairs.select(
            pl.when(pl.col("action") == OWN)
            .then(pl.lit(OWN))
            .when(pl.col("asked").is_not_null())
            .then(pl.lit("product"))
            .otherwise(pl.lit("search"))
        ).to_series()
        self._asked: list[str | None] = pairs["asked"].to_list()
        keys = pairs["key"].to_list()
        self._key_of = keys
        numbers = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        self._query_of = torch.tensor([numbers[key] for key in keys], dtype=torch.int64)
        self._right = _several([pairs])
        designs = len(set(self.groups[self.product_of].tolist()))
        if len(pairs) < 2 or designs < 2:
            acted = f" with the action {' or '.join(self._actions)}" if self._actions else ""
            cleaned = "; ".join(self.cleaned)
            without = {"posttrain": "pretrain", "posttrain2": "both"}.get(self.stage)
            raise TooLittleData(
                f"only {len(pairs)} searches of split train{acted} to learn from, for {designs} designs"
                + (f" ({cleaned})" if cleaned else ""),
                where=", ".join(str(shop.source) for shop in self.shops),
                mend="add rows to the table searches"
                + (f", set other {self.stage}.actions" if acted else "")
                + (f", or leave {self.stage} out with --set stages={without}" if without else ""),
            )

    def __len__(self) -> int:
        return len(self.product_of)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the shops and the numbering of pairs and products."""
        marks = [shop.fingerprint for shop in self.shops]
        return digest([marks, self.products, self.queries, self.product_of.tolist()])

    def keep_hardest(self, similarity: np.ndarray) -> np.ndarray:
        """Of the queries that led to one product keep the one that an earlier encoder finds least alike.

        Args:
            similarity: ``[len(self)]`` cosine of each pair by that encoder.

        Returns:
            ``[n]`` the numbers that the pairs had before.
        """
        table = self._pairs.select(pl.col("at").alias("product_id")).with_row_index("row")
        found = hardest_query(table, similarity)
        self.cleaned.append(f"clean, hardest: {found}")
        say(self.cleaned[-1])
        rows = found.kept["row"].to_numpy().astype(np.int64)
        out = self._pairs.with_row_index("row").join(found.dropped.select("row", "reason"), on="row")
        for number in out["shop"].unique(maintain_order=True).to_list():
            gone = out.filter(pl.col("shop") == number)
            self.dropped.append(named(Cleaned(out[:0], gone), "hardest", self.shops[number].name))
        self._take(self._pairs[rows])
        return rows

    def asked(self, row: int, kind: str = "") -> tuple[int, str | None, str]:
        """Shop, photo and text of a pair's query, shown as a modality of ``typed.QUERIES``; "": as it is."""
        shop, photo, text = self.queries[row]
        product_id = self._asked[row]
        if kind and product_id is not None:
            product = self.shops[shop].product(product_id)
            text = product_text(product) if kind == "rich+image" else product.title or product_text(product)
        return shop, None if kind == "text" else photo, "" if kind == "image" else text or ""

    def photos(self, number: int) -> tuple[str, ...]:
        """The photos of a product; in extra shops without those that another shop asks for in val or test."""
        shop, product_id = self.products[number]
        ids = self.shops[shop].product(product_id).image_ids
        return ids if shop == 0 else tuple(i for i in ids if i not in self._barred[shop])

    def texts(self) -> list[str]:
        """The text of each product."""
        return [product_text(self.shops[shop].product(product_id)) for shop, product_id in self.products]

    def relation(self, rows: np.ndarray, products: Tensor, *, own_category: bool = True) -> Relation:
        """Right and wrong products for pairs.

        Right: all products that the pair's query led to. No negatives: products of these designs (SPU, shared
        photo), and of designs that it led to in pairs that are not learned from; with ``own_category`` False also
        those of the category of the pair's product.

        Args:
            rows: ``[B]`` pair numbers.
            products: ``[P]`` product numbers.

        Cost: sorts of ``P`` numbers; no ``B x P`` matrix.
        """
        asked = torch.from_numpy(self.product_of[rows])
        width = len(products)
        positive = _met(*self._led(rows, self._right), products)
        kin_i, kin = self._led(rows, self._known)
        excluded = [_met(kin_i, self.groups[kin], self.groups[products]), positive]
        if not own_category:
            mine = self.categories[asked]
            same = join(torch.where(mine < 0, -2, mine), self.categories[products])
            excluded.append(same[0] * width + same[1])
        both = torch.unique(torch.cat(excluded))
        return Relation((len(rows), width), _coordinates(positive, width), _coordinates(both, width))

    def _led(self, rows: np.ndarray, several: dict[str, list[int]]) -> tuple[Tensor, Tensor]:
        """(row of the batch, product) for every product that a query led to."""
        lists = [several.get(self._key_of[row], ()) for row in rows.tolist()]
        own = torch.from_numpy(self.product_of[rows])
        i = torch.repeat_interleave(
            torch.arange(len(rows)), torch.tensor([len(x) for x in lists], dtype=torch.int64)
        )
        others = torch.tensor(list(chain.from_iterable(lists)), dtype=torch.int64)
        return torch.cat((torch.arange(len(rows)), i)), torch.cat((own, others))

    def masks(
        self, rows: np.ndarray, products: Tensor, *, own_category: bool = True
    ) -> tuple[Tensor, Tensor]:
        """``relation`` as matrices ``[B, P]`` bool: right, wrong; what is neither takes no part."""
        found = self.relation(rows, products, own_category=own_category)
        right = torch.zeros(found.shape, dtype=torch.bool)
        right[found.positive[0], found.positive[1]] = True
        return right, found.negatives()

    def peers(self, rows: np.ndarray, *, own_category: bool = True) -> Relation:
        """The same among the queries of pairs, ``B x B``: two agree when what one led to is right for the other."""
        found = self.relation(rows, torch.from_numpy(self.product_of[rows]), own_category=own_category)
        width = len(rows)

        def both_ways(pairs: Tensor) -> Tensor:
            return torch.cat((pairs[0] * width + pairs[1], pairs[1] * width + pairs[0]))

        query = self._query_of[torch.from_numpy(rows)]
        same = join(query, query)  # the same query again is no lesson: two equal texts are one vector
        again = same[0] * width + same[1]
        positive = torch.unique(both_ways(found.positive))
        positive = positive[~torch.isin(positive, again)]
        excluded = torch.unique(torch.cat((both_ways(found.excluded), again)))
        return Relation((width, width), _coordinates(positive, width), _coordinates(excluded, width))

    def kin(self, rows: np.ndarray) -> Tensor:
        """``[B]`` group numbers of queries that must not repel each other: one query, or products of one design."""
        sets, first = Sets(len(rows)), dict[str | int, int]()
        for i, row in enumerate(rows.tolist()):
            for key in (self._key_of[row], int(self.groups[self.product_of[row]])):
                sets.join(first.setdefault(key, i), i)
        return torch.tensor([sets.find(i) for i in range(len(rows))], dtype=torch.int64)


_SCHEMA = pl.Schema({**COLUMNS, "shop": pl.Int32(), "at": pl.Int64()})


def _originals(rows: pl.DataFrame, plain: frozenset[str]) -> pl.Series:
    """The texts of a table whose plain form is among these."""
    texts = rows["query_text"].drop_nulls().unique().to_list()
    return pl.Series([text for text in texts if plain_text(text) in plain], dtype=pl.String)


def _several(frames: Sequence[pl.DataFrame]) -> dict[str, list[int]]:
    """The products of every query that led to more than one."""
    found: dict[str, set[int]] = {}
    for frame in frames:
        for key, at in frame.select("key", "at").iter_rows():
            found.setdefault(key, set()).add(at)
    return {key: sorted(right) for key, right in found.items() if len(right) > 1}


def _met(i: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Codes ``i * len(right) + j``, ascending, of the pairs with ``left == right[j]``."""
    entry, j = join(left, right)
    codes: Tensor = torch.unique(i[entry] * len(right) + j)
    return codes


def _coordinates(codes: Tensor, width: int) -> Tensor:
    width = max(1, width)
    return torch.stack((codes // width, codes % width))
