"""The fast selector: one number a creative, ``P(A beats B) = sigmoid(s (f(A) - f(B)))``, both orders agree by design.

``f`` is linear in the blocks phi of ``features``. It is fitted on *all* creatives of the training tests, not on the
pairs that came out significant: with clicks k of n impressions and ``y = log((k + 1/2) / (n + 1))``

    y_i = mean + u_test + w . phi_i + e_i,    u ~ N(0, sigma^2),  e_i ~ N(0, 1 / (k_i + 1/2) + tau^2),
                                              w ~ N(0, 1 / lambda)

``u`` is what the creatives of a test share (its story, its place, its week); ``sigma -> infinity`` would look inside
tests alone, but a headline that does well among all tests says something, too. ``tau^2`` is the spread of true effects
inside a test, so that a test of many clicks does not drown the others. Both come from the log by moments (DerSimonian &
Laird 1986) before phi explains any of it: upper bounds. Blocks and ``lambda`` are chosen by the error inside val's
tests, and the scale ``s`` on val's pairs (``fit.scale_of``). Our design; the pairwise logistic model on differences
of vectors that it stands beside (``pairwise``) is the case of one block, sigma = infinity, and significant pairs alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from moonshelf.creative.features import BLOCKS, Standard, block, curves, filled, width_of
from moonshelf.creative.measures import NAMES, VERSION, Seen
from moonshelf.errors import InputError
from moonshelf.workspace import atomic_write, write_json

CONFIG_FILE, WEIGHTS_FILE = "selector.json", "selector.safetensors"
FORMAT = 1
_STANDARD = "standard."


@dataclass(frozen=True, slots=True)
class FastSelector:
    """A fitted selector.

    Attributes:
        weights: a vector a block, in units of the block as ``features`` gives it.
        scale: ``s``: log odds a unit of f.
        spread: standard deviation of what f leaves unexplained of the log click rate inside a test.
        encoder: version of the encoder whose vectors it reads.
        width: of that encoder's vectors.
        seed: of the waves.
        standards: mean and deviation by which some blocks standardise.
        about: how it was chosen and measured.
    """

    weights: dict[str, np.ndarray]
    scale: float = 1.0
    spread: float = 0.2
    encoder: str = ""
    width: int = 256
    seed: int = 0
    standards: dict[str, Standard] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def score(self, seen: Seen, texts: Sequence[str]) -> np.ndarray:
        """f: ``[N]`` float64, log click rate up to a constant that the creatives of a test share.

        Cost: under 1 ms a creative once its vectors are there.
        """
        total = np.zeros(len(seen))
        for name, weight in self.weights.items():
            total += block(name, seen, texts, self.seed, self.standards).astype(np.float64) @ weight
        return total

    def chance(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """``P(first beats second)`` from two arrays of scores."""
        return sigmoid(self.scale * (np.asarray(first) - np.asarray(second)))

    def shares(self, seen: Seen) -> np.ndarray:
        """``[N, len(NAMES)]``: what each measure adds to f; all 0 where the selector does not read measures."""
        weight, bends = self.weights.get("measures"), self.weights.get("curves")
        known = "present" in self.standards
        whole = filled(seen.measures, self.standards["present"][0]) if known else seen.measures
        total = np.zeros_like(whole) if weight is None else whole * weight
        if bends is not None:
            bent = curves(whole, self.standards["curves"][0]) * bends
            total = total + bent.reshape(*total.shape, -1).sum(2)
        return total

    def save(self, folder: Path) -> None:
        """Write into an existing folder: weights without pickle, and a description."""
        state = {
            name: torch.from_numpy(np.ascontiguousarray(w, dtype=np.float64))
            for name, w in self.weights.items()
        }
        for name, both in self.standards.items():
            state[_STANDARD + name] = torch.from_numpy(np.stack(both).astype(np.float64))
        atomic_write(folder / WEIGHTS_FILE, save(state))
        told = {
            "format": FORMAT, "measures": [VERSION, *NAMES], "scale": self.scale, "spread": self.spread,
            "encoder": self.encoder, "width": self.width, "seed": self.seed, "about": self.about,
        }  # fmt: skip
        write_json(folder / CONFIG_FILE, told)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


def load_fast(folder: Path) -> FastSelector:
    """Read what :meth:`FastSelector.save` wrote.

    Raises:
        InputError: nothing is there, a damaged file, or measures that this version does not take.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise InputError(
            "there is no selector here", where=str(folder), mend="train one: moonshelf creative train"
        )
    try:
        told = json.loads((folder / CONFIG_FILE).read_text())
        if told["format"] != FORMAT or told["measures"] != [VERSION, *NAMES]:
            raise ValueError("it reads other measures than this version takes")
        held = {name: w.numpy() for name, w in load_file(folder / WEIGHTS_FILE).items()}
        weights = {name: w for name, w in held.items() if not name.startswith(_STANDARD)}
        standards = {
            name.removeprefix(_STANDARD): (w[0], w[1])
            for name, w in held.items()
            if name.startswith(_STANDARD)
        }
        for name, weight in weights.items():
            wide = (
                len(weight) if name == "language" else width_of(name, told["width"])
            )  # its width is its model's
            if name not in BLOCKS or weight.shape != (wide,):
                raise ValueError(f"block {name} has another shape")
        if "curves" in weights and "curves" not in standards:
            raise ValueError("block curves has no knots")
        return FastSelector(
            weights, float(told["scale"]), float(told["spread"]), told["encoder"], told["width"], told["seed"],
            standards, told["about"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the selector cannot be read: {reason}", where=str(folder), mend="train it again"
        ) from error
