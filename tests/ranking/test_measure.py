"""What is reported of a click model: units, lists, drawn negatives, cuts that stay; a blind model earns nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from clickshop import N, write_shop

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking.apply import Ranker, open_ranker, train_ranker
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.content import Content, query_vectors
from moonshelf.ranking.history import build_history
from moonshelf.ranking.measure import _tenths, measure
from moonshelf.ranking.models.click_model import ClickConfig
from moonshelf.ranking.parts import moments, parts_of
from moonshelf.ranking.store import load_ranker
from moonshelf.ranking.train import ClickTrainConfig
from moonshelf.shelf import embed_shop
from moonshelf.shop.shop import Shop, open_shop

sys.path.append(str(Path(__file__).parents[1] / "shelf"))
from tinyshop import TinyEncoder

START = datetime(2025, 3, 1, tzinfo=UTC)
MODEL = ClickConfig(interest="din", mode="id", width=8, hidden=(32, 16), longest=20)
CONFIG = RankConfig(
    model=MODEL,
    train=ClickTrainConfig(batch=256, epochs=3, rate=5e-3, table_rate=5e-3, patience=0),
)


def trained(shop: Shop, work: Path, config: RankConfig) -> Ranker:
    history = build_history(shop)
    return open_ranker(train_ranker(shop, history, None, work, config), shop, history, None)


def tasteless(folder: Path) -> Path:
    """Buyers without a taste: acts on products by lot, a third of which come late; users are many, acts few."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    came = [START - timedelta(days=1) if i % 3 else START + timedelta(days=40) for i in range(90)]
    pl.DataFrame(
        {"product_id": [f"p{i}" for i in range(90)], "title": ["thing"] * 90, "created_at": came}
    ).write_parquet(folder / "products.parquet")
    acts = []
    for user in range(240):
        for _ in range(8):
            day = float(rng.uniform(0, 60))
            there = [i for i in range(90) if came[i] <= START + timedelta(days=day)]
            bought = f"p{int(rng.choice(there))}"
            acts.append((f"u{user}", START + timedelta(days=day), bought, "purchase"))
    names = ["user_id", "time", "product_id", "action"]
    pl.DataFrame(acts, schema=names, orient="row").write_parquet(folder / "events.parquet")
    return folder


def test_nothing_is_earned_where_there_is_no_taste(tmp_path: Path) -> None:
    """Neither being new, nor the season, nor being known tells a positive from a drawn negative."""
    shop = open_shop(tasteless(tmp_path / "shop"), cache=tmp_path / "read")
    ranker = trained(shop, tmp_path / "work", CONFIG)
    parts = parts_of(shop, ranker.history, CONFIG)
    result = measure(ranker, parts["train"], parts["test"])
    found = result.metrics["gauc"]
    assert found.low < 0.5 < found.high or abs(found.value - 0.5) < 0.03
    # what is drawn has no share that means anything: no probabilities, no calibration
    assert ranker.calibration is None and "log loss" not in result.metrics
    assert result.error is None and result.curve is None and result.to_json()["calibration_curve"] == []
    assert "calibration" not in str(result) and result.protocol["made"]
    assert "hit rate@10" in result.metrics


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Ranker, Path]:
    folder = tmp_path_factory.mktemp("measure")
    shop = open_shop(write_shop(folder / "shop"), cache=folder / "read")
    config = replace(CONFIG, calibrate="isotonic")
    return shop, trained(shop, folder / "work", config), folder


def test_rows_of_nobody_known_belong_to_their_page(shown: tuple[Shop, Ranker, Path]) -> None:
    shop, ranker, _ = shown
    parts = parts_of(shop, ranker.history, CONFIG)
    test = parts["test"]
    nobody = replace(test, user=np.full(len(test), -1, np.int32), until=np.zeros(len(test), np.int64))
    result = measure(ranker, parts["train"], nobody)
    assert result.protocol["users"] == len(np.unique(test.page))
    both = [p for p in np.unique(test.page) if 0 < test.clicked()[test.page == p].mean() < 1]
    assert result.metrics["gauc"].n == len(both)


def test_lists_of_one_are_no_lists(shown: tuple[Shop, Ranker, Path]) -> None:
    shop, ranker, _ = shown
    parts = parts_of(shop, ranker.history, CONFIG)
    alone = replace(parts["test"], page=np.arange(len(parts["test"])))
    result = measure(ranker, parts["train"], alone)
    assert not any(name.startswith(("ndcg", "hit")) for name in (*result.metrics, *result.popularity))
    whole = measure(ranker, parts["train"], parts["test"])
    assert {"ndcg@10", "hit rate@3"} <= set(whole.metrics) and whole.metrics["hit rate@3"].value < 1


def test_calibration_changes_no_order(shown: tuple[Shop, Ranker, Path]) -> None:
    shop, ranker, _ = shown
    assert ranker.calibration is not None and ranker.calibration.kind == "isotonic"
    rows = parts_of(shop, ranker.history, CONFIG)["test"]
    raw = ranker.raw(rows, placed=True)
    told = ranker.calibrated(raw)
    order = np.argsort(raw)
    assert (np.diff(told[order]) >= 0).all() and len(np.unique(told)) < len(np.unique(raw))


def test_equal_counts_share_a_tenth() -> None:
    counts = np.array([0] * 50 + list(range(1, 51)))
    tenth, names = _tenths(counts)
    assert len(set(tenth[:50].tolist())) == 1 and names[0] == "0" and names[-1].endswith("to 50")
    assert len(set(tenth.tolist())) == len(names) and (np.diff(tenth) >= 0).all()
    assert _tenths(np.zeros(7))[1] == ["0"]


def test_test_begins_where_it_began(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop that has grown is measured from the same moment on; one that has shrunk says so."""
    from moonshelf.applying import evaluate_rank

    monkeypatch.setattr("moonshelf.progress._quiet", False)
    raw = write_shop(tmp_path / "shop")
    whole = pl.read_parquet(raw / "impressions.parquet")
    some = whole.sort("time").head(int(len(whole) * 0.8))
    some.write_parquet(raw / "impressions.parquet")
    shop = open_shop(raw, cache=tmp_path / "read")
    ranker = trained(shop, tmp_path / "work", CONFIG)
    about = load_ranker(tmp_path / "work").about
    assert about["at"] == list(moments(shop, ranker.history, CONFIG)) and about["looks by place"] is None
    before = evaluate_rank(shop, str(tmp_path / "work"))
    assert "not as it was" not in capsys.readouterr().err
    whole.write_parquet(raw / "impressions.parquet")
    grown = evaluate_rank(open_shop(raw, cache=tmp_path / "grown"), str(tmp_path / "work"))
    assert "the shop is not as it was" in capsys.readouterr().err
    late = whole.filter(pl.col("time").dt.epoch("us") >= about["at"][1])
    assert grown.protocol["rows"] == len(late) > before.protocol["rows"]
    whole.sort("time").head(600).write_parquet(raw / "impressions.parquet")
    with pytest.raises(TooLittleData, match="no rows are left"):
        evaluate_rank(open_shop(raw, cache=tmp_path / "fewer"), str(tmp_path / "work"))


def test_networks_on_vectors_need_vectors(shown: tuple[Shop, Ranker, Path], tmp_path: Path) -> None:
    shop, ranker, _ = shown
    for name in ("adapter", "debias"):
        config = replace(CONFIG, model=replace(MODEL, **{name: 8}))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="these settings read none"):
            train_ranker(shop, ranker.history, None, tmp_path, config)


def test_queries_have_vectors_now_as_they_had_then(
    shown: tuple[Shop, Ranker, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("moonshelf.progress._quiet", False)
    shop, ranker, _ = shown
    history, encoder = ranker.history, TinyEncoder()
    shelf = embed_shop(shop, encoder, tmp_path / "shelf")
    queries = query_vectors(history, encoder, shop, tmp_path / "queries", shelf.dim)  # type: ignore[arg-type]
    config = replace(CONFIG, model=replace(MODEL, interest="cube", mode="both"))
    with_all, bare = Content(shelf, history, queries), Content(shelf, history)
    assert with_all.mark() != bare.mark() and with_all.asks and not bare.asks
    blind = train_ranker(shop, history, bare, tmp_path / "blind", config)
    capsys.readouterr()
    rows = parts_of(shop, history, config)["test"]
    one, other = (open_ranker(blind, shop, history, c) for c in (bare, with_all))
    assert "learned without vectors of queries" in capsys.readouterr().err
    assert np.array_equal(one.raw(rows, placed=True), other.raw(rows, placed=True))
    sees = train_ranker(shop, history, with_all, tmp_path / "sees", config)
    with pytest.raises(InputError, match="the encoder to make them was not found"):
        open_ranker(sees, shop, history, bare)
    assert len(history.items) == N
