"""Recall by category: bars with intervals beside off the shelf, and all metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moonshelf.report.charts import Row, bar_chart
from moonshelf.report.inputs import NAMES, mapping
from moonshelf.report.markup import Html, count, fold, join, metric, number, sentence, table

METRICS = ("recall@1", "recall@5", "recall@10", "mrr")
_BARS, _WEAKEST, _MOST_CATEGORIES = 24, 12, 200


def value_of(metrics: Mapping[str, Any], name: str = "recall@1") -> float | None:
    """The measured value of a metric."""
    return number(mapping(metrics, name).get("value"))


def cells(metrics: Mapping[str, Any]) -> list[str]:
    """The cells of a table for one system: every metric with its interval, and the number of queries."""
    sizes = [n for m in METRICS if (n := number(mapping(metrics, m).get("n"))) is not None]
    return [*(metric(metrics.get(m), share=m != "mrr") for m in METRICS), count(sizes[0] if sizes else None)]


def systems(entry: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by system of one category; a file that holds ours alone is taken as such."""
    return (
        {"ours": dict(entry)}
        if "recall@1" in entry
        else {k: v for k, v in entry.items() if isinstance(v, dict)}
    )


def _levels(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = mapping(result, "by_category")
    named = {k: mapping(found, k) for k in ("top", "leaf") if mapping(found, k)}
    return named or ({"top": found} if found else {})


def _bars(entries: Mapping[str, Any]) -> list[Row]:
    rows = []
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            continue
        here = systems(entry)
        m = mapping(here, "ours", "recall@1")
        value = number(m.get("value"))
        if value is not None:
            other = value_of(here.get("off_the_shelf", {}))
            rows.append(
                Row(
                    name or "(no category)",
                    value,
                    number(m.get("low")),
                    number(m.get("high")),
                    count(m.get("n")),
                    other=other,
                )
            )
    return sorted(rows, key=lambda r: (-r.value, r.label))


def by_category(result: Mapping[str, Any], name: str) -> list[Html]:
    """Bars of recall@1 (the weakest when there are many) and all metrics in a block that opens."""
    levels = _levels(result)
    out: list[Html] = []
    for level, entries in levels.items():
        if level == "leaf" and entries.keys() == levels.get("top", {}).keys():
            continue
        rows = _bars(entries)
        if len(rows) < 2:  # one category is the whole
            continue
        where = "category" if level == "top" else "leaf category"
        these = where.replace("category", "categories")
        title, shown = f"recall@1 by {where}, {name}", rows
        if len(rows) > _BARS:
            title, shown = (
                f"recall@1 of the {_WEAKEST} weakest of {len(rows)} {these}, {name}",
                rows[-_WEAKEST:],
            )
        bars = bar_chart(title, shown, "off the shelf")
        if out:  # the coarse level is shown, the fine one opens
            out.append(fold(f"By {where}", bars, _category_table(entries)))
        else:
            out += [bars, fold(f"All metrics by {where}", _category_table(entries))]
    return out


def _category_table(entries: Mapping[str, Any]) -> Html:
    rows: list[Sequence[object]] = []
    for path, entry in list(entries.items())[:_MOST_CATEGORIES]:
        for system, metrics in systems(entry).items() if isinstance(entry, dict) else ():
            rows.append([path or "(no category)", NAMES.get(system, system), *cells(metrics)])
    more = len(entries) - _MOST_CATEGORIES
    told = table(["category", "system", *METRICS, "queries"], rows, left=2)
    return (
        join([told, sentence(f"and {more:,} more categories in the evaluation file.", class_="small")])
        if more > 0
        else told
    )
