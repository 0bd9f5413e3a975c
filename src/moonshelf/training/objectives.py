"""How much each alignment objective counts, and what keeps the experts busy and single-minded (MOON2.0, 2511.12449).

``p_z = softmax over m of W*_z``: how much expert z serves objective m, with W* ``[Z, M]`` learned.
``w_m = mean over rows b that serve m of sum over z of p_zm G~_zb``: rows of a modality are routed differently, and so
the modalities of a batch move the weights. Here it is times M, so that weights start at 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from moonshelf.encoder.compact import VIEWS

OBJECTIVES = ("text>joint", "image>joint", "joint>joint", "image>text", "text>image")
Weights = Literal["fixed", "learned", "learned-stopgrad"]


def objective_weights(routed: Mapping[str, Tensor], mixing: Tensor, mode: Weights) -> dict[str, Tensor]:
    """Weight of each objective.

    ``learned`` is the paper's; a learned factor of a loss can also fall by moving mass to easy objectives, so there are
    ``learned-stopgrad``, whose weights follow the routing but give it no gradient, and ``fixed``: all 1 (our design).

    Args:
        routed: objective -> ``[rows, Z]`` kept routing of the rows that serve it.
        mixing: ``W*``, ``[Z, M]`` in the order of ``OBJECTIVES``.
        mode: see above.

    Returns:
        Objective -> number.
    """
    if mode == "fixed":
        return {name: torch.ones(()) for name in routed}
    share = torch.softmax(mixing, dim=1) * len(OBJECTIVES)
    found = {name: (kept @ share[:, OBJECTIVES.index(name)]).mean() for name, kept in routed.items()}
    return {name: w.detach() for name, w in found.items()} if mode == "learned-stopgrad" else found


def routing_losses(
    chance: Tensor, kept: Tensor, there: Tensor, mixing: Tensor, *, balance: float, sparsity: float
) -> tuple[Tensor, dict[str, float]]:
    """``balance * Z sum_z f_z P_z + sparsity * mean_z H(p_z)``, and what to log.

    The first is least, 1, when all experts get as much (Switch, Fedus et al. 2022): ``f`` is the share of the kept
    routing, without gradient, ``P`` the mean chance. Every row counts alike, long ones and short ones (our design). The
    second pushes each expert towards few objectives.

    Args:
        chance, kept: ``[rows, 3, Z]`` by view.
        there: ``[rows, 3]`` which views there are.
        mixing: ``[Z, M]``.
    """
    experts = mixing.shape[0]
    load, probability = kept.detach()[there].mean(0), chance[there].mean(0)
    even = experts * (load * probability).sum()
    p = torch.softmax(mixing, dim=1)
    entropy = -(p * p.log()).sum(1).mean()
    values = {"balance": even.item(), "sparsity": entropy.item()}
    for at, view in enumerate(VIEWS):
        rows = kept.detach()[there[:, at], at]
        if len(rows):
            values |= {f"route_{view}_{z}": float(share) for z, share in enumerate(rows.mean(0))}
    return balance * even + sparsity * entropy, values
