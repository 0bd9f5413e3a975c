"""The relevance model in the report: how well grades of unseen queries were foreseen."""

from __future__ import annotations

from moonshelf.report.inputs import Findings, mapping
from moonshelf.report.markup import Html, count, metric, section, sentence, table

_TOLD = {
    "spearman": "Spearman, grades said and judged, over all pairs",
    "ndcg@10": "NDCG@10, mean over queries",
    "rmse": "RMSE of the grade",
    "calibration_gap": "calibration gap: grades said against judged, by tenths",
}


def relevance_section(found: Findings) -> Html:
    """The section; one sentence where no relevance model was trained."""
    told = found.relevance
    if not told:
        why = "No relevance model was trained: the shop has no judged pairs, too few, or LightGBM is not installed."
        return section("relevance", "Relevance", sentence(why, class_="none"))
    protocol, metrics = mapping(told, "protocol"), mapping(told, "metrics")
    lead = sentence(
        f"{count(protocol.get('pairs'))} judged pairs of {count(protocol.get('queries'))} queries of split "
        f"{protocol.get('split', 'test')}, which nothing was learned from. 95% intervals over queries."
    )
    cells = [
        [_TOLD[name], metric(metrics[name], share=False)]
        for name in _TOLD
        if isinstance(metrics.get(name), dict)
    ]
    return section("relevance", "Relevance", lead, table(["metric", "value"], cells))
