"""What a work folder holds for the report, read without ever failing on what is missing or broken."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moonshelf.shop.shop import Shop
from moonshelf.training.runlog import read_log

STAGES = ("pretrain", "posttrain", "posttrain2")
STEPS = ("untrained", *STAGES)
NAMES = {
    "untrained": "before training",
    "pretrain": "after pretrain",
    "posttrain": "after posttrain",
    "posttrain2": "after the second posttrain",
    "off_the_shelf": "off the shelf",
    "colour_histogram": "colour histogram",
    "chance": "chance",
    "ours": "ours",
}
_MADE = "This shop is made"  # how the README of the demo shop begins


@dataclass(frozen=True, slots=True)
class StageRun:
    """One training stage: its manifest and the records of its log, either may be empty."""

    name: str
    manifest: dict[str, Any]
    train: list[dict[str, Any]]
    val: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything the report shows, as plain values.

    Attributes:
        stages: the stages that were run, by name.
        image: evaluation files of photo search by step (``untrained``, ``pretrain``, ``posttrain``).
        text: the same for text search.
        shelf: manifest and description of the shelf; empty when there is none.
        made: whether the shop was generated (the demo shop), not real.
        matches: which heatmaps were drawn, and the deletion test (``report.matches``); empty when there are none.
        ranking: the click model's evaluation; empty when there is none.
        relevance: the relevance model's, likewise.
        notes: what could not be read or does not fit together, one sentence each.
    """

    work: Path
    shop: Shop
    check: dict[str, Any]
    config: dict[str, Any]
    timings: dict[str, Any]
    stages: dict[str, StageRun]
    image: dict[str, dict[str, Any]]
    text: dict[str, dict[str, Any]]
    shelf: dict[str, Any]
    made: bool
    matches: dict[str, Any] = field(default_factory=dict)
    ranking: dict[str, Any] = field(default_factory=dict)
    relevance: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def gather(
    work: Path,
    shop: Shop,
    config: Mapping[str, Any],
    timings: Mapping[str, Any],
    steps: Sequence[str] = STEPS,
) -> Findings:
    """Read the work folder. What cannot be read, or was measured on other data, is left out and named in ``notes``."""
    notes: list[str] = []
    stages = {}
    for name in (s for s in STAGES if s in steps):
        folder = work / name
        manifest = _object(folder / "manifest.json", work, notes)
        records = [r for r in _log(folder, work, notes) if isinstance(r, dict)]
        if manifest or records:
            train, val = ([r for r in records if r.get("kind") == kind] for kind in ("train", "val"))
            stages[name] = StageRun(
                name, manifest, train, val or mapping_list(mapping(manifest, "metrics"), "history")
            )
    found: dict[str, dict[str, dict[str, Any]]] = {"": {}, "text-": {}}
    for prefix, results in found.items():
        for step in (s for s in STEPS if s in steps):
            file = work / "evaluation" / f"{prefix}{step}.json"
            result = _object(file, work, notes)
            mark = mapping(result, "provenance").get("shop")
            if mark and mark != shop.fingerprint:
                notes.append(
                    f"evaluation/{file.name} was measured on other data ({mark}) than this shop "
                    f"({shop.fingerprint}) and is not shown: run the evaluation again."
                )
            elif mapping(result, "metrics"):
                results[step] = result
            elif result:
                notes.append(f"evaluation/{file.name} holds no metrics and is not shown.")
    shelf = {
        **_object(work / "shelf" / "shelf.json", work, notes),
        **_object(work / "shelf" / "manifest.json", work, notes),
    }
    return Findings(
        work=work,
        shop=shop,
        check=shop.check,
        config=dict(config),
        timings=dict(timings),
        stages=stages,
        image=found[""],
        text=found["text-"],
        shelf=shelf,
        made=is_made(shop),
        matches=_matches(work, shop, notes),
        ranking=_measured(work, shop, notes, "ranking", "click"),
        relevance=_measured(work, shop, notes, "relevance", "relevance"),
        notes=notes,
    )


def _matches(work: Path, shop: Shop, notes: list[str]) -> dict[str, Any]:
    found = _object(work / "heatmaps" / "matches.json", work, notes)
    if found and found.get("shop") != shop.fingerprint:
        notes.append("the heatmaps were drawn of other data than this shop and are not shown: run it again.")
        return {}
    return found


def _measured(work: Path, shop: Shop, notes: list[str], name: str, what: str) -> dict[str, Any]:
    """A model's evaluation, if it is of this shop."""
    found = _object(work / "evaluation" / f"{name}.json", work, notes)
    if found and found.get("shop") != shop.fingerprint:
        notes.append(
            f"the {what} model was measured on other data than this shop and is not shown: run it again."
        )
        return {}
    return found


def is_made(shop: Shop) -> bool:
    """Whether the shop says that it was generated: its check, a ``truth`` folder, or its README."""
    if shop.check.get("made") or (shop.source / "truth").is_dir():
        return True
    try:
        with (shop.source / "README.txt").open(encoding="utf-8", errors="replace") as handle:
            return handle.read(len(_MADE)) == _MADE
    except OSError:
        return False


def last(results: Mapping[str, dict[str, Any]]) -> str | None:
    """The last step that was evaluated."""
    return next((step for step in reversed(STEPS) if step in results), None)


def mapping(value: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The object at a path of keys, or an empty one when anything on the way is missing or no object."""
    found: Any = value
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def mapping_list(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects in the list at ``key``; an empty list when there is none."""
    found = value.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _object(path: Path, work: Path, notes: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        notes.append(f"{path.relative_to(work)} cannot be read and is not shown.")
        return {}
    return value


def _log(folder: Path, work: Path, notes: list[str]) -> list[Any]:
    try:
        return list(read_log(folder))
    except (OSError, ValueError):
        notes.append(f"the log in {folder.relative_to(work)} cannot be read and is not shown.")
        return []
