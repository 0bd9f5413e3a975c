"""The charts of the report as inline SVG: lines over steps, dots with whiskers, bars with whiskers.

Colours are classes of the page's style sheet, so that a chart follows light and dark mode. Every mark has
a ``title`` that shows its number when pointed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moonshelf.report.axes import Scale, log_ticks, smooth, spread, thin, ticks, wants_log
from moonshelf.report.markup import Html, join, metric, percent, plain, sentence, tag
from moonshelf.shelf.search import fit, shown_width

WIDTH = 480  # of a line chart, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 30, 40


@dataclass(frozen=True, slots=True)
class Row:
    """One measured value of a dot or bar chart, as shares of 1. ``other`` is drawn as a tick."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    n: str = ""
    style: str = "now"
    other: float | None = None


def at(value: float) -> str:
    """A place in a picture."""
    return f"{value:.1f}"


def label(x: float, y: float, content: object, class_: str = "tick", anchor: str = "middle") -> Html:
    """Text in a chart."""
    return tag("text", content, x=at(x), y=at(y), class_=class_, text_anchor=anchor)


def rule(x1: float, y1: float, x2: float, y2: float, class_: str, title: str | None = None) -> Html:
    """A straight line."""
    told = [tag("title", title)] if title else []
    return tag("line", *told, x1=at(x1), y1=at(y1), x2=at(x2), y2=at(y2), class_=class_)


def picture(width: float, height: float, name: str, *marks: object) -> Html:
    """The SVG of a chart; ``name`` is what a screen reader says."""
    box = f"0 0 {width:.0f} {height:.0f}"
    return tag("svg", *marks, viewBox=box, role="img", aria_label=name, class_="chart")


def line_chart(
    title: str,
    x: Sequence[float],
    y: Sequence[float],
    *,
    share: bool = False,
    dots: bool = False,
    height: int = 230,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    best: int | None = None,
    zero: bool = False,
) -> Html:
    """Values over training steps.

    Args:
        x, y: finite numbers of the same length, ``x`` ascending; empty draws a sentence instead.
        share: ``y`` is a share and is written as a percentage.
        dots: draw points joined by a line (few values); else the raw line, thin, with its running mean.
        y_range, x_range: fixed ranges, so that charts beside each other compare.
        best: index of the point to mark.
    """
    if not len(x):
        return sentence(f"{title}: nothing was logged.", class_="none")
    log = not share and not dots and y_range is None and wants_log(y)
    low, high = (min(y) * 0.9, max(y) * 1.1) if log else y_range or spread(y, zero=share or zero)
    first, end = x_range or (min(x), max(x))
    across = Scale(first, max(end, first + 1), _LEFT, WIDTH - _RIGHT)
    down = Scale(low, high, height - _BOTTOM, _TOP, log)
    marks: list[Html] = []
    for value in log_ticks(low, high) if log else ticks(low, high, 4):
        marks.append(rule(_LEFT, down(value), WIDTH - _RIGHT, down(value), "grid"))
        marks.append(label(_LEFT - 6, down(value) + 4, _tick(value, share), anchor="end"))
    for value in ticks(first, max(end, first + 1), 5):
        if value == round(value):
            marks.append(label(across(value), height - _BOTTOM + 16, f"{value:,.0f}"))
    marks.append(rule(_LEFT, height - _BOTTOM, WIDTH - _RIGHT, height - _BOTTOM, "axis"))
    marks.append(label((_LEFT + WIDTH - _RIGHT) / 2, height - 6, "training step", "axis-name"))
    note = " (log scale)" if log else ""
    if dots:
        marks.append(_path(x, y, across, down, "smooth"))
        for i, (step, value) in enumerate(zip(x, y, strict=True)):
            shown = f"step {step:,.0f}: {percent(value) if share else plain(value)}"
            style = "dot best" if i == best else "dot"
            marks.append(
                tag(
                    "circle",
                    tag("title", shown),
                    cx=at(across(step)),
                    cy=at(down(value)),
                    r=4.5 if i == best else 3,
                    class_=style,
                )
            )
        if best is not None:
            place = "end" if across(x[best]) > WIDTH - 90 else "start" if across(x[best]) < 90 else "middle"
            above = down(y[best]) - 10 if down(y[best]) > _TOP + 14 else down(y[best]) + 18
            marks.append(
                label(
                    across(x[best]),
                    above,
                    f"best {percent(y[best]) if share else plain(y[best])}",
                    "value",
                    place,
                )
            )
    else:
        window = max(5, len(y) // 25)
        marks.append(_path(*thin(x, y), across, down, "raw"))
        if len(y) > window:
            marks.append(_path(*thin(x, smooth(y, window)), across, down, "smooth"))
            note += f"; thick: mean of {window} steps"
    heading = tag("text", tag("tspan", title, class_="name"), tag("tspan", note, class_="note"), x=4, y=16)
    return picture(WIDTH, height, f"{title} over training steps", heading, *marks)


def _tick(value: float, share: bool) -> str:
    return f"{100 * value:.4g}%" if share else plain(value, 3)


def _path(x: Sequence[float], y: Sequence[float], across: Scale, down: Scale, class_: str) -> Html:
    places = (f"{at(across(a))} {at(down(b))}" for a, b in zip(x, y, strict=True))
    return tag("path", d="M" + "L".join(places), class_=class_)


def whisker_chart(title: str, rows: Sequence[Row], references: Sequence[tuple[str, float]]) -> Html:
    """Dots with their 95% intervals over a common axis 0..100%, baselines as dashed vertical lines.

    Labels of the baselines stand one above the other, the lowest on top, so that no line crosses a label.
    """
    width, left, right = 960, 150, 190
    top, step = 34 + 16 * len(references), 38
    height = top + step * len(rows) + 36
    across = Scale(0.0, 1.0, left, width - right)
    base = height - 30
    marks = [tag("text", tag("tspan", title, class_="name"), x=4, y=16)]
    for value in ticks(0.0, 1.0, 5):
        marks.append(rule(across(value), top - 6, across(value), base, "grid"))
        marks.append(label(across(value), base + 17, _tick(value, True)))
    marks.append(rule(left, base, width - right, base, "axis"))
    for i, (name, value) in enumerate(sorted(references, key=lambda r: r[1])):
        place, x = 30 + 16 * i, across(value)
        named = f"{name} {percent(value)}"
        marks.append(rule(x, place + 3, x, base, f"reference {'abc'[i % 3]}", named))
        side = "end" if x > width - right - 120 else "start"
        marks.append(label(x - 5 if side == "end" else x + 5, place + 6, named, "tick", side))
    for i, row in enumerate(rows):
        y = top + step * i + step / 2
        marks.append(label(left - 14, y + 5, row.label, "row", "end"))
        marks += _whisker(row, across, y, 7)
        told = {"value": row.value, "low": row.low, "high": row.high}
        marks.append(label(width - right + 12, y + 5, metric(told), "value", "start"))
        marks.append(
            tag(
                "circle",
                tag("title", f"{row.label}: {metric(told)}"),
                cx=at(across(row.value)),
                cy=at(y),
                r=6,
                class_=f"mark {row.style}",
            )
        )
    return picture(width, height, title, *marks)


def _whisker(row: Row, across: Scale, y: float, cap: float) -> list[Html]:
    if row.low is None or row.high is None or row.low == row.high:
        return []
    low, high = across(row.low), across(row.high)
    style = f"whisker {row.style}"
    ends = [rule(x, y - cap, x, y + cap, style) for x in (low, high)]
    return [rule(low, y, high, y, style), *ends]


def bar_chart(title: str, rows: Sequence[Row], other: str = "") -> Html:
    """Horizontal bars 0..100% with whiskers; a tick on each marks the ``other`` system."""
    width, right, step, top = 960, 210, 26, 30
    left = min(300, max(80, 8 * max((shown_width(fit(r.label, 36)) for r in rows), default=0) + 20))
    height = top + step * len(rows) + 34
    across = Scale(0.0, 1.0, left, width - right)
    base = height - 28
    note = f"; tick: {other}" if other and any(r.other is not None for r in rows) else ""
    marks = [tag("text", tag("tspan", title, class_="name"), tag("tspan", note, class_="note"), x=4, y=16)]
    for value in ticks(0.0, 1.0, 5):
        marks.append(rule(across(value), top - 4, across(value), base, "grid"))
        marks.append(label(across(value), base + 17, _tick(value, True)))
    for i, row in enumerate(rows):
        y = top + step * i + step / 2
        told = metric({"value": row.value, "low": row.low, "high": row.high})
        marks.append(label(left - 10, y + 4, fit(row.label, 36), "row", "end"))
        hint = tag("title", f"{row.label}: {told}, n = {row.n}")
        bar = max(0.0, across(row.value) - left)
        marks.append(tag("rect", hint, x=at(left), y=at(y - 8), width=at(bar), height=16, class_="bar"))
        marks += _whisker(row, across, y, 4)
        if row.other is not None:
            x = across(row.other)
            marks.append(rule(x, y - 10, x, y + 10, "other", f"{other} {percent(row.other)}"))
        marks.append(label(width - right + 10, y + 4, join([told, f"  n = {row.n}"]), "value", "start"))
    marks.append(rule(left, top - 4, left, base, "axis"))
    return picture(width, height, title, *marks)
