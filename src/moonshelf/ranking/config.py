"""Settings of the ranking stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from moonshelf.errors import InputError
from moonshelf.ranking.models.click_model import ClickConfig
from moonshelf.ranking.train import ClickTrainConfig
from moonshelf.types import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class RankConfig:
    """How ``moonshelf rank train`` learns.

    Attributes:
        source: ``impressions``: what was shown; ``acts``: each act beside drawn negatives (made data); ``auto``:
            impressions where the shop has them.
        acts: which acts are positives when there are no impressions; a purchase is no click.
        negatives: drawn for each positive to learn from, of what was wanted within ``around_days`` of it.
        test_negatives: drawn for each positive of test, by the popularity of its time.
        cut: first moment of test, such as 2020-07-01 (UTC); empty: the last tenth of the rows in time.
        calibrate: on val, after training.
        run: whether ``moonshelf run`` has this stage. relevance: whether it trains a relevance model from judged pairs.
        model, train: see there.
    """

    source: Literal["auto", "impressions", "acts"] = "auto"
    acts: tuple[Action, ...] = ("click", "cart", "purchase")
    negatives: int = 4
    test_negatives: int = 20
    around_days: int = 30
    cut: str = ""
    calibrate: Literal["isotonic", "platt", "none"] = "platt"
    run: bool = True
    relevance: bool = True
    # chosen on val of the demo shop, where 3,400 clicks are learned from: larger towers learn them by heart
    model: ClickConfig = field(
        default_factory=lambda: ClickConfig(hidden=(64, 32), dropout=0.3, position="examination")
    )
    train: ClickTrainConfig = field(default_factory=lambda: ClickTrainConfig(batch=256, decay=0.3))

    def moment(self) -> datetime | None:
        """The cut as a moment.

        Raises:
            InputError: it is no date.
        """
        if not self.cut:
            return None
        try:
            found = datetime.fromisoformat(self.cut)
        except ValueError:
            raise InputError(
                f"ranking.cut={self.cut!r} is no date", mend="write it like 2020-07-01 or 2020-07-01T12:00"
            ) from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)
