"""What was refused and why, what repeats, and whether anything leaks between the splits."""

from __future__ import annotations

import polars as pl

from moonshelf.report.inputs import Findings, mapping, mapping_list
from moonshelf.report.markup import Html, count, number, section, sentence, some, table, tag, text
from moonshelf.report.pictures import Pictures
from moonshelf.types import SPLITS

TWIN_BUDGET = 150_000
_MOST_REASONS, _MOST_NOTES = 40, 20
_HOW = {"explicit": "its split column", "time": "time, one cut for all", "hash": "hash of the key"}


def rejects_section(found: Findings) -> Html:
    """Reasons with counts and examples, duplicates, splits and leaks."""
    parts = [
        *_reasons(found),
        tag("h3", "Duplicates"),
        *_duplicates(found),
        tag("h3", "Splits and leaks"),
        *_splits(found),
    ]
    notes = found.check.get("notes")
    if isinstance(notes, list) and notes:
        items = [tag("li", text(note, 300)) for note in notes[:_MOST_NOTES]]
        if len(notes) > _MOST_NOTES:
            items.append(tag("li", f"and {len(notes) - _MOST_NOTES} more notes in the check"))
        parts += [tag("h3", "Notes of the reader"), tag("ul", *items, class_="small")]
    return section("rejects", "What was rejected, and what repeats", *parts)


def _reasons(found: Findings) -> list[Html]:
    rows = []
    for name, t in mapping(found.check, "tables").items():
        for r in mapping_list(t, "reasons") if isinstance(t, dict) else []:
            where = f"{name}.{r['column']}" if r.get("column") else name
            examples = mapping_list(r, "examples")[:2]
            told = "; ".join(
                f"row {e.get('row')}" + (f": {text_of(e.get('value'))}" if e.get("value") else "")
                for e in examples
            )
            what = "value" if r.get("row_kept") else "row"
            rows.append(
                (
                    number(r.get("count")) or 0.0,
                    [where, r.get("reason"), tag("span", told), what, count(r.get("count"))],
                )
            )
    rows.sort(key=lambda row: -row[0])
    images = mapping(found.check, "images")
    pictures = [[reason, count(n)] for reason, n in mapping(images, "by_reason").items()]
    out: list[Html] = []
    if rows:
        cells = [
            [tag("code", r[0]), r[1], tag("span", text(r[2], 10**6), class_="small"), r[3], r[4]]
            for _, r in rows[:_MOST_REASONS]
        ]
        out.append(sentence(
            f"{count(len(found.shop.rejects))} rows or values were refused. A refused value leaves its row "
            "in; all of them are in the reject file of the prepared shop."
        ))  # fmt: skip
        out.append(
            table(["where", "reason", "for example", "refused", "count"], cells, left=4, class_="reasons")
        )
        if len(rows) > _MOST_REASONS:
            out.append(sentence(f"and {len(rows) - _MOST_REASONS} more reasons.", class_="small"))
    else:
        out.append(sentence("No row and no value was refused."))
    if pictures:
        out += [tag("h3", "Photos that cannot be used"), table(["reason", "photos"], pictures)]
    elif images.get("total"):
        out.append(sentence(f"All {count(images.get('total'))} photos can be used."))
    return out


def text_of(value: object) -> str:
    """A refused value on one short line."""
    words = " ".join(str(value).split())
    return f"“{words[:60]}…”" if len(words) > 60 else f"“{words}”"


def _duplicates(found: Findings) -> list[Html]:
    images = mapping(found.check, "images")
    if not images.get("total"):
        return [sentence("There are no photos.", class_="none")]
    if not any(number(images.get(key)) for key in ("exact_duplicates", "near_groups")):
        return [sentence(f"None of the {count(images.get('ok'))} usable photos repeats another.")]
    out = [
        sentence(
            f"Exact copies of another photo: {count(images.get('exact_duplicates'))}. Groups of photos of "
            f"one picture: {count(images.get('near_groups'))}, the largest of "
            f"{some(images.get('largest_near_group'), 'photo')}."
        )
    ]
    audit = found.shop.images.table.filter(status="ok")
    groups = (
        audit.group_by("near_group", maintain_order=True)
        .agg("image_id", pl.len().alias("n"))
        .filter(pl.col("n") > 1)
    )
    pictures = Pictures(found.shop.images, TWIN_BUDGET)
    shown = groups.sort("n", descending=True, maintain_order=True).head(4)["image_id"].to_list()
    tiles: list[Html] = []
    for i, ids in enumerate(shown):
        tiles += [tag("span", class_="gap")] * (i > 0)
        tiles += [tag("span", pictures.photo(image_id), class_="product") for image_id in ids[:3]]
    if tiles:
        out.append(sentence("The largest groups, up to three photos of each:", class_="small"))
        out.append(tag("div", *tiles, class_="tiles"))
    return out


def _splits(found: Findings) -> list[Html]:
    out: list[Html] = []
    rows = [
        [name, _HOW.get(str(s.get("by")), s.get("by")), *(count(s.get(part)) for part in SPLITS)]
        for name, s in mapping(found.check, "splits").items()
        if isinstance(s, dict)
    ]
    if rows:
        out.append(table(["table", "split by", *SPLITS], rows, left=2))
    else:
        out.append(sentence("No table of this shop has splits.", class_="none"))
    leaks = mapping(found.check, "leaks")
    if any(number(n) for n in leaks.values()):
        told = [
            [name.replace(" in ", " rows whose query is also in "), count(n)] for name, n in leaks.items()
        ]
        out.append(
            sentence(
                "A query (or its photo, also in another size or compression) that is in two splits leaks. "
                "Such rows were found and taken out of the less protected side:"
            )
        )
        out.append(table(["leak", "searches taken out"], told))
    elif leaks:
        out.append(sentence("No query, and no query photo, is in two splits: 0 searches were taken out."))
    own = found.check.get("catalogue_photos_as_queries")
    if number(own) is not None:
        out.append(
            sentence(f"{count(own)} searches ask with a photo of the catalogue itself.", class_="small")
        )
    return out
