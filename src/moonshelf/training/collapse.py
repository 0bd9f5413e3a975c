"""Says when training has collapsed: all vectors alike, and a loss that is that of guessing."""

from __future__ import annotations

import math
from collections import deque

from moonshelf.progress import say

STEPS = 50  # so long, or it is the noise of a hard start


class CollapseWatch:
    """Compares a contrastive loss with ``ln n``, what it is when every one of ``n`` answers seems as right as another.

    Rates that are too high for weak pairs (products bought on one day, say) drive all vectors together within a few
    steps; nothing is learned from then on, the loss stays finite, and the run would end without a word.

    Args:
        name: of the stage, for the line that is said, once.
        near: how close to guessing counts, in nats.
    """

    def __init__(self, name: str, near: float = 0.02) -> None:
        self.name, self.near, self.said = name, near, False
        self._gaps: deque[float] = deque(maxlen=STEPS)

    def see(self, loss: float, among: int) -> None:
        """Take a step's loss over ``among`` answers into account."""
        if self.said or among < 2:
            return
        self._gaps.append(math.log(among) - loss)
        if len(self._gaps) == STEPS and sum(self._gaps) / STEPS < self.near:
            self.said = True
            say(
                f"{self.name}: for {STEPS} steps the loss has been that of guessing ({loss:.2f} among {among}): the "
                f"vectors have collapsed. Stop it, and lower {self.name}.optim.trunk_lr, text_lr and head_lr, or set "
                f"{self.name}.label_smoothing=0 and {self.name}.memory=0"
            )
