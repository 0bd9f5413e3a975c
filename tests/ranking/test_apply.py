"""The ranking stage on a small shop: rows by time, training, the model on disk, another shop, the three stages
joined.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from clickshop import N, write_shop

from moonshelf.errors import InputError, TooLittleData
from moonshelf.ranking.apply import Ranker, after, candidate_rows, open_ranker, train_ranker
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.content import Content, query_vectors
from moonshelf.ranking.history import build_history
from moonshelf.ranking.joined import Ranked, Stages, format_ranked, ranked_json
from moonshelf.ranking.match import SIZE, match, words
from moonshelf.ranking.measure import measure
from moonshelf.ranking.models.click_model import ClickConfig
from moonshelf.ranking.parts import parts_of
from moonshelf.ranking.rows import Rows
from moonshelf.ranking.store import CONFIG_FILE, load_ranker
from moonshelf.ranking.train import ClickTrainConfig, score
from moonshelf.shelf import Shelf, embed_shop
from moonshelf.shelf.search import query_vector
from moonshelf.shop.shop import Shop, open_shop

sys.path.append(str(Path(__file__).parents[1] / "shelf"))
from tinyshop import TinyEncoder

CONFIG = RankConfig(
    model=ClickConfig(width=8, hidden=(32, 16), longest=20, position="examination"),
    train=ClickTrainConfig(batch=256, epochs=4, rate=5e-3, table_rate=5e-3, patience=0),
)


class Grades:
    """A grader that knows one word a title; stands where a relevance model stands."""

    def __init__(self, shop: Shop) -> None:
        assert shop.products is not None
        self.titles = dict(shop.products.select("product_id", "title").iter_rows())

    def grades(self, query_text: str, product_ids: Sequence[str]) -> np.ndarray:
        wanted = words(query_text)
        return np.array(
            [3.0 * len(wanted & words(self.titles[p])) / len(wanted) for p in product_ids], dtype=np.float32
        )

    def reasons(self, query_text: str, product_ids: Sequence[str]) -> list[str]:
        wanted = words(query_text)
        return [
            ", ".join(f"matches '{w}'" for w in sorted(wanted & words(self.titles[p]))) for p in product_ids
        ]


World = tuple[Shop, Shelf, Ranker, Path]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("apply")
    shop = open_shop(write_shop(folder / "shop"), cache=folder / "read")
    encoder = TinyEncoder()
    shelf = embed_shop(shop, encoder, folder / "shelf")
    history = build_history(shop)
    queries = query_vectors(history, encoder, shop, folder / "queries", shelf.dim)  # type: ignore[arg-type]
    content = Content(shelf, history, queries)
    train_ranker(shop, history, content, folder / "work", CONFIG)
    return shop, shelf, open_ranker(folder / "work", shop, history, content), folder


def test_the_model_foresees_clicks_and_knows_the_places(world: World) -> None:
    shop, _, ranker, folder = world
    parts = parts_of(shop, ranker.history, CONFIG)
    result = measure(ranker, parts["train"], parts["test"])
    assert result.metrics["gauc"].value > 0.75 and result.metrics["gauc without places"].value > 0.75
    assert result.difference.value > 0.05 and result.error is not None and result.error < 0.15
    written = json.loads(json.dumps(result.to_json()))
    assert set(written["metrics"]["gauc"]) == {"value", "low", "high", "n"} and "calibration error" in str(
        result
    )
    looks = load_ranker(folder / "work").about["looks by place"]
    assert len(looks) == 6 and looks[0] == 1 and looks[5] < 0.75 and looks[5] < looks[1]
    assert ranker.calibration is not None and ranker.calibration.kind == "platt"


def test_a_model_that_is_there_is_not_trained_again(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, _, ranker, folder = world
    monkeypatch.setattr("moonshelf.progress._quiet", False)
    before = (folder / "work" / "ranking" / "model.safetensors").read_bytes()
    train_ranker(shop, ranker.history, ranker.content, folder / "work", CONFIG)
    assert "done already" in capsys.readouterr().err
    assert (folder / "work" / "ranking" / "model.safetensors").read_bytes() == before
    assert not (folder / "work" / "ranking-run").exists()


def test_the_same_scores_from_disk_and_over_another_shop(world: World, tmp_path: Path) -> None:
    shop, _, ranker, folder = world
    rows = parts_of(shop, ranker.history, CONFIG)["test"]
    stored = load_ranker(folder / "work" / "ranking")
    again = score(stored.model, ranker.batches(rows))
    assert np.allclose(again, score(ranker.model, ranker.batches(rows)), atol=1e-6)
    # products in another order, five of them gone, twelve new: numbers are others, scores are not
    raw = write_shop(tmp_path / "shop", products=N + 12)
    gone = [f"p{i}" for i in range(3, 48, 9)]
    products = pl.read_csv(raw / "products.csv").filter(~pl.col("product_id").is_in(gone))
    products.sample(fraction=1, shuffle=True, seed=4).write_csv(raw / "products.csv")
    for name in ("impressions", "events"):
        table = pl.read_parquet(raw / f"{name}.parquet")
        table.filter(~pl.col("product_id").is_in(gone)).write_parquet(raw / f"{name}.parquet")
    other = open_shop(raw, cache=tmp_path / "read")
    history = build_history(other)
    assert list(history.items) != sorted(history.items, key=lambda i: int(i[1:]))
    encoder = TinyEncoder()
    shelf = embed_shop(other, encoder, tmp_path / "shelf")
    queries = query_vectors(history, encoder, other, tmp_path / "queries", shelf.dim)  # type: ignore[arg-type]
    moved = open_ranker(folder / "work", other, history, Content(shelf, history, queries))
    assert moved.model.sizes.products == N + 12 - len(gone)
    # rows whose past names none of the products that are gone must score as before
    was = {product: i for i, product in enumerate(ranker.history.items)}
    lost = np.isin(ranker.history.what, [was[p] for p in gone])
    clean = [
        i
        for i in range(len(rows))
        if ranker.history.items[rows.item[i]] not in gone
        and not lost[ranker.history.start[rows.user[i]] : rows.until[i]].any()
    ]
    assert len(clean) > 10
    kept = rows.take(np.array(clean))
    now = {product: i for i, product in enumerate(history.items)}
    twin = replace(
        kept,
        item=np.array([now[ranker.history.items[i]] for i in kept.item], np.int32),
        user=np.array([history.users.index(ranker.history.users[u]) for u in kept.user], np.int32),
        query=np.array([history.queries.index(ranker.history.queries[q]) for q in kept.query], np.int32),
    )
    twin = replace(twin, until=history.until(twin.user, twin.time))
    counts = [
        (r.history.until(x.user, x.time) - r.history.start[x.user]).tolist()
        for r, x in ((ranker, kept), (moved, twin))
    ]
    assert counts[0] == counts[1]
    assert np.allclose(moved.raw(twin, placed=True), ranker.raw(kept, placed=True), atol=1e-5)
    fresh = np.array([i for p, i in now.items() if int(p[1:]) >= N])  # products that no model has seen
    assert len(fresh) == 12
    new = candidate_rows(history, 0, fresh, after(history))
    assert np.isfinite(moved.raw(new, placed=False)).all()
    table = moved.model.things.weight
    assert torch.equal(table[1 + fresh[0]], table[0]) and not torch.equal(table[1 + now["p0"]], table[0])


def test_vectors_of_another_version_are_refused_by_name(world: World, tmp_path: Path) -> None:
    shop, _, ranker, folder = world
    shelf = embed_shop(shop, TinyEncoder("other"), tmp_path / "shelf")
    with pytest.raises(InputError, match=r"of encoder other.*trained with tiny"):
        open_ranker(folder / "work", shop, ranker.history, Content(shelf, ranker.history))
    with pytest.raises(InputError, match="no shelf is named"):
        open_ranker(folder / "work", shop, ranker.history, None)
    with pytest.raises(InputError, match="no shelf is named"):
        train_ranker(shop, ranker.history, None, tmp_path / "work", CONFIG)


def test_damaged_models_are_one_line(world: World, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(InputError, match="there is no click model here"):
        load_ranker(tmp_path)
    broken = tmp_path / "ranking"
    shutil.copytree(world[3] / "work" / "ranking", broken)
    told = json.loads((broken / CONFIG_FILE).read_text())
    (broken / CONFIG_FILE).write_text(json.dumps({**told, "format": 99}))
    with pytest.raises(InputError, match="rows have format 99"):
        load_ranker(tmp_path)
    (broken / CONFIG_FILE).write_text(json.dumps(told))
    (broken / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="cannot be read"):
        load_ranker(tmp_path)


def test_products_for_a_query_and_a_user(world: World) -> None:
    shop, shelf, ranker, _ = world
    stages = Stages(shelf, ranker, Grades(shop))
    encoder = TinyEncoder()
    query = query_vector(shelf, encoder, text="blue mug")  # type: ignore[arg-type]
    found = stages.rank(query=query, text="blue mug", user="u1", k=5, pool=40)
    assert [r.rank for r in found] == [1, 2, 3, 4, 5] and len({r.product_id for r in found}) == 5
    assert all(a.click >= b.click for a, b in itertools.pairwise(found))
    more = stages.rank(query=query, text="blue mug", user="u1", k=N, pool=N)
    grades = [r.grade for r in more]
    middle = sum(g is not None and g >= 1.5 for g in grades)
    assert all(g is not None and g >= 1.5 for g in grades[:middle]) and 5 < middle < len(more)
    for part in (more[:middle], more[middle:]):
        assert all(a.click >= b.click for a, b in itertools.pairwise(part))
    free = Stages(shelf, ranker).rank(query=query, text="blue mug", user="u1", k=5, pool=40)
    assert sum("blue" in r.title for r in free) >= 3  # user 1 likes blue
    assert any("matches 'mug'" in r.reason or "matches 'blue'" in r.reason for r in found)
    strict = stages.rank(query=query, text="blue mug", user="u1", k=40, pool=60, least=3.0)
    assert strict and all(r.grade == 3.0 and "blue mug" in r.title for r in strict)
    plain = Stages(shelf, ranker).rank(query=query, text="blue mug", k=3)
    assert plain[0].grade is None
    assert (
        "why" in format_ranked(found)
        and json.dumps(ranked_json(found))
        and format_ranked([]) == "nothing found"
    )


def test_a_past_alone_asks_too(world: World) -> None:
    _, shelf, ranker, _ = world
    stages = Stages(shelf, ranker)
    user = ranker.history.users[0]
    found = stages.rank(user=user, k=10)
    assert len(found) == 10
    own = ranker.history.start[:2]
    done = {ranker.history.items[i] for i in ranker.history.what[own[0] : own[1]] if i < N}
    repeats = [r for r in found if r.product_id in done]
    assert repeats and all("you looked at it before" in r.reason for r in repeats)
    fresh = stages.rank(user=user, k=10, again=False)
    assert not {r.product_id for r in fresh} & done
    only = stages.rank(user=user, k=5, category="Shop > mug")
    assert only and all(r.category == "Shop > mug" for r in only)


def test_questions_without_an_answer_are_one_line(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, shelf, ranker, _ = world
    monkeypatch.setattr("moonshelf.progress._quiet", False)
    stages = Stages(shelf, ranker)
    with pytest.raises(InputError, match="there is no query, and nobody is named"):
        stages.rank()
    with pytest.raises(InputError, match="user 'stranger' has no past"):
        stages.rank(user="stranger")
    query = np.array(shelf.rows(0, 1))[0]
    assert stages.rank(query=query, user="stranger", k=2)  # a query is enough
    assert "has no past in this shop" in capsys.readouterr().err
    with pytest.raises(InputError, match="a least grade needs"):
        stages.rank(query=query, text="mug", least=2.0)


def test_only_products_of_the_shop_are_candidates(world: World, tmp_path: Path) -> None:
    """A shelf may hold more than the shop: what the shop lacks takes no place among the candidates."""
    _, _, ranker, _ = world
    wide = open_shop(write_shop(tmp_path / "shop", products=4 * N), cache=tmp_path / "read")
    shelf = embed_shop(wide, TinyEncoder(), tmp_path / "shelf")
    stages = Stages(shelf, ranker)
    query = query_vector(shelf, TinyEncoder(), text="blue mug")  # type: ignore[arg-type]
    assert len(stages.rank(query=query, text="blue mug", k=20, pool=20)) == 20
    with pytest.raises(InputError, match="cannot rank 0 products"):
        stages.rank(query=query, k=0)


def test_words_of_a_new_query_count_without_vectors(world: World, tmp_path: Path) -> None:
    """A model of ids alone has no vector of a query, yet it reads how many of its words a title holds."""
    shop, shelf, ranker, _ = world
    model = replace(CONFIG.model, interest="din", mode="id")
    plain = train_ranker(shop, ranker.history, None, tmp_path, replace(CONFIG, model=model))
    stages = Stages(shelf, open_ranker(plain, shop, ranker.history, None))
    seen: list[np.ndarray] = []
    raw = Ranker.raw

    def look(self: Ranker, rows: Rows, **how: Any) -> np.ndarray:
        seen.append(
            self.batches(rows, asked=how["asked"]).make(np.arange(len(rows))).row_columns[:, 2].numpy()
        )
        return raw(self, rows, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranker, "raw", look)
        query = query_vector(shelf, TinyEncoder(), text="green lamp please")  # type: ignore[arg-type]
        stages.rank(query=query, text="green lamp please", k=5, pool=N)
    assert set(seen[0].tolist()) == {1, 2, 4}  # none, one and two of three words


def test_one_product_looks_like_another(world: World) -> None:
    _, shelf, ranker, _ = world
    stages = Stages(shelf, ranker)
    stages.alike = -1.0  # every product looks like some other
    found: list[Ranked] = stages.rank(user=ranker.history.users[0], k=8, again=False)
    assert all(r.reason.startswith("looks like the ") and r.reason.endswith("you looked at") for r in found)


def test_parts_of_acts_know_no_future(world: World) -> None:
    shop, _, ranker, _ = world
    config = replace(CONFIG, source="acts", cut="2025-03-12")
    parts = parts_of(shop, ranker.history, config)
    cut = int(datetime(2025, 3, 12, tzinfo=UTC).timestamp() * 1_000_000)
    assert parts["train"].time.max() < parts["val"].time.min() <= parts["val"].time.max() < cut
    assert parts["test"].time.min() >= cut and parts["test"].made
    for rows in parts.values():
        assert rows.clicked().sum() == len(np.unique(rows.page))
        for i in range(0, len(rows), 23):  # by hand: what the user did before
            first = int(ranker.history.start[rows.user[i]])
            own = ranker.history.time[first : int(ranker.history.start[rows.user[i] + 1])]
            assert rows.until[i] - first == (own < rows.time[i]).sum()
    # what is first acted on after the cut is no negative before it
    late = ranker.history.time >= cut
    first = set(ranker.history.what[late].tolist()) - set(ranker.history.what[~late].tolist())
    negatives = parts["train"].item[~parts["train"].clicked()]
    assert not first & set(negatives.tolist())
    with pytest.raises(InputError, match="is no date"):
        parts_of(shop, ranker.history, replace(config, cut="soon"))
    with pytest.raises(TooLittleData):
        parts_of(shop, ranker.history, replace(config, cut="2031-01-01"))
    with pytest.raises(TooLittleData, match="no user did purchase"):
        parts_of(shop, ranker.history, replace(config, acts=("purchase",), cut=""))


def test_words_that_match(world: World) -> None:
    shop, _, ranker, _ = world
    assert words("Red Running-Shoes, 2x") == {"red", "running", "shoe", "2x"}
    assert words("红色跑鞋") == {"红色", "色跑", "跑鞋"} and words("") == set()
    history = ranker.history
    rows = candidate_rows(history, 0, np.array([0, 1, 4]), after(history), len(history.queries))
    # red mug, blue lamp, red lamp: both words, none, one
    assert match(shop, history, rows, "red mugs").tolist() == [SIZE - 1, 1, 3]
    assert match(shop, history, rows, None).tolist() == [0, 0, 0]
