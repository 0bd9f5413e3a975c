"""HTML and SVG by small functions that escape every text, and the way numbers are written."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from moonshelf.progress import duration

DASH = "–"  # a value that is not there
_VOID = {"img", "meta", "br", "circle", "line", "rect", "path"}
_LONGEST = 600


class Html(str):
    """Text that is markup already. Any other ``str`` is escaped when it is put into a page."""

    __slots__ = ()


def text(value: object, limit: int = _LONGEST) -> Html:
    """``value`` escaped (unless it is markup), control characters as spaces, cut at ``limit`` characters."""
    if isinstance(value, Html):
        return value
    raw = "" if value is None else str(value)
    cut = raw if len(raw) <= limit else raw[: limit - 1].rstrip() + "…"
    return Html(html.escape("".join(c if c.isprintable() else " " for c in cut)))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Markup of several parts, each escaped unless it is markup."""
    return Html(str(text(between)).join(text(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element. ``class_`` becomes ``class``, ``stroke_width`` ``stroke-width``; None leaves one out."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value, 10**7)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{told}>" if name in ("img", "meta", "br") else f"<{name}{told}/>")
    return Html(f"<{name}{told}>{join(children)}</{name}>")


def table(
    head: Sequence[object], rows: Iterable[Sequence[object]], *, left: int = 1, class_: str = ""
) -> Html:
    """A table; the first ``left`` columns are texts, the others numbers (right-aligned)."""

    def line(cells: Sequence[object], cell: str) -> Html:
        return tag("tr", *(tag(cell, c, class_=None if i < left else "num") for i, c in enumerate(cells)))

    body = tag("tbody", *(line(row, "td") for row in rows))
    whole = tag("table", tag("thead", line(head, "th")), body, class_=class_ or None)
    return tag("div", whole, class_="scroll")


def fold(summary: object, *children: object) -> Html:
    """A block that opens on a click, without a script."""
    return tag("details", tag("summary", summary), *children)


def section(anchor: str, title: str, *children: object) -> Html:
    """A section of the page."""
    return tag("section", tag("h2", title), *children, id=anchor)


def sentence(*children: object, class_: str | None = None) -> Html:
    """A paragraph."""
    return tag("p", *children, class_=class_)


# -- numbers ------------------------------------------------------------------------------------


def number(value: object) -> float | None:
    """``value`` as a finite float, or None when it is missing, NaN, infinite or no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer that no float holds
        return None


def count(value: object) -> str:
    """A whole number with thousands separated, ``1,235``."""
    found = number(value)
    return DASH if found is None else f"{round(found):,}"


def some(value: object, thing: str) -> str:
    """A number of things, ``1 photo`` or ``3 photos``."""
    return f"{count(value)} {thing}" + ("" if number(value) == 1 else "s")


def percent(value: object, sign: bool = True) -> str:
    """A share as a percentage with one decimal (two below 1%)."""
    found = number(value)
    if found is None:
        return DASH
    shown = f"{100 * found:.{2 if 0 < abs(found) < 0.01 else 1}f}"
    return shown + ("%" if sign else "")


def metric(value: object, *, share: bool = True, interval: bool = True) -> str:
    """A measured ``{value, low, high, n}`` as ``86.1% [84.2, 88.0]``; ``0.912 [...]`` with ``share=False``.

    A value without an interval, or with one of no width, stands alone.
    """
    found = value if isinstance(value, Mapping) else {"value": value}
    middle, low, high = (number(found.get(key)) for key in ("value", "low", "high"))
    if middle is None:
        return DASH
    shown = percent(middle) if share else f"{middle:.3f}"
    if not interval or low is None or high is None or low == high == middle:
        return shown
    ends = (percent(e, sign=False) if share else f"{e:.3f}" for e in (low, high))
    return f"{shown} [{', '.join(ends)}]"


def spent(seconds: object) -> str:
    """A time in words a person reads, ``12m 5s``."""
    found = number(seconds)
    if found is None or found < 0:
        return DASH
    return f"{found:.1f} s" if found < 60 else duration(found)


def plain(value: Any, digits: int = 4) -> str:
    """Any other logged number, short."""
    found = number(value)
    return DASH if found is None else f"{found:,.{digits}g}" if abs(found) < 1e6 else f"{found:,.0f}"
