"""Where matches come from: the heatmaps that ``matches`` drew, and whether they are faithful."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from PIL import Image

from moonshelf.report.inputs import Findings, mapping, mapping_list
from moonshelf.report.markup import Html, count, metric, number, section, sentence, table, tag, text
from moonshelf.report.pictures import empty, thumbnail

SIDE = 980  # pixels of a sheet's longer side at most
BUDGET = 900_000  # bytes of all sheets together
KINDS = {
    "image": "Photo against photo",
    "text": "Text against photo",
    "joint": "Photo against photo and text",
}


def matches_section(found: Findings) -> Html:
    """Sheets by kind, then the deletion test."""
    pairs = mapping_list(found.matches, "pairs")
    if not pairs:
        return section(
            "matches", "Where matches come from", sentence("No heatmaps were drawn.", class_="none")
        )
    parts = [
        sentence(
            "Red regions and words give more of the similarity than the mean, blue ones less; each map has its own "
            "scale. Drawn for searches of different categories, chosen by a hash.",
            class_="small lead",
        )
    ]
    left = BUDGET
    for kind, title in KINDS.items():
        own = [pair for pair in pairs if pair.get("kind") == kind]
        if own:
            parts.append(tag("h3", title))
        for pair in own:
            data = _sheet(found.work / "heatmaps", str(pair.get("file", "")))
            if data is None or len(data) > left:
                parts.append(
                    empty("picture cannot be read" if data is None else "left out to keep this file small")
                )
                continue
            left -= len(data)
            parts.append(
                tag("img", src=f"data:image/jpeg;base64,{data}", alt=f"{title}: heatmap", class_="sheet")
            )
    return section(
        "matches", "Where matches come from", *parts, *_faithful(mapping(found.matches, "faithful"))
    )


def _sheet(folder: Path, name: str) -> str | None:
    if Path(name).name != name:  # a name, not a path
        return None
    try:
        with Image.open(folder / name) as image:
            return base64.b64encode(thumbnail(image, SIDE)).decode()
    except (OSError, ValueError):
        return None


def _faithful(tests: dict[str, Any]) -> list[Html]:
    rows = []
    for kind, title in KINDS.items():
        test = mapping(tests, kind)
        if test:
            cells = [metric(test.get(name), share=False) for name in ("top", "random", "ratio")]
            if (number(mapping(test, "random").get("low")) or 0) <= 0:
                cells[2] = text("random falls within noise")  # a ratio to nothing says nothing
            rows.append([title, count(mapping(test, "ratio").get("n")), *cells])
    if not rows:
        return []
    return [
        tag("h3", "Are the maps faithful?"),
        sentence(
            "How far the similarity falls when the fifth of a product's photo that its map holds for the most "
            "important is blurred away, and when a random fifth is. A ratio of 1: the map says nothing.",
            class_="small",
        ),
        table(["", "n", "top regions", "random regions", "ratio"], rows),
    ]
