"""The benchmark in mteb's own evaluation: the same recall. Runs where mteb is installed, and is skipped elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.evaluation import benchmark
from moonshelf.evaluation.benchmark import as_mteb
from moonshelf.evaluation.benchmark.directions import build_directions
from moonshelf.evaluation.benchmark.embedders import embed_sources
from moonshelf.evaluation.metrics import first_hit_ranks
from moonshelf.shop.shop import Shop


@pytest.mark.parametrize("name", ["text>image", "image>joint", "joint>text"])
def test_mteb_finds_the_same_recall(
    name: str, shop: Shop, encoder: CompactEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mteb = pytest.importorskip("mteb")
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    direction = next(d for d in build_directions(shop, split="train") if d.name == name)
    embed = benchmark.of_encoder(encoder)
    task = as_mteb.as_task(direction, shop)
    found = mteb.evaluate(as_mteb.as_model(embed), task, cache=None, co2_tracker=False)
    scores = found.task_results[0].scores["test"][0]
    vectors = embed_sources((*direction.queries, *direction.gallery), shop, embed)
    sides = [np.stack([vectors[s] for s in side]) for side in (direction.queries, direction.gallery)]
    ranks = first_hit_ranks(*sides, direction.positives)  # mteb knows no masked rows
    for k in (1, 5, 10):
        assert scores[f"recall_at_{k}"] == pytest.approx((ranks <= k).mean(), abs=1e-4)


def test_without_mteb_it_says_what_to_do(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    with pytest.raises(InputError, match="mteb is not installed"):
        as_mteb.as_model(lambda shown: np.ones((len(shown), 2)))
