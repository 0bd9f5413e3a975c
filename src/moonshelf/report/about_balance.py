"""How a balanced stage went: what each modality is routed to, what each objective weighs, which pairs are believed."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from moonshelf.report.charts import Row, bar_chart
from moonshelf.report.markup import Html, count, fold, number, percent, plain, sentence, table, tag

PREFIXES = ("phi_", "route_", "weight_", "loss_")
"""Logged values that are drawn here and not as lines."""
_TENTHS = 10
_MOST_EPOCHS = 12


def balance_blocks(records: Sequence[dict[str, Any]]) -> list[Html]:
    """Blocks for the training section, from a stage's train records; [] for a stage without any of it."""
    return [*_routing(records), *_objectives(records), *_belief(records)]


def _routing(records: Sequence[dict[str, Any]]) -> list[Html]:
    """Share of each expert, by view, over the last quarter of the steps."""
    last = records[-max(1, len(records) // 4) :]
    rows: list[Row] = []
    for view in ("text", "image", "joint"):
        z = 0
        while (values := _held(last, f"route_{view}_{z}")) or z == 0:
            if not values:
                break
            rows.append(Row(f"{view}, expert {z + 1}", fmean(values), n=count(len(values))))
            z += 1
    if not rows:
        return []
    lead = sentence(
        "Which experts the tokens of each view went to, mean of the last quarter of the steps (n steps). Even bars: "
        "the router does not tell modalities apart; uneven ones: an expert has specialised.",
        class_="small",
    )
    return [fold("Experts by view", lead, bar_chart("share of the routing", rows))]


def _objectives(records: Sequence[dict[str, Any]]) -> list[Html]:
    names = list(
        dict.fromkeys(key.removeprefix("loss_") for r in records for key in r if key.startswith("loss_"))
    )
    if not names:
        return []
    fifth = max(1, len(records) // 5)
    rows = []
    for name in names:
        cells = [
            fmean(values) if (values := _held(part, f"{what}_{name}")) else None
            for what in ("loss", "weight")
            for part in (records[:fifth], records[-fifth:])
        ]
        rows.append([name, *(plain(cell) for cell in cells)])
    head = ["objective", "loss, first fifth", "last fifth", "weight, first fifth", "last fifth"]
    return [fold("Objectives", table(head, rows))]


def _belief(records: Sequence[dict[str, Any]]) -> list[Html]:
    """phi by epoch: how many pairs are doubted, and the histogram of the first and the last epoch."""
    if not _held(records, "phi_0"):
        return []
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        by_epoch.setdefault(int(number(record.get("epoch")) or 0), []).append(record)
    rows, tenths = [], {}
    for epoch, own in sorted(by_epoch.items()):
        counts = [sum(_held(own, f"phi_{k}")) for k in range(_TENTHS)]
        total = sum(counts)
        tenths[epoch] = [c / total if total else 0.0 for c in counts]
        doubted, weight = _held(own, "doubted"), _held(own, "pair_weight")
        rows.append(
            [
                count(epoch + 1),
                count(total),
                percent(fmean(doubted)) if doubted else "",
                plain(fmean(weight)) if weight else "",
            ]
        )
    shown = [min(tenths)] if len(tenths) == 1 else [min(tenths), max(tenths)]
    charts = [
        bar_chart(
            f"phi in epoch {epoch + 1}",
            [
                Row(f"{k / _TENTHS:.1f} to {(k + 1) / _TENTHS:.1f}", share, n=percent(share))
                for k, share in enumerate(tenths[epoch])
            ],
        )
        for epoch in shown
    ]
    lead = sentence(
        "phi says how much the encoder believes a pair: above the threshold it counts in full, below it counts phi.",
        class_="small",
    )
    told = table(["epoch", "pairs seen", "doubted", "mean weight"], rows[-_MOST_EPOCHS:])
    return [fold("Pairs that are believed", lead, told, tag("div", *charts))]


def _held(records: Sequence[dict[str, Any]], key: str) -> list[float]:
    return [value for r in records if (value := number(r.get(key))) is not None]
