"""The headline and the recall of every stage with intervals, beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moonshelf.report.about_categories import METRICS, by_category, cells, value_of
from moonshelf.report.charts import Row, whisker_chart
from moonshelf.report.inputs import NAMES, STEPS, Findings, last, mapping
from moonshelf.report.markup import (
    DASH,
    Html,
    count,
    fold,
    join,
    metric,
    number,
    percent,
    section,
    sentence,
    table,
    tag,
)

BASELINES = ("off_the_shelf", "colour_histogram", "chance")
_STYLES = {"untrained": "old", "pretrain": "mid", "posttrain": "now", "posttrain2": "now"}
Results = Mapping[str, dict[str, Any]]


def baseline(results: Results, name: str) -> dict[str, Any]:
    """Metrics of a baseline, from the latest evaluation that measured it."""
    found = (mapping(results[step], "baselines", name) for step in reversed(STEPS) if step in results)
    return next((m for m in found if m), {})


# -- headline -----------------------------------------------------------------------------------


def headline(found: Findings) -> Html:
    """One sentence with the main number, then where it started, and the text search."""
    parts = [
        said
        for results, asked in ((found.image, "query photo"), (found.text, "query text"))
        for said in _said(results, asked)
    ]
    if not parts:
        products = count(mapping(found.check, "products").get("total"))
        return sentence(
            f"{products} products were read. No search was evaluated, so there is no recall to report.",
            class_="headline",
        )
    return join([sentence(parts[0], class_="headline"), *(sentence(p, class_="second") for p in parts[1:])])


def _said(results: Results, asked: str) -> list[Html]:
    step = last(results)
    metrics = mapping(results[step], "metrics") if step else {}
    if step is None or value_of(metrics) is None:
        return []
    now = mapping(metrics, "recall@1")
    gallery = mapping(results[step], "protocol").get("gallery")
    among = f"Among {count(gallery)} products, a" if number(gallery) is not None else "A"
    low, high = number(now.get("low")), number(now.get("high"))
    span = (
        "" if low is None or high is None else f" [{percent(low, sign=False)}, {percent(high, sign=False)}]"
    )
    shelf = value_of(baseline(results, "off_the_shelf"))
    first = join(
        [
            f"{among} {asked} finds the right one first in ",
            tag("b", percent(now.get("value"))),
            " of cases",
            tag("span", f"{span}, n = {count(now.get('n'))}", class_="interval"),
            "." if shelf is None else f"; off the shelf {percent(shelf)}.",
        ]
    )
    compared = []
    before = mapping(results.get("untrained", {}), "metrics", "recall@1")
    if step != "untrained" and number(before.get("value")) is not None:
        compared.append(f"before training {metric(before)}")
    compared += [
        f"{NAMES[name]} {metric(mapping(baseline(results, name), 'recall@1'))}"
        for name in BASELINES
        if value_of(baseline(results, name)) is not None
    ]
    gain = mapping(results[step], "difference_to_off_the_shelf", "recall@1")
    if number(gain.get("value")) is not None:
        compared.append(f"a gain of {_points(gain)} points over off the shelf")
    state = NAMES[step] if step != "untrained" else "no stage was trained"
    compared.insert(0, f"{state}, split {mapping(results[step], 'protocol').get('split', DASH)}")
    told = "; ".join(compared)
    return [first, join([told[:1].upper() + told[1:], "."])]


def _points(gain: Mapping[str, Any], share: bool = True) -> str:
    """A signed difference with its interval, in points (or as it is)."""
    ends = [number(gain.get(key)) for key in ("value", "low", "high")]
    shown = [DASH if e is None else f"{100 * e:+.1f}" if share else f"{e:+.3f}" for e in ends]
    return shown[0] + (f" [{shown[1]}, {shown[2]}]" if DASH not in shown else "")


# -- section ------------------------------------------------------------------------------------


def recall_section(found: Findings) -> Html:
    """Photo search, then text search."""
    parts: list[Html] = []
    for title, results in (("Search by photo", found.image), ("Search by text", found.text)):
        if results:
            parts += [tag("h3", title), *_search(results)]
        else:
            parts.append(sentence(f"{title} was not evaluated: that stage was not run.", class_="none"))
    lead = sentence(
        "Recall@k: the share of queries whose product is among the first k of the whole gallery. MRR: the "
        "mean of one over its rank. Brackets and whiskers are 95% bootstrap intervals."
    )
    return section("recall", "Recall before and after each stage", lead, *parts)


def _search(results: Results) -> list[Html]:
    out = []
    for name in ("recall@1", "recall@5"):
        rows = [row for step in STEPS if step in results if (row := _row(results[step], step, name))]
        marks = [(NAMES[b], v) for b in BASELINES if (v := value_of(baseline(results, b), name)) is not None]
        if rows:
            out.append(whisker_chart(name, rows, marks))
    out.append(_table(results))
    step = last(results)
    if step is not None:
        out += by_category(results[step], NAMES[step])
        out.append(fold("How it was measured", _pairs(mapping(results[step], "protocol"))))
    return out


def _row(result: Mapping[str, Any], step: str, name: str) -> Row | None:
    m = mapping(result, "metrics", name)
    value = number(m.get("value"))
    if value is None:
        return None
    return Row(
        NAMES[step], value, number(m.get("low")), number(m.get("high")), count(m.get("n")), _STYLES[step]
    )


def _table(results: Results) -> Html:
    steps = [s for s in STEPS if s in results]
    rows: list[Sequence[object]] = [[NAMES[s], *cells(mapping(results[s], "metrics"))] for s in steps]
    rows += [
        [f"baseline: {NAMES[b]}", *cells(baseline(results, b))] for b in BASELINES if baseline(results, b)
    ]
    gain = mapping(results[steps[-1]], "difference_to_off_the_shelf")
    if gain:
        shown = [_points(mapping(gain, m), m != "mrr") for m in METRICS]
        rows.append([f"{NAMES[steps[-1]]} minus off the shelf (points)", *shown, ""])
    return table(["", *METRICS, "queries"], rows)


def _pairs(values: Mapping[str, Any]) -> Html:
    def shown(value: object) -> str:
        if isinstance(value, float) and number(value) is None:
            return DASH
        if isinstance(value, dict):
            return "; ".join(f"{k}: {v}" for k, v in value.items()) or "none"
        return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)

    return tag(
        "dl",
        *(join([tag("dt", k.replace("_", " ")), tag("dd", shown(v))]) for k, v in values.items()),
        class_="pairs",
    )
