"""The click model in the report: how well clicks were foreseen, for which products, and how places were allowed for."""

from __future__ import annotations

from typing import Any

from moonshelf.report.charts import Row, bar_chart, whisker_chart
from moonshelf.report.inputs import Findings, mapping, mapping_list
from moonshelf.report.markup import (
    Html,
    count,
    fold,
    metric,
    number,
    percent,
    plain,
    section,
    sentence,
    table,
)

_BUCKETS = 12


def ranking_section(found: Findings) -> Html:
    """The section; one sentence where no click model was trained."""
    told = found.ranking
    if not told:
        why = "No click model was trained: the shop has no events, or too few."
        return section("ranking", "Ranking", sentence(why, class_="none"))
    protocol, metrics = mapping(told, "protocol"), mapping(told, "metrics")
    what = (
        "positives beside products drawn by popularity (made data: nothing says what was shown)"
        if protocol.get("made")
        else "impressions"
    )
    rows, users, positives = (count(protocol.get(name)) for name in ("rows", "users", "positives"))
    lead = sentence(
        f"{rows} {what} of {users} users, later than all that was learned from; {positives} positives. GAUC: how "
        "often a clicked product is ranked above one that was not, within a user. 95% intervals over users."
    )
    blocks: list[Html] = [lead, *_compared(metrics, mapping(told, "popularity"))]
    cells = [[name, metric(value, share=False)] for name, value in metrics.items() if isinstance(value, dict)]
    if told.get("calibration_error") is not None:
        cells.append(["calibration error", plain(told.get("calibration_error"))])
    cells.append(["gauc minus popularity", metric(mapping(told, "gauc_minus_popularity"), share=False)])
    blocks.append(fold("All metrics", table(["metric", "value"], cells)))
    for name, buckets in mapping(told, "gauc_by").items():
        rated = mapping({"held": buckets}, "held").items()
        bars = [bar for key, value in rated if (bar := _row(key, value)) is not None]
        if bars:
            blocks.append(fold(f"GAUC by {name}", bar_chart("GAUC", bars[:_BUCKETS])))
    return section("ranking", "Ranking", *blocks, *_calibration(told), *_looks(told))


def _compared(metrics: dict[str, Any], popular: dict[str, Any]) -> list[Html]:
    ours = _row("click model", metrics.get("gauc without places"))
    other = number(mapping(popular, "gauc").get("value"))
    if ours is None:
        return []
    references = [("chance", 0.5)] + ([("popularity", other)] if other is not None else [])
    return [whisker_chart("GAUC on later rows", [ours], references)]


def _row(name: str, value: object) -> Row | None:
    held = value if isinstance(value, dict) else {}
    middle = number(held.get("value"))
    if middle is None:
        return None
    return Row(name, middle, number(held.get("low")), number(held.get("high")), n=count(held.get("n")))


def _calibration(told: dict[str, Any]) -> list[Html]:
    rows = [
        [percent(p.get("predicted")), percent(p.get("seen")), count(p.get("rows"))]
        for p in mapping_list(told, "calibration_curve")
    ]
    if not rows:
        return []
    return [fold("Predicted and seen", table(["predicted", "seen", "rows"], rows))]


def _looks(told: dict[str, Any]) -> list[Html]:
    shares = mapping(told, "model").get("looks by place")
    if not isinstance(shares, list) or not shares:
        return []
    rows = [Row(f"place {i}", value) for i, s in enumerate(shares, 1) if (value := number(s)) is not None]
    lead = sentence(
        "How often a place is looked at, against the first one, as learned beside the model; it is left out when "
        "products are ordered.",
        class_="small",
    )
    return [fold("Looks by place", lead, bar_chart("share of looks", rows))]
