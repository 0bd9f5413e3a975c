"""The last section: how long it took, on what, with which settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moonshelf.report.inputs import Findings, mapping
from moonshelf.report.markup import (
    DASH,
    Html,
    count,
    fold,
    join,
    number,
    section,
    sentence,
    spent,
    table,
    tag,
)


def run_section(found: Findings) -> Html:
    """Timings, the shelf, provenance, settings."""
    return section(
        "run", "The run", tag("h3", "Time"), *_timings(found), tag("h3", "The shelf"), _shelf(found),
        tag("h3", "Provenance"), pairs(provenance(found)), _settings(found),
    )  # fmt: skip


def _timings(found: Findings) -> list[Html]:
    held = {name: s for name, s in found.timings.items() if number(s) is not None}
    if not held:
        return [sentence("No timings were noted.", class_="none")]
    total = sum(float(s) for s in held.values())
    rows = []
    for name, seconds in held.items():
        share = 100 * float(seconds) / total if total > 0 else 0.0
        bar = tag("span", tag("span", class_="share", style=f"width:{max(share, 0):.1f}%"), class_="shares")
        made = found.stages[name].manifest.get("seconds") if name in found.stages else None
        rows.append([name, bar, spent(seconds), spent(made)])
    rows.append([tag("b", "all"), "", tag("b", spent(total)), ""])
    note = sentence(
        "“When made” is the time a stage took when it was really trained; a later run with the same inputs "
        "takes it over.",
        class_="small",
    )
    return [table(["stage", "share", "this run", "when made"], rows, left=2), note]


def _shelf(found: Findings) -> Html:
    if not found.shelf:
        return sentence("The shelf was not made: that stage was not run.", class_="none")
    counts = {**mapping(found.shelf, "metrics"), **mapping(found.shelf, "counts")}
    rows = number(found.shelf.get("rows"))
    lead = f"{count(counts.get('rows') if rows is None else rows)} product vectors"
    facts = [
        (key.replace("_", " "), count(value))
        for key, value in counts.items()
        if key != "rows" and number(value) is not None
    ]
    facts += [
        (k.replace("_", " "), str(found.shelf[k]))
        for k in ("dim", "dtype", "encoder_version")
        if k in found.shelf
    ]
    return join([sentence(lead + "."), pairs(facts)])


def provenance(found: Findings) -> list[tuple[str, str]]:
    """Facts that identify the run; a fact that differs between the parts is told with its part."""
    parts: dict[str, Mapping[str, Any]] = {name: run.manifest for name, run in found.stages.items()}
    results = [("", found.image), ("text-", found.text)]
    parts |= {f"evaluation of {p}{s}": mapping(r, "provenance") for p, rs in results for s, r in rs.items()}
    parts |= {"shelf": found.shelf, "shop": found.shop.manifest}
    machines = {name: _machine(part.get("machine")) for name, part in parts.items()}
    data = found.shop.fingerprint
    return [
        ("shop", found.shop.name),
        ("data fingerprint", data),
        ("config hash", str(found.config.get("hash", DASH))),
        ("seed", str(found.config.get("seed", DASH))),
        ("torch threads", str(found.config.get("torch_threads", DASH))),
        ("code version", _agreed({name: part.get("code") for name, part in parts.items()})),
        ("machine", _agreed(machines)),
        *(
            (f"encoder of {name}", str(part["encoder"]))
            for name, part in parts.items()
            if part.get("encoder") and "evaluation" in name
        ),
        *((f"{name} written", str(part["written"])) for name, part in parts.items() if part.get("written")),
    ]


def _machine(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    named = {"cores": "{} cores", "system": "{}", "cpu": "{}", "python": "Python {}"}
    return ", ".join(named.get(key, key + " {}").format(held) for key, held in value.items())


def _agreed(values: Mapping[str, object]) -> str:
    held = {name: str(value) for name, value in values.items() if value}
    different = list(dict.fromkeys(held.values()))
    if len(different) <= 1:
        return different[0] if different else DASH
    return "; ".join(
        f"{value} ({', '.join(n for n, v in held.items() if v == value)})" for value in different
    )


def pairs(facts: Iterable[tuple[str, object]]) -> Html:
    """Names and values below each other."""
    return tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in facts), class_="pairs")


def flat(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings as ``part.name=value`` lines, as ``--set`` takes them."""
    lines: list[str] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{prefix}{key}.")
        else:
            lines.append(
                f"{prefix}{key}={','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}"
            )
    return lines


def _settings(found: Findings) -> Html:
    lines = flat(found.config)
    if not lines:
        return sentence("No settings were given to the report.", class_="none")
    return fold(f"All {len(lines)} settings", tag("pre", join(lines, "\n")))
