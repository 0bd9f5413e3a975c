"""What the debiasing network learns from: often shown products beside seldom shown ones of their category.

"Visual Encoding and Debiasing for CTR Prediction" (arXiv 2205.04168), step 3: clicks exist only where something was
shown, so a vector that was trained on them says how often its product was shown. The network in the click model
(``models/residual.py``) is trained to take that out, by contrasting high-impression products with selected
low-impression ones. The paper's formulas, thresholds and direction are not known to us; what is below is our design.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.features import Features
from moonshelf.ranking.models.click_model import ClickModel
from moonshelf.ranking.rows import Rows

Direction = Literal["pull", "push"]
_BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DebiasConfig:
    """Attributes:
    direction: ``pull``: an often shown product towards its seldom shown partner, other seldom shown ones as negatives;
        ``push``: towards its own vector as it was, its partner and the others as negatives.
    weight: beta of the loss beside that of the clicks.
    heat: temperature of the contrast.
    head, tail: shares of each category's products, by impressions, that count as often and seldom shown.
    pairs: drawn a step, of as few categories as hold them: pairs contrast within a category alone.
    """

    direction: Direction = "pull"
    weight: float = 0.1
    heat: float = 0.1
    head: float = 0.2
    tail: float = 0.5
    pairs: int = 256


@dataclass(frozen=True, slots=True)
class Partners:
    """Often shown products and, for each, the most similar seldom shown one of its category.

    Attributes:
        head, tail: ``[H]``, ``[T]`` int64 numbers of products.
        group_head, group_tail: the category of each.
        partner: ``[H]`` places in ``tail``.
    """

    head: np.ndarray
    tail: np.ndarray
    group_head: np.ndarray
    group_tail: np.ndarray
    partner: np.ndarray


def impressions(rows: Rows, products: int) -> np.ndarray:
    """``[products]`` int64: how often each product was shown in these rows. Count training rows alone."""
    return np.bincount(rows.item[rows.item >= 0], minlength=products)


def find_ends(
    shown: np.ndarray, group: np.ndarray, there: np.ndarray, config: DebiasConfig | None = None
) -> Partners:
    """Heads and tails of every category; partners are not chosen yet (each head has the first tail of its category).

    Args:
        shown: ``[P]`` impressions of products.
        group: ``[P]`` category numbers; 0 (unknown) is a category like the others.
        there: ``[P]`` bool, products with a vector.

    Raises:
        TooLittleData: no category has products at both ends.
    """
    config = config or DebiasConfig()
    head, tail, first = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    tails = 0
    for name in np.unique(group[there]):
        own = np.flatnonzero(there & (group == name))
        own = own[np.argsort(-shown[own], kind="stable")]
        h, t = max(1, round(config.head * len(own))), max(1, round(config.tail * len(own)))
        often, seldom = own[:h], own[len(own) - min(t, len(own) - h) :] if len(own) > h else own[:0]
        seldom = seldom[shown[seldom] < shown[often[-1]]]  # equally often shown ones are no contrast
        if len(seldom):
            head.append(often)
            tail.append(seldom)
            first.append(np.full(h, tails))
            tails += len(seldom)
    if not head:
        raise TooLittleData(
            "no category has products that were shown often and others that were shown seldom",
            mend="leave the debiasing network out, or add impressions",
        )
    heads, seldoms = np.concatenate(head), np.concatenate(tail)
    return Partners(heads, seldoms, group[heads], group[seldoms], np.concatenate(first))


def choose_partners(ends: Partners, vectors: Callable[[np.ndarray], np.ndarray]) -> Partners:
    """The most similar tail product of its category for every head.

    Args:
        vectors: ``[n, D]`` unit vectors of product numbers, as the model sees them now.

    Cost: ``sum over categories H_c T_c D``, in blocks; once an epoch.
    """
    partner = ends.partner.copy()
    for name in np.unique(ends.group_head):
        rows = np.flatnonzero(ends.group_head == name)
        columns = np.flatnonzero(ends.group_tail == name)
        seldom = vectors(ends.tail[columns])
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            partner[part] = columns[np.argmax(vectors(ends.head[part]) @ seldom.T, axis=1)]
    return replace(ends, partner=partner)


def draw_pairs(ends: Partners, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``n`` heads (fewer when there are fewer), their partners, and the category of each: numbers of products.

    Categories come in an order by lot, each with all its heads until ``n`` are there: a category of three among 256
    pairs of a hundred others would have next to nobody to be told from. The more heads, the likelier a category leads.
    """
    groups, own, held = np.unique(ends.group_head, return_inverse=True, return_counts=True)
    turn = (
        rng.exponential(size=len(groups)) / held
    )  # smallest first: a draw without return, by number of heads
    order = np.lexsort((rng.random(len(own)), turn[own]))
    at = order[:n]
    return ends.head[at], ends.tail[ends.partner[at]], ends.group_head[at]


def debias_loss(
    often: Tensor, seldom: Tensor, before: Tensor, partner: Tensor, group: Tensor, config: DebiasConfig
) -> Tensor:
    """The contrast of often and seldom shown products, a mean over pairs.

    ::

        pull  -log exp(o_i . s_i / t) / sum_j exp(o_i . s_j / t)
        push  -log exp(o_i . b_i / t) / (exp(o_i . b_i / t) + sum_j exp(o_i . s_j / t))

    ``j`` runs over the seldom shown ones of the pair's category, each counted once.

    Args:
        often, seldom: ``[n, D]`` vectors after the network. before: ``[n, D]`` the often shown ones without it.
        partner: ``[n]`` numbers of the seldom shown products. group: ``[n]`` their categories.
    """
    logits = often @ seldom.T / config.heat
    same = partner.unsqueeze(0) == partner.unsqueeze(1)
    repeated = torch.tril(same, diagonal=-1).any(dim=1)  # the column's product was an earlier column already
    if config.direction == "pull":
        # a pair whose partner is an earlier column finds it there
        where = same.int().argmax(dim=1)
        allowed = (group.unsqueeze(0) == group.unsqueeze(1)) & ~repeated.unsqueeze(0)
        return F.cross_entropy(logits.masked_fill(~allowed, torch.finfo(logits.dtype).min), where)
    allowed = (group.unsqueeze(0) == group.unsqueeze(1)) & ~repeated.unsqueeze(0)
    own = (often * before).sum(1, keepdim=True) / config.heat
    whole = torch.cat((own, logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)), dim=1)
    return F.cross_entropy(whole, torch.zeros(len(own), dtype=torch.long, device=own.device))


def categories(features: Features, products: int) -> np.ndarray:
    """``[P]`` int64: the number of each product's whole category path, 0 where it has none."""
    columns = [c.values for c in features.item if c.name.startswith("item.category")]
    if not columns:
        return np.zeros(products, dtype=np.int64)
    paths, number = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return np.where(paths.any(axis=1), 1 + np.arange(len(paths)), 0)[number.ravel()]


class Contrast:
    """The debiasing loss of a training run; its state is who is whose partner.

    Args:
        train: the rows to learn from, with content.
        config: see :class:`DebiasConfig`.

    Raises:
        InputError: the rows have no content vectors.
        TooLittleData: see :func:`find_ends`.
    """

    def __init__(self, train: ClickBatches, config: DebiasConfig) -> None:
        if train.content is None:
            raise InputError("the debiasing network needs content vectors", mend="give a shelf")
        self.config, self.content = config, train.content
        products = len(train.history.items)
        there = self.content.has(np.arange(products))
        shown = impressions(train.rows, products)
        self.ends = find_ends(shown, categories(train.features, products), there, config)

    @torch.no_grad()
    def refresh(self, model: ClickModel) -> None:
        """Choose partners anew, by the vectors as the model sees them now."""
        device = model.heads.weight.device

        def seen(products: np.ndarray) -> np.ndarray:
            vectors = torch.from_numpy(self.content.fetch(products)[0])
            return np.asarray(model.debiased(vectors.to(device)).cpu().numpy())

        self.ends = choose_partners(self.ends, seen)

    def loss(self, model: ClickModel, seed: int) -> Tensor:
        """The contrast of one step's pairs, which are a function of ``seed``."""
        assert model.debias is not None
        device = model.heads.weight.device
        often, seldom, group = draw_pairs(self.ends, self.config.pairs, np.random.default_rng(seed))
        before = torch.from_numpy(self.content.fetch(np.concatenate((often, seldom)))[0]).to(device)
        if model.adapter is not None:  # the contrast moves the debiasing network alone
            before = model.adapter(before).detach()
        after = model.debias(before)
        return debias_loss(
            after[: len(often)], after[len(often) :], before[: len(often)],
            torch.from_numpy(seldom).to(device), torch.from_numpy(group).to(device), self.config,
        )  # fmt: skip

    def state(self) -> Tensor:
        """What a checkpoint keeps."""
        return torch.from_numpy(self.ends.partner.copy())

    def load_state(self, state: Tensor) -> None:
        """Take :meth:`state` back."""
        self.ends = replace(self.ends, partner=state.numpy().copy())
