"""What a click model learns from, is chosen on and is measured on: rows of three stretches of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moonshelf.errors import TooLittleData
from moonshelf.progress import say
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.features import shop_came
from moonshelf.ranking.history import History
from moonshelf.ranking.rows import DAY, Part, Rows, from_acts, from_impressions, moments_of, split_by_time
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import CUTS
from moonshelf.types import ACTIONS

Moments = tuple[int, int]
"""Where val and test begin, in microseconds."""


def learns_from_impressions(shop: Shop, config: RankConfig) -> bool:
    """Whether rows are what was shown, and not acts beside drawn negatives."""
    if config.source != "auto":
        return config.source == "impressions"
    return shop.impressions is not None and len(shop.impressions) > 0


def moments(shop: Shop, history: History, config: RankConfig) -> Moments:
    """Where val and test begin: at ``config.cut`` and nine tenths of the pages before it, else at 80% and 90%.

    Raises:
        TooLittleData: see ``rows``; nothing lies before the cut.
    """
    if learns_from_impressions(shop, config):
        rows = from_impressions(shop, history)
    else:
        kinds = [ACTIONS.index(action) for action in config.acts]
        at = np.flatnonzero(np.isin(history.kind, kinds))
        if not len(at):
            raise TooLittleData(f"no user did {', '.join(config.acts)}", mend="name other acts: ranking.acts")
        rows = from_acts(history, actions=config.acts, negatives=1)
    if (moment := config.moment()) is None:
        return moments_of(rows)
    test = int(moment.timestamp() * 1_000_000)
    early = rows.take(rows.time < test)
    if not len(early):
        raise TooLittleData("no rows are before the cut", mend="choose a later ranking.cut")
    return moments_of(early, (CUTS[1], 1.0))[0], test


def parts_of(
    shop: Shop, history: History, config: RankConfig, seed: int = 0, at: Moments | None = None
) -> dict[Part, Rows]:
    """Rows to learn from, to choose on, and to report; pages of a part begin later than those of the part before.

    With impressions, rows are what was shown; a cart or purchase counts only within the stretch of its impression.
    Without, positives are acts, and their negatives what others acted on within ``around_days`` of them, among the
    products that had come by then: to learn from, only acts before test begins are looked at; to report, only those
    from then on. Neither being new nor the season tells a positive from its negatives.

    Args:
        at: where val and test begin; None: see :func:`moments`.

    Raises:
        TooLittleData: see ``rows``; a part is empty.
    """
    val, test = at or moments(shop, history, config)
    if learns_from_impressions(shop, config):
        rows = from_impressions(shop, history, cuts=(val, test))
        _say(rows, "impressions")
        return split_by_time(rows, at=(val, test))
    came = shop_came(shop)
    around = config.around_days * DAY
    early = from_acts(
        history, actions=config.acts, negatives=config.negatives, seed=seed + 1, popular_before=test,
        around=around, came=came,
    )  # fmt: skip
    late = from_acts(
        history, actions=config.acts, negatives=config.test_negatives, seed=0, since=test, popular_since=test,
        around=around, came=came,
    )  # fmt: skip
    early = early.take(early.time < test)
    found = split_by_time(_joined(_as_clicks(early), _as_clicks(late)), at=(val, test))
    _say(early, "acts")
    return found


def _joined(early: Rows, late: Rows) -> Rows:
    """Rows one behind the other, with pages of their own."""
    page = np.concatenate((early.page, late.page + 1 + early.page.max(initial=-1)))
    columns = {
        name: np.concatenate((getattr(early, name), getattr(late, name)))
        for name in ("user", "item", "query", "time", "until", "label", "position", "propensity", "weight")
    }
    return Rows(**columns, page=page, made=True, told=early.told)


def _as_clicks(rows: Rows) -> Rows:
    """Every positive, whatever its act, under the first label too, which is what is learned by default."""
    label = rows.label.copy()
    label[:, 0] = label.any(axis=1)
    return replace(rows, label=label)


def _say(rows: Rows, source: str) -> None:
    told = "".join(f", {n:,} {reason}" for reason, n in rows.told.items())
    drawn = " (made: negatives are drawn by popularity, not shown)" if rows.made else ""
    say(f"ranking: {len(rows):,} rows of {source}{drawn}{told}")
