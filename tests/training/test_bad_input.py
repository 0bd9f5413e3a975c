"""What a batch can lack: each loss, and several processes, give a right result or one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from test_distributed import torchrun
from torch import Tensor

from moonshelf.errors import TooLittleData
from moonshelf.shop.shop import open_shop
from moonshelf.training.losses import Relation, circle_loss, info_nce, sigmoid_loss, two_sided
from moonshelf.training.pairs import SearchPairs
from moonshelf.training.runlog import read_log

LOSSES: dict[str, Callable[[Tensor, Tensor, Relation, bool], Tensor]] = {
    "info_nce": lambda q, k, r, t: info_nce(q, k, r, torch.tensor(8.0), tiled=t),
    "smoothed": lambda q, k, r, t: info_nce(q, k, r, torch.tensor(8.0), smoothing=0.2, tiled=t),
    "two_sided": lambda q, k, r, t: sum(two_sided(q, k, r, torch.tensor(8.0), tiled=t)),  # type: ignore[misc]
    "circle": lambda q, k, r, t: circle_loss(q, k, r, gamma=32.0, tiled=t),
    "sigmoid": lambda q, k, r, t: sigmoid_loss(q, k, r, torch.tensor(8.0), torch.tensor(-8.0), tiled=t),
}


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_any_valid_negative(name: str, tiled: bool) -> None:
    """All rows are one design: nothing repels. Contrast has nothing to say; attraction alone may still pull."""
    q, k = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
    nobody = Relation.from_masks(torch.eye(4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool))
    loss = LOSSES[name](q, k, nobody, tiled)
    loss.backward()
    assert q.grad is not None and torch.isfinite(loss) and torch.isfinite(q.grad).all()
    if name != "sigmoid":  # its positives stand alone, without a sum over negatives
        assert float(loss.detach()) == 0 and not q.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_duplicates_of_every_row_stay_finite(name: str) -> None:
    """Equal vectors on both sides, one right each: the worst case is a known number, not NaN."""
    q = torch.ones(4, 6, requires_grad=True)
    right = torch.eye(4, dtype=torch.bool)
    loss = LOSSES[name](q, torch.ones(4, 6), Relation.from_masks(right, ~right), False)
    loss.backward()
    assert q.grad is not None and torch.isfinite(loss) and torch.isfinite(q.grad).all()
    if name == "info_nce":
        assert float(loss.detach()) == pytest.approx(torch.tensor(4.0).log().item(), rel=1e-5)


def test_searches_for_one_product_are_too_little(shop_with: Callable[..., Path], shop_folder: Path) -> None:
    searches = pl.read_parquet(shop_folder / "searches.parquet").with_columns(product_id=pl.lit("3"))
    raw = shop_with(searches=searches)
    with pytest.raises(TooLittleData, match="for 1 designs"):
        SearchPairs([open_shop(raw, cache=raw.parent / "read")])


def test_a_search_without_photo_or_text_is_refused_and_the_others_stay(
    shop_with: Callable[..., Path], shop_folder: Path
) -> None:
    searches = pl.read_parquet(shop_folder / "searches.parquet")
    bare = searches[:1].with_columns(
        query_id=pl.lit("bare"), query_image_id=pl.lit(None, dtype=pl.String), split=pl.lit("train")
    )
    raw = shop_with(searches=pl.concat([searches, bare]))
    found = open_shop(raw, cache=raw.parent / "read")
    assert found.searches is not None and len(found.searches) == len(searches)
    assert "bare" not in found.searches["query_id"].to_list()
    rows = found.rejects.filter(pl.col("table") == "searches")
    assert len(rows) == 1 and "neither is there" in rows["reason"][0]


def test_more_processes_than_rows(shop_folder: Path, tmp_path: Path) -> None:
    """Four processes share batches of two queries: two of them have no row, and all end well."""
    settings = ("batch=2", "loop.max_steps=2", "optim.trunk_lr=1e-5")
    args = ["posttrain", str(shop_folder), "--work", str(tmp_path), "--recipe", "smoke"]
    found = torchrun(4, [*args, *(part for s in settings for part in ("--set", f"posttrain.{s}"))])
    assert found.returncode == 0, found.stderr.decode()[-2000:]
    steps = [r for r in read_log(tmp_path / "posttrain") if r["kind"] == "train"]
    assert len(steps) == 2 and all(0 < r["loss"] < 100 for r in steps)
