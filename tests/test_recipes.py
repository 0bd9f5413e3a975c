"""Golden losses: the first steps of each stage of the recipe `smoke` on the small shop.

A change here means that training changed. Make the file anew with
`MOONSHELF_GOLDEN=write pytest tests/test_recipes.py`, and give the reason in docs/LOG.md.
"""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from moonshelf.config import as_dict, override
from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.recipes import check_settings, recipe
from moonshelf.shop.shop import Shop
from moonshelf.training.posttrain import posttrain
from moonshelf.training.pretrain import pretrain
from moonshelf.training.runlog import read_log

GOLDEN = Path(__file__).with_name("golden_losses.json")
WRITE = os.environ.get("MOONSHELF_GOLDEN") == "write"


def losses(name: str, shop: Shop, encoder: CompactEncoder, folder: Path) -> list[float]:
    config = recipe("smoke")
    if name == "pretrain":
        pretrain(shop, encoder, folder, config.pretrain, seed=0)
    else:
        posttrain(shop, encoder, folder, config.posttrain, seed=0)
    return [r["loss"] for r in read_log(folder) if r["kind"] == "train"]


@pytest.mark.parametrize("name", ["pretrain", "posttrain"])
def test_losses_are_the_golden_ones(name: str, shop: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    found = losses(name, shop, encoder, tmp_path)
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if WRITE:
        GOLDEN.write_text(json.dumps(golden | {name: found}, indent=1) + "\n")
        return
    # machines round differently, and three steps at full rate spread it: half a percent, not equality
    assert found == pytest.approx(golden[name], rel=5e-3)


def test_the_five_iterations_add_to_each_other() -> None:
    """Each is its forerunner and a few changes; all pass the checks."""
    steps = [recipe(f"v{i}") for i in range(1, 6)]
    assert [c.stages for c in steps] == ["none", "pretrain", "both", "both", "all"]
    for config in steps:
        check_settings(config)
    settings = [as_dict(c.posttrain) for c in steps]
    changed = [{k for k in a if a[k] != b[k]} for a, b in pairwise(settings)]
    assert changed[0] == set()
    assert changed[1] == {"memory", "query_weight", "label_smoothing", "modality_dropout"}
    assert changed[2] == {"clean", "category_hard", "mine", "memory"}
    assert changed[3] == {"query_weight", "label_smoothing", "modality_dropout", "actions"}
    assert all(as_dict(c.encoder) == as_dict(steps[0].encoder) for c in steps)


def test_the_balanced_recipe_changes_posttrain_and_its_experts_alone() -> None:
    plain, balanced = recipe("laptop"), recipe("moon2")
    check_settings(balanced)
    assert balanced.encoder.experts == 4 and balanced.pretrain == plain.pretrain
    a, b = as_dict(plain.posttrain), as_dict(balanced.posttrain)
    assert {k for k in a if a[k] != b[k]} == {"align", "dual", "own_queries", "memory", "query_weight"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["posttrain.dual.inter_weights=1,3"], r"posttrain.dual.inter_weights=1,3 is not three weights"),
        (["evaluation.heatmaps=-1"], "cannot be negative"),
        (["posttrain.types=foo"], "'foo' is no type of pairs"),
        (["posttrain.mined=nowhere.parquet"], "posttrain.mined: there is no such file"),
        (["posttrain.clean=hardest,spu"], "write spu,hardest"),
        (["posttrain.keep_megabytes=4"], "posttrain.keep_megabytes does nothing without posttrain.chunk"),
        (["posttrain.types=moon", "posttrain.category_negatives=same"], "have no say"),
        (["posttrain.types=moon", "posttrain.queries_per_product=2"], "have no say"),
    ],
)
def test_settings_that_would_fail_late_or_do_nothing_are_refused(settings: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_settings(override(recipe("laptop"), settings))
