"""Losses of the two training stages: pure functions of embeddings and of who belongs to whom."""

from moonshelf.training.losses.circle import circle_loss
from moonshelf.training.losses.contrastive import alignment, info_nce, nt_xent, two_sided
from moonshelf.training.losses.nested import matryoshka
from moonshelf.training.losses.relation import Relation
from moonshelf.training.losses.sigmoid import sigmoid_loss

__all__ = [
    "Relation",
    "alignment",
    "circle_loss",
    "info_nce",
    "matryoshka",
    "nt_xent",
    "sigmoid_loss",
    "two_sided",
]
