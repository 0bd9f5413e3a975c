"""Relevance as a stage of run: trained once, measured on unseen queries, left out with one line where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from moonshelf.errors import InputError
from moonshelf.grading import line, relevance_stage
from moonshelf.shop.shop import Shop
from moonshelf.workspace import read_manifest


def test_it_is_trained_once_and_measured(judged: Shop, tmp_path: Path) -> None:
    found = relevance_stage(judged, tmp_path, 0)
    spearman = found["metrics"]["spearman"]
    assert spearman["value"] > 0.6 and spearman["low"] < spearman["value"] < spearman["high"]
    assert found["protocol"]["split"] == "test" and found["shop"] == judged.fingerprint
    assert json.loads((tmp_path / "evaluation" / "relevance.json").read_text()) == found
    assert "Spearman" in line(found) and f"n = {found['protocol']['queries']}" in line(found)
    before = read_manifest(tmp_path / "relevance")
    assert relevance_stage(judged, tmp_path, 0) == found and read_manifest(tmp_path / "relevance") == before
    (tmp_path / "evaluation" / "relevance.json").unlink()
    again = relevance_stage(judged, tmp_path, 0)  # measured again, not trained
    assert again["metrics"] == found["metrics"] and read_manifest(tmp_path / "relevance") == before


def test_too_few_pairs_are_one_line(judged: Shop, shop_of: Callable[..., Shop], tmp_path: Path) -> None:
    assert judged.relevance is not None
    shop = shop_of(relevance=judged.relevance.head(5).with_columns(split=pl.lit("train")))
    with pytest.raises(InputError):
        relevance_stage(shop, tmp_path / "work", 0)
    assert not (tmp_path / "work" / "relevance").exists()
