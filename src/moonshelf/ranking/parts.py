"""What a click model learns from, is chosen on and is measured on: rows of three stretches of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moonshelf.errors import TooLittleData
from moonshelf.progress import say
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.history import History
from moonshelf.ranking.rows import DAY, Part, Rows, from_acts, from_impressions, split_by_time
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import CUTS
from moonshelf.types import ACTIONS

VAL = 0.1  # share of the time's rows before a given cut that is val


def parts_of(shop: Shop, history: History, config: RankConfig, seed: int = 0) -> dict[Part, Rows]:
    """Rows to learn from, to choose on, and to report; every row of a part is later than those of the part before.

    With impressions, rows are what was shown. Without, positives are acts; the negatives to learn from are drawn from
    what anybody acted on around the same time but before the cut, those of test from what was acted on from the cut on:
    neither tells a model what came later, and being new tells no positive from its negatives.

    Raises:
        TooLittleData: see ``rows``; a part is empty.
    """
    wanted = config.source
    if wanted == "auto":
        shown = shop.impressions is not None and len(shop.impressions)
        wanted = "impressions" if shown else "acts"
    if wanted == "impressions":
        rows = from_impressions(shop, history)
        _say(rows, "impressions")
        if (moment := config.moment()) is None:
            return split_by_time(rows)
        at = int(moment.timestamp() * 1_000_000)
        early, late = rows.take(rows.time < at), rows.take(rows.time >= at)
    else:
        moment = config.moment()
        kinds = [ACTIONS.index(action) for action in config.acts]
        times = np.sort(history.time[np.isin(history.kind, kinds)])
        if not len(times):
            raise TooLittleData(f"no user did {', '.join(config.acts)}", mend="name other acts: ranking.acts")
        at = (
            int(moment.timestamp() * 1_000_000)
            if moment is not None
            else int(times[int(CUTS[1] * len(times))])
        )
        early = from_acts(
            history, actions=config.acts, negatives=config.negatives, seed=seed + 1, popular_before=at,
            around=config.around_days * DAY,
        )  # fmt: skip
        early = early.take(early.time < at)
        late = from_acts(
            history, actions=config.acts, negatives=config.test_negatives, seed=0, since=at, popular_since=at
        )
        early, late = _as_clicks(early), _as_clicks(late)
        _say(early, "acts")
    if not len(early) or not len(late):
        raise TooLittleData(
            f"{len(early):,} rows are before the cut and {len(late):,} from it on",
            mend="choose another ranking.cut",
        )
    begin = np.quantile(np.unique(early.time), 1 - VAL)
    found: dict[Part, Rows] = {
        "train": early.take(early.time < begin), "val": early.take(early.time >= begin), "test": late
    }  # fmt: skip
    for name, part in found.items():
        if not len(part):
            raise TooLittleData(f"no rows are left for {name}", mend="choose another ranking.cut")
    return found


def _as_clicks(rows: Rows) -> Rows:
    """Every positive, whatever its act, under the first label too, which is what is learned by default."""
    label = rows.label.copy()
    label[:, 0] = label.any(axis=1)
    return replace(rows, label=label)


def _say(rows: Rows, source: str) -> None:
    told = "".join(f", {n:,} {reason}" for reason, n in rows.told.items())
    drawn = " (made: negatives are drawn by popularity, not shown)" if rows.made else ""
    say(f"ranking: {len(rows):,} rows of {source}{drawn}{told}")
