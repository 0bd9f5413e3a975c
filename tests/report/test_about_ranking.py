"""The section about the click model: every number of the evaluation, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from moonshelf.report.about_ranking import ranking_section
from moonshelf.report.inputs import gather
from moonshelf.shop.shop import Shop
from moonshelf.workspace import write_json


def interval(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 80}


RESULT: dict[str, Any] = {
    "metrics": {"gauc": interval(0.71), "gauc without places": interval(0.68), "log loss": interval(0.3)},
    "popularity": {"gauc": interval(0.55)},
    "gauc_minus_popularity": interval(0.13),
    "calibration_error": 0.0123,
    "calibration_curve": [{"predicted": 0.1, "seen": 0.12, "rows": 100}],
    "gauc_by": {"category": {"Home <b>": interval(0.6), "Shoes": interval(0.7)}, "age": {}},
    "protocol": {"rows": 6000, "users": 374, "positives": 400, "made": False},
    "model": {"looks by place": [1.0, 0.65, 0.5]},
}


def test_every_number_is_told_and_escaped(messy: Shop, tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    write_json(tmp_path / "evaluation" / "ranking.json", {**RESULT, "shop": messy.fingerprint})
    found = gather(tmp_path, messy, {}, {})
    page = str(ranking_section(found))
    assert "6,000 impressions of 374 users" in page and "400 positives" in page
    assert "0.680 [0.630, 0.730]" in page and "68.0%" in page and "popularity 55.0%" in page
    assert "Home &lt;b&gt;" in page
    assert "0.0123" in page and "place 2" in page and "65.0%" in page and "GAUC by age" not in page
    drawn = replace(found, ranking={**RESULT, "protocol": {**RESULT["protocol"], "made": True}})
    assert "made data" in str(ranking_section(drawn))


def test_without_a_click_model_or_of_other_data_nothing_is_claimed(messy: Shop, tmp_path: Path) -> None:
    found = gather(tmp_path, messy, {}, {})
    assert "No click model was trained" in str(ranking_section(found))
    (tmp_path / "evaluation").mkdir()
    write_json(tmp_path / "evaluation" / "ranking.json", {**RESULT, "shop": "another"})
    found = gather(tmp_path, messy, {}, {})
    assert found.ranking == {} and any("click model was measured on other data" in n for n in found.notes)
    odd = replace(
        found, ranking={"metrics": {"gauc": "x"}, "gauc_by": {"a": 3}, "model": {"looks by place": "no"}}
    )
    assert "Ranking" in str(ranking_section(odd))
