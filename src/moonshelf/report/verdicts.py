"""A sheet of creatives, best first, with the verdict on every question: one HTML file that opens offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from PIL import Image

from moonshelf.creative.choose import Compared, Selection, asked
from moonshelf.creative.measures import Brief
from moonshelf.creative.protocol import COMPARED, Better, Kind
from moonshelf.report.markup import Html, join, percent, section, sentence, table, tag
from moonshelf.report.pictures import thumbnail
from moonshelf.workspace import atomic_write

SIDE = 360
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
.creatives { display:flex; flex-wrap:wrap; gap:18px; margin:18px 0 6px; padding:0; }
.creatives figure { margin:0; flex:1 1 220px; max-width:340px; background:var(--card); border:1px solid var(--line);
  border-radius:10px; padding:12px; }
.creatives figure.won { border-color:var(--right); box-shadow:0 0 0 1px var(--right); }
.creatives img { width:100%; border-radius:6px; display:block; }
.creatives blockquote { margin:0; font-size:19px; line-height:1.35; overflow-wrap:anywhere; }
.creatives figcaption { margin-top:10px; font-size:14px; color:var(--soft); overflow-wrap:anywhere; }
.creatives b { color:var(--ink); font-size:20px; }
.A { color:var(--right); font-weight:600; } .B { color:var(--wrong); font-weight:600; }
"""


def write_verdicts(
    found: Selection, creatives: Sequence[Brief], kind: Kind, out: Path, *, other: Selection | None = None
) -> None:
    """Write the sheet.

    Args:
        found: the choice.
        creatives: what was chosen from, in the order of ``found.names``.
        out: the file; its folder is made.
        other: the choice for people who search for something else.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, render_verdicts(found, creatives, kind, other).encode("utf-8", "replace"))


def render_verdicts(
    found: Selection, creatives: Sequence[Brief], kind: Kind, other: Selection | None = None
) -> str:
    """The whole page."""
    css = (resources.files("moonshelf.report") / "style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "moonshelf: creatives"),
        tag("style", Html(css + _STYLE)),
    )
    told = [tag("h1", "moonshelf creatives", *(["  ·  ", tag("b", found.title)] if found.title else []))]
    body = [_choice(found, creatives, "Chosen"), *(_why(found, c, kind) for c in found.compared)]
    if other is not None:
        changed = other.best != found.best
        words = "The choice changes." if changed else "The choice stays."
        body.append(_choice(other, creatives, "For people who search for something else", words))
        body += [_why(other, c, kind) for c in other.compared]
    foot = tag("footer", "Every reason is a measurement of the two creatives. This file loads nothing.")
    page = tag("html", head, tag("body", tag("header", *told), tag("main", *body), foot), lang="en")
    return join([Html("<!doctype html>\n"), page, Html("\n")])


def _choice(found: Selection, creatives: Sequence[Brief], title: str, words: str = "") -> Html:
    s = found.standing
    if s.verdict is None:
        said = f"Too close to call: the first is ahead of the second with {percent(s.over_next)}."
    else:
        said = f"{found.names[s.verdict]} is ahead of the second with {percent(s.over_next)}."
    asked_for = (
        sentence("Searches: " + ", ".join(f"“{q}”" for q in dict.fromkeys(found.queries)), class_="small")
        if found.queries
        else Html("")
    )
    figures = [
        _figure(creatives[i], found.names[i], float(s.best[i]), won=i == s.verdict) for i in s.order.tolist()
    ]
    anchor = "other" if words else "chosen"
    return section(
        anchor, title, sentence(said, " ", words), asked_for, tag("div", *figures, class_="creatives")
    )


def _figure(creative: Brief, name: str, chance: float, *, won: bool) -> Html:
    if creative.image is not None:
        shown: Html = _picture(creative.image(), name)
    else:
        shown = tag("blockquote", creative.text or "")
    caption = tag(
        "figcaption", tag("b", percent(chance)), " best of these" + ("" if creative.text else f" · {name}")
    )
    return tag("figure", shown, caption, class_="won" if won else None)


def _picture(image: Image.Image, name: str) -> Html:
    data = base64.b64encode(thumbnail(image, SIDE)).decode()
    return tag("img", src=f"data:image/jpeg;base64,{data}", alt=name)


def _why(found: Selection, compared: Compared, kind: Kind) -> Html:
    a, b = found.names[found.best], found.names[compared.other]
    title = tag("h3", f"A: {a}, rather than B: {b} ({percent(compared.chance)})")
    if not compared.answers:
        return join([title, sentence(_capital(compared.caveat))])
    rows = [
        (
            asked(key, kind),
            tag("span", _side(compared.answers[key]), class_=compared.answers[key].value),
            compared.reasons.get(key, ""),
        )
        for key in COMPARED
    ]
    parts = [title, table(("question", "answer", "measured"), rows, left=3)]
    if compared.caveat:
        parts.append(sentence(_capital(compared.caveat), class_="warn"))
    return join(parts)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:] + "."


def _side(answer: Better) -> str:
    return "–" if answer is Better.EQUAL else answer.value
