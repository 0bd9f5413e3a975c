"""The click model: embeddings, one interest model, feature crossing, a shared bottom with a head a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from moonshelf.errors import InputError
from moonshelf.ranking.batches import ClickBatch
from moonshelf.ranking.models.cube import Cube, CubeConfig
from moonshelf.ranking.models.din import Din, MeanPast, TargetAttention
from moonshelf.ranking.models.muse import Muse
from moonshelf.ranking.models.parts import Interest, Seen, started, tower
from moonshelf.ranking.models.residual import Examination, Residual
from moonshelf.ranking.models.sim import Sim
from moonshelf.ranking.models.taste import Taste
from moonshelf.ranking.tables import RowTable
from moonshelf.types import ACTIONS, Action

InterestName = Literal[
    "none", "mean", "din", "target-attention", "sim-hard", "sim-soft", "sim-content", "muse", "cube"
]
Mode = Literal["id", "content", "both"]
NEEDS_CONTENT = ("sim-content", "muse", "cube")
STD = 1e-4
POSITIONS = 64  # places of a list that are told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickConfig:
    """A click model.

    Attributes:
        interest: what reads the past.
        mode: ``id``: ids and features; ``content``: features and content vectors, no id is known; ``both``.
        width: numbers of an id or feature embedding.
        hidden: of the shared bottom.
        cross: layers of DCN-v2 (Wang et al. 2021) beside it.
        labels: heads.
        dropout: in the bottom.
        unknown: share of a batch's ids of products, queries and users that are shown as unknown in training, so that
            the unknown is learned.
        longest: entries of a past.
        taste: beside the interest, what a past says in plain numbers (``models.taste``).
        cube: of the interest ``cube``.
        adapter: hidden units of a residual network on all content vectors, learned with the model; 0: vectors are taken
            as they are.
        debias: hidden units of the debiasing network on products' vectors (``ranking.debias``); 0: none.
        position: how places of a list are allowed for. ``examination``: a place's share of looks is learned and
            taken out when scoring; ``offset``: a number a place on the logit (the shallow tower of Zhao et al. 2019,
            RecSys); ``none``: places are not looked at.
    """

    interest: InterestName = "cube"
    mode: Mode = "both"
    width: int = 16
    hidden: tuple[int, ...] = (256, 128, 64)
    cross: int = 0
    labels: tuple[Action, ...] = ("click",)
    dropout: float = 0.0
    unknown: float = 0.05
    longest: int = 50
    taste: bool = True
    cube: CubeConfig = field(default_factory=CubeConfig)
    adapter: int = 0
    debias: int = 0
    position: Literal["none", "examination", "offset"] = "none"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of what a model embeds: products and queries (``things``), users, feature columns; D of content vectors (0:
    none).

    ``products`` of the things are products, the first ones. ``group`` is the item column that holds the category, -1:
    none.
    """

    things: int
    users: int
    item: tuple[int, ...] = ()
    user: tuple[int, ...] = ()
    row: tuple[int, ...] = ()
    dim: int = 0
    products: int = 0
    group: int = -1


class ClickModel(nn.Module):
    """``forward(batch) -> [B, labels]`` logits.

    Raises:
        InputError: the interest, or the mode, needs content vectors and there are none.
    """

    def __init__(self, config: ClickConfig, sizes: Sizes, seed: int = 0) -> None:
        super().__init__()
        if not sizes.dim and (config.interest in NEEDS_CONTENT or config.mode != "id"):
            raise InputError(
                f"interest {config.interest} in mode {config.mode} reads content vectors, and there are none",
                mend="give a shelf, or take mode id with an interest such as din",
            )
        self.config, self.sizes = config, sizes
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            w = config.width
            self.things = RowTable(1 + sizes.things, w, STD, generator)
            self.users = RowTable(1 + sizes.users, w, STD, generator)
            self.item_columns, self.user_columns, self.row_columns = (
                nn.ModuleList(_embedding(n, w) for n in columns)
                for columns in (sizes.item, sizes.user, sizes.row)
            )
            k = w * (1 + len(sizes.item))
            made = _interests(config, k, sizes).get(config.interest)
            self.interest: Interest | None = made() if made is not None else None
            inputs = 2 * k + w * (1 + len(sizes.user) + len(sizes.row))
            inputs += self.interest.width if self.interest is not None else 0
            self.taste: Taste | None = None
            self.wide: nn.Linear | None = None
            if config.taste and self.interest is not None and (sizes.item or config.mode != "id"):
                self.taste = Taste(sizes.item, sizes.dim if config.mode != "id" else 0, sizes.group)
                self.wide = nn.Linear(self.taste.width, len(config.labels), bias=False)
                nn.init.zeros_(self.wide.weight)
                inputs += self.taste.width
            self.content: nn.Linear | None = None
            if config.mode != "id" and config.interest != "cube":  # CUBE brings the target's vector itself
                self.content = nn.Linear(sizes.dim, w, bias=False)
                started(self.content)
                inputs += w + 1
            moves = sizes.dim > 0  # without content there is nothing to move
            self.adapter = Residual(sizes.dim, config.adapter) if config.adapter and moves else None
            self.debias = Residual(sizes.dim, config.debias) if config.debias and moves else None
            self.examination = Examination(POSITIONS) if config.position == "examination" else None
            self.offset = nn.Embedding(POSITIONS + 1, 1) if config.position == "offset" else None
            if self.offset is not None:
                nn.init.zeros_(self.offset.weight)
            self.crosses = nn.ModuleList(nn.Linear(inputs, inputs) for _ in range(config.cross))
            self.bottom = tower(inputs, config.hidden[:-1], config.hidden[-1], config.dropout)
            self.heads = nn.Linear(config.hidden[-1] + (inputs if config.cross else 0), len(config.labels))
            started(self.heads)

    def tables(self) -> tuple[RowTable, ...]:
        """Tables whose rows move on their own; everything else is in ``parameters()``."""
        return (self.things, self.users)

    def forward(
        self, batch: ClickBatch, generator: torch.Generator | None = None, *, placed: bool = True
    ) -> Tensor:
        """Logits ``[B, labels]``.

        Args:
            generator: draws which ids are hidden; None hides none.
            placed: of a click where the row was shown; False: wherever it is shown, for ordering products.
        """
        every = torch.cat(
            (self._ids(batch, generator), *_looked_up(self.item_columns, batch.item_columns)), dim=1
        )
        b, vectors = len(batch), self.moved(batch)
        ends = every[torch.cat((batch.target, batch.asked))]
        seen = Seen(every, vectors, batch, ends[:b])
        users, of = torch.unique(torch.cat((batch.user.new_zeros(1), batch.user)), return_inverse=True)
        known = self._hidden(self.users(users), generator)[of[1:]]  # place 0 is the unknown one
        if self.config.mode == "content":
            known = torch.zeros_like(known)
        user = torch.cat((known, *_looked_up(self.user_columns, batch.user_columns)), dim=1)
        parts = [
            user[batch.context], ends[:b], ends[b:], *_looked_up(self.row_columns, batch.row_columns)
        ]  # fmt: skip
        if self.interest is not None:
            parts.append(self.interest(seen))
        plain: Tensor | None = None
        if self.taste is not None:
            plain = self.taste(batch, vectors, self.debiased)
            parts.append(plain)
        if self.content is not None:
            target, asked = vectors[batch.target], vectors[batch.asked]
            parts += [self.content(target), (target * asked).sum(1, keepdim=True)]
        x = torch.cat(parts, dim=1)
        deep = torch.relu(self.bottom(x))
        crossed = x
        for layer in self.crosses:
            crossed = x * layer(crossed) + crossed
        logits: Tensor = self.heads(torch.cat((deep, crossed), dim=1) if len(self.crosses) else deep)
        if self.wide is not None and plain is not None:
            logits = logits + self.wide(plain)
        if placed and self.examination is not None:
            logits = self.examination(logits, batch.position)
        if placed and self.offset is not None:
            logits = logits + self.offset(batch.position.clamp(0, POSITIONS))
        return logits

    def moved(self, batch: ClickBatch) -> Tensor:
        """``[V, D]`` content vectors after the adapter and the debiasing network."""
        vectors = batch.vectors
        if self.adapter is not None:
            vectors = self.adapter(vectors)
        if self.debias is not None:
            vectors = torch.where(batch.product.unsqueeze(1), self.debias(vectors), vectors)
        return vectors

    def debiased(self, vectors: Tensor) -> Tensor:
        """``[N, D]`` vectors of products as the model sees them: what goes to a shelf, or to a metric."""
        for network in (self.adapter, self.debias):
            vectors = vectors if network is None else network(vectors)
        return vectors

    def _ids(self, batch: ClickBatch, generator: torch.Generator | None) -> Tensor:
        rows: Tensor = self.things(batch.ids)
        if self.config.mode == "content":
            return torch.zeros_like(rows)
        return self._hidden(rows, generator)  # place 0 is the unknown one

    def _hidden(self, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        """Some rows of ids as the first one, the unknown, in training."""
        if not self.training or generator is None or not self.config.unknown:
            return rows
        hidden = torch.rand(len(rows), generator=generator).to(rows.device) < self.config.unknown
        return torch.where(hidden.unsqueeze(1), rows[:1], rows)

    def targets(self, batch: ClickBatch) -> Tensor:
        """``[B, labels]`` float32."""
        return batch.label[:, [ACTIONS.index(name) for name in self.config.labels]]


def _interests(config: ClickConfig, k: int, sizes: Sizes) -> dict[str, Callable[[], Interest]]:
    return {
        "mean": lambda: MeanPast(k),
        "din": lambda: Din(k),
        "target-attention": lambda: TargetAttention(k),
        "sim-hard": lambda: Sim(k, "hard", category=sizes.group),
        "sim-soft": lambda: Sim(k, "soft"),
        "sim-content": lambda: Sim(k, "content"),
        "muse": lambda: Muse(k),
        "cube": lambda: Cube(k, sizes.dim, config.longest, config.cube),
    }


def _embedding(size: int, width: int) -> nn.Embedding:
    made = nn.Embedding(size, width)
    nn.init.normal_(made.weight, std=STD)
    return made


def _looked_up(tables: nn.ModuleList, columns: Tensor) -> Iterator[Tensor]:
    for at, table in enumerate(tables):
        yield table(columns[:, at])
