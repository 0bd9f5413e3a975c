"""Batches of rows: every product, query and past entry once, every user's past once for all rows that share it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from moonshelf.ranking.content import Content, distinct
from moonshelf.ranking.features import Features
from moonshelf.ranking.history import History
from moonshelf.ranking.rows import Rows


@dataclass(frozen=True, slots=True)
class ClickBatch:
    """B rows of C contexts (a user at a place of the history), over V distinct products and queries.

    Place 0 of the V is always the unknown one. All numbers int64.

    Attributes:
        ids: ``[V]`` rows of the id table: 0 unknown, then products, then queries.
        vectors: ``[V, D]`` float32 content vectors, zeros where there is none; D = 0 without content.
        there: ``[V]`` bool, which have a vector. product: ``[V]`` bool, which are products.
        item_columns: ``[V, F]`` features of products, 0 for queries.
        target, asked: ``[B]`` places of the row's product, and of its query (0: none).
        context: ``[B]`` which context a row belongs to.
        row_columns: ``[B, R]`` features of the row itself.
        position: ``[B]``, 0 where it is not known.
        past: ``[C, L]`` places, in order of time.
        past_there: ``[C, L]`` bool.
        user: ``[C]`` numbers of users, 0 unknown.
        user_columns: ``[C, G]``.
        label: ``[B, 3]`` float32: click, cart, purchase. weight: ``[B]`` float32.
    """

    ids: Tensor
    vectors: Tensor
    there: Tensor
    product: Tensor
    item_columns: Tensor
    target: Tensor
    asked: Tensor
    context: Tensor
    row_columns: Tensor
    position: Tensor
    past: Tensor
    past_there: Tensor
    user: Tensor
    user_columns: Tensor
    label: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: str | torch.device) -> ClickBatch:
        """The same on another device."""
        return ClickBatch(
            **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        )


class ClickBatches:
    """Makes the batches of some rows.

    Args:
        rows: to learn from, or to score.
        history, features: of the same shop.
        content: vectors of products and queries; None for models that know ids alone.
        row_columns: ``[N, R]`` features of the rows.
        longest: entries of a past that are looked at, the newest ones.
    """

    def __init__(
        self,
        rows: Rows,
        history: History,
        features: Features,
        content: Content | None = None,
        *,
        row_columns: np.ndarray | None = None,
        longest: int = 50,
    ) -> None:
        self.rows, self.history, self.content, self.longest = rows, history, content, longest
        self.features = features
        self._items = len(history.items)
        self._item_columns = features.item_table if features.item else np.zeros((self._items, 0), np.int32)
        self._user_columns = (
            features.user_table if features.user else np.zeros((len(history.users), 0), np.int32)
        )
        self._row_columns = np.zeros((len(rows), 0), np.int32) if row_columns is None else row_columns
        key = (rows.user.astype(np.int64) + 1) * (len(history.what) + 1) + rows.until
        self._context = np.unique(key, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Numbers of the rows of each batch: contexts in random order, rows of one together; all rows once.

        Without ``rng`` contexts come in their own order.
        """
        order = (
            self._context
            if rng is None
            else rng.permutation(int(self._context.max(initial=-1)) + 1)[self._context]
        )
        at = np.argsort(order, kind="stable")
        return [at[i : i + size] for i in range(0, len(at), size)]

    def make(self, at: np.ndarray) -> ClickBatch:
        """The batch of some rows, in the order given."""
        rows, history = self.rows, self.history
        _, first, context = np.unique(self._context[at], return_index=True, return_inverse=True)
        lead = at[first]  # a row of each context
        where, there = history.slices(rows.user[lead], rows.until[lead], self.longest)
        past = np.where(there, history.what[where], -1) if len(history.what) else np.full(where.shape, -1)
        asked = np.where(rows.query[at] >= 0, rows.query[at].astype(np.int64) + self._items, -1)
        nothing = np.array([-1], dtype=np.int64)
        things = (
            self._items + len(history.queries) + 1
        )  # the last one is a query of now, see ``Content.asking``
        values, (_, target, past_at, asked_at) = distinct(
            nothing, rows.item[at].astype(np.int64), past, asked, size=things
        )
        product = (values >= 0) & (values < self._items)
        columns = np.where(product[:, None], self._item_columns[np.where(product, values, 0)], 0)
        if self.content is None:
            vectors, has = np.zeros((len(values), 0), np.float32), np.zeros(len(values), bool)
        else:
            vectors, has = self.content.fetch(values)
        users = rows.user[lead].astype(np.int64)
        known = users >= 0
        told = (
            np.where(known[:, None], self._user_columns[np.where(known, users, 0)], 0)
            if len(self._user_columns)
            else np.zeros((len(users), 0))
        )
        return ClickBatch(
            ids=_whole(np.where(values < 0, 0, values + 1)),
            vectors=torch.from_numpy(vectors),
            there=torch.from_numpy(has),
            product=torch.from_numpy(product),
            item_columns=_whole(columns),
            target=_whole(target),
            asked=_whole(asked_at),
            context=_whole(context),
            row_columns=_whole(self._row_columns[at]),
            position=_whole(rows.position[at]),
            past=_whole(past_at),
            past_there=torch.from_numpy(there),
            user=_whole(users + 1),
            user_columns=_whole(told),
            label=torch.from_numpy(rows.label[at].astype(np.float32)),
            weight=torch.from_numpy(np.ascontiguousarray(rows.weight[at], dtype=np.float32)),
        )


def _whole(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))
