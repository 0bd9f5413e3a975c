"""How the two stages learned: loss and val recall over the steps, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moonshelf.report.about_balance import PREFIXES, balance_blocks
from moonshelf.report.charts import line_chart
from moonshelf.report.inputs import STAGES, Findings, StageRun, mapping
from moonshelf.report.markup import Html, count, fold, join, number, plain, section, sentence, spent, tag

_MOST_SERIES = 16


def series(records: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    """Steps and values of ``key`` where both are finite numbers, in order of the steps."""
    pairs = [(number(r.get("step")), number(r.get(key))) for r in records]
    held = sorted((s, v) for s, v in pairs if s is not None and v is not None)
    return [s for s, _ in held], [v for _, v in held]


def training_section(found: Findings) -> Html:
    """The stages side by side; recall shares one axis, losses have their own."""
    recalls = {name: series(run.val, "recall@1")[1] for name, run in found.stages.items()}
    top = max((v for values in recalls.values() for v in values), default=0.0)
    shared = (0.0, min(1.05, top * 1.18 + 0.02))
    columns = []
    for name in STAGES:
        run = found.stages.get(name)
        if run is None and name == "posttrain2":
            continue  # a stage that is done when asked for
        if run is None:
            columns.append(
                tag("div", tag("h3", name), sentence(f"The stage {name} was not run.", class_="none"))
            )
        else:
            columns.append(tag("div", tag("h3", name), *_stage(run, shared)))
    lead = sentence(
        "The loss is what a stage lowers; the stages lower different losses, so their heights do not "
        "compare. Val recall@1 is measured on a small gallery that is quick to search. It chooses the "
        "weights that are kept, and does not compare with the recall of the next section."
    )
    return section("training", "Training", lead, tag("div", *columns, class_="two"))


def _stage(run: StageRun, shared: tuple[float, float]) -> list[Html]:
    metrics = mapping(run.manifest, "metrics")
    steps, recall = series(run.val, "recall@1")
    best = max(range(len(recall)), key=recall.__getitem__) if recall else None
    facts = [f"{count(metrics.get('steps'))} steps"] if number(metrics.get("steps")) is not None else []
    if number(run.manifest.get("seconds")) is not None:
        facts.append(f"in {spent(run.manifest.get('seconds'))}")
    if metrics.get("stopped_early") is True:
        facts.append("stopped early")
    end = max([*series(run.train, "loss")[0], *steps], default=0.0)
    out = [sentence(", ".join(facts), class_="small")] if facts else []
    out.append(line_chart("loss", *series(run.train, "loss"), x_range=(0.0, end)))
    if recall:
        out.append(
            line_chart(
                "val recall@1",
                steps,
                recall,
                share=True,
                dots=True,
                best=best,
                y_range=shared,
                x_range=(0.0, end),
                height=200,
            )
        )
    else:
        out.append(sentence("There were no val searches, so the last weights were kept.", class_="none"))
    names = list(
        dict.fromkeys(key for r in run.train for key in r if key not in ("step", "kind", "loss", "epoch"))
    )
    names = [key for key in names if not key.startswith(PREFIXES)]
    charts: list[Html] = []
    for key in names[:_MOST_SERIES]:
        x, y = series(run.train, key)
        if x:
            charts.append(line_chart(key, x, y, height=170, x_range=(0.0, end)))
    kept = mapping(metrics, "best")
    if kept:
        told = ", ".join(f"{key} {plain(value)}" for key, value in kept.items())
        out.append(sentence(f"Weights kept: {told}.", class_="small"))
    out += balance_blocks(run.train)
    if charts:
        out.append(fold(f"{len(charts)} more logged values", join(charts)))
    return out
