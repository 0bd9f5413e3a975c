"""The section on relevance: of this shop, of another, of none, of a damaged file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from moonshelf.report.about_relevance import relevance_section
from moonshelf.report.inputs import gather
from moonshelf.shop.shop import Shop
from moonshelf.workspace import write_json

RESULT = {
    "metrics": {"spearman": {"value": 0.52, "low": 0.5, "high": 0.54, "n": 1728}, "rmse": "odd"},
    "protocol": {"split": "test", "pairs": 10630, "queries": 1728},
}


def test_every_number_is_told(messy: Shop, tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    write_json(tmp_path / "evaluation" / "relevance.json", {**RESULT, "shop": messy.fingerprint})
    found = gather(tmp_path, messy, {}, {})
    page = str(relevance_section(found))
    assert "10,630 judged pairs of 1,728 queries of split test" in page
    assert "0.520 [0.500, 0.540]" in page and "RMSE" not in page  # what is no interval is left out
    assert "Relevance" in str(relevance_section(replace(found, relevance={"metrics": 3})))


def test_without_a_model_or_of_other_data_nothing_is_claimed(messy: Shop, tmp_path: Path) -> None:
    assert "No relevance model was trained" in str(relevance_section(gather(tmp_path, messy, {}, {})))
    (tmp_path / "evaluation").mkdir()
    write_json(tmp_path / "evaluation" / "relevance.json", {**RESULT, "shop": "another"})
    found = gather(tmp_path, messy, {}, {})
    assert found.relevance == {} and any(
        "relevance model was measured on other data" in n for n in found.notes
    )
