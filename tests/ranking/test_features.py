"""Feature columns: unknown is 0, hashing is told, counts know no future."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.ranking.debias import categories
from moonshelf.ranking.features import (
    AGES,
    FAMES,
    OWN,
    Popularity,
    _column,
    _quantiles,
    age,
    build_features,
    fame,
)
from moonshelf.ranking.history import History, build_history
from moonshelf.ranking.rows import Rows, from_acts
from moonshelf.shop.shop import open_shop

START = datetime(2025, 3, 1, tzinfo=UTC)


def test_where_paths_differ_in_depth_the_group_is_each_products_own(
    shop_with: Callable[..., Path], shop_folder: Path, tmp_path: Path
) -> None:
    paths = ["Shoes", "Shoes", "Bags", "Bags", "Home > Mugs > Tea > Small", "Home > Mugs"]
    products = pl.read_parquet(shop_folder / "products.parquet")
    given = pl.Series("category", [paths[i] if i < len(paths) else None for i in range(len(products))])
    events = pl.DataFrame(
        {"user_id": ["a"], "time": [START], "product_id": [products["product_id"][0]], "action": ["click"]}
    )
    shop = open_shop(shop_with(products=products.with_columns(given), events=events), cache=tmp_path / "read")
    history = build_history(shop)
    features = build_features(shop, history)
    group = features.item[features.group].values.tolist()
    assert features.item[features.group].name == OWN
    assert (
        len(set(group[:6])) == 4 and group[0] == group[1] and group[2] == group[3] and set(group[6:]) == {0}
    )
    assert np.array_equal(
        np.unique(categories(features, len(history.items)), return_inverse=True)[1],
        np.unique(group, return_inverse=True)[1],
    )
    again = build_features(shop, history, like=json.loads(json.dumps(features.spec())))
    assert again.item[again.group].values.tolist() == group


def test_columns_of_products_and_users(
    shop_with: Callable[..., Path], shop_folder: Path, tmp_path: Path
) -> None:
    events = pl.DataFrame(
        {
            "user_id": ["a", "b", "c"],
            "time": [START] * 3,
            "product_id": ["1", "2", "3"],
            "action": ["click"] * 3,
        }
    )
    users = pl.DataFrame(
        {"user_id": ["b", "a"], "age": [30.0, float("nan")], "club": ["x", "y"], "same": ["s", "s"]}
    ).with_columns(pl.col("club").cast(pl.Categorical))
    products = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        brand=pl.when(pl.col("product_id") == "0").then(None).otherwise(pl.lit("Acme"))
    )
    shop = open_shop(shop_with(products=products, events=events, users=users), cache=tmp_path / "read")
    features = build_features(shop, build_history(shop))
    item = {c.name: c for c in features.item}
    # one top category tells nothing; one brand tells those without any apart
    assert set(item) == {"item.category2", "item.brand", "item.price", "item.is colour"}
    colours = [json.loads(a)["colour"] for a in products["attributes"]]
    known = item["item.is colour"].known
    assert [known[v - 1] for v in item["item.is colour"].values] == colours
    assert len(set(item["item.category2"].values.tolist())) == 3 and item["item.category2"].size == 4
    assert item["item.price"].values.tolist() == sorted(item["item.price"].values.tolist())
    user = {c.name: c for c in features.user}
    assert set(user) == {"user.age", "user.club", "user.same"}
    assert user["user.club"].values.tolist() == [2, 1, 0]  # c is in no table: unknown
    assert features.told() == {}
    # the same numbers for the same values, whatever other products there are; what is new is unknown
    spec = json.loads(json.dumps(features.spec()))
    fewer = products.tail(len(products) - 2).with_columns(
        brand=pl.when(pl.col("product_id") == "3").then(pl.lit("New")).otherwise(pl.col("brand"))
    )
    only = users.filter(pl.col("user_id") == "b").drop("age")
    (tmp_path / "b").mkdir()
    for name, frame in {"products": fewer.drop("image_ids"), "events": events.tail(2), "users": only}.items():
        frame.write_parquet(tmp_path / "b" / f"{name}.parquet")
    later = open_shop(tmp_path / "b", cache=tmp_path / "later")
    again = build_features(later, build_history(later), like=spec)
    assert [c.name for c in again.item] == [c.name for c in features.item]
    for column in again.item:
        was = item[column.name].values[2:].copy()
        if column.name == "item.brand":
            assert column.values[1] == 0 and was[1] > 0
            was[1] = 0
        assert column.size == item[column.name].size and (column.values == was).all(), column.name
    assert {c.name: c.values.tolist() for c in again.user} == {
        "user.age": [0, 0], "user.club": [1, 0], "user.same": [1, 0]
    }  # fmt: skip


def test_users_tables_have_columns_of_every_kind(
    shop_with: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("moonshelf.progress._quiet", False)
    events = pl.DataFrame(
        {
            "user_id": ["a", "b", "c"],
            "time": [START] * 3,
            "product_id": ["1", "2", "3"],
            "action": ["click"] * 3,
        }
    )
    users = pl.DataFrame(
        {
            "user_id": ["a", "b", "c"], "member": [True, None, False], "since": [START, START - timedelta(3), None],
            "tags": [["x"], ["y"], []], "age": [20, 30, 40],
        }
    )  # fmt: skip
    shop = open_shop(shop_with(events=events, users=users), cache=tmp_path / "read")
    features = build_features(shop, build_history(shop))
    user = {c.name: c.values.tolist() for c in features.user}
    assert set(user) == {"user.member", "user.since", "user.age"}
    assert user["user.member"] == [2, 0, 1] and user["user.since"][0] > user["user.since"][1] > 0
    assert user["user.since"][2] == 0 and "column tags of users is List" in capsys.readouterr().err
    # the same table with ages as texts: they are unknown, and that is said
    (tmp_path / "raw").rename(tmp_path / "before")
    other = shop_with(events=events, users=users.with_columns(age=pl.lit("young")))
    shop = open_shop(other, cache=tmp_path / "later")
    again = build_features(shop, build_history(shop), like=json.loads(json.dumps(features.spec())))
    assert {c.name: c.values.tolist() for c in again.user}["user.age"] == [0, 0, 0]
    assert "column age of users is String now" in capsys.readouterr().err


def test_many_values_are_hashed_and_told() -> None:
    values = [f"v{i % 500}" for i in range(1000)] + [None]
    plain, hashed = _column("x", values, 1000), _column("x", values, 100)
    assert plain.size == 501 and plain.collisions == 0 and plain.values[-1] == 0
    assert hashed.size == 100 and hashed.values.max() < 100 and hashed.values[:-1].min() > 0
    shared = sum(
        1 for v in set(values[:500])
        if sum(hashed.values[values.index(v)] == hashed.values[values.index(w)] for w in set(values[:500])) > 1
    )  # fmt: skip
    assert hashed.collisions == pytest.approx(shared / 500)
    assert np.array_equal(_column("x", values, 100).values, hashed.values)  # the same in every process


def test_what_is_no_number_is_unknown() -> None:
    found = _quantiles("p", np.array([1.0, np.nan, np.inf, 2.0, 3.0, 4.0]), 4)
    assert found.values[1] == found.values[2] == 0 and (found.values[[0, 3, 4, 5]] > 0).all()
    assert (np.diff(found.values[[0, 3, 4, 5]]) >= 0).all() and found.values.max() < found.size
    assert _quantiles("p", np.array([np.nan]), 4).size == 1


def test_fame_counts_what_was_before() -> None:
    rng = np.random.default_rng(0)
    what = rng.integers(0, 5, 300).astype(np.int32)
    time = np.concatenate([np.sort(rng.integers(0, 1000, 100)) for _ in range(3)])
    history = History(
        tuple("abcde"), (), ("u", "v", "w"), what, time, np.zeros(300, np.uint8), np.array([0, 100, 200, 300])
    )
    rows = from_acts(history, negatives=1)
    counts = Popularity.of(history).before(rows)
    found = fame(Popularity.of(history), rows)
    for i in range(0, len(rows), 17):
        n = int(((what == rows.item[i]) & (time < rows.time[i])).sum())
        assert counts[i] == n and found[i] == sum(n >= edge for edge in FAMES)


def test_age_is_as_of_the_row(shop_with: Callable[..., Path], shop_folder: Path, tmp_path: Path) -> None:
    products = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        created_at=pl.when(pl.col("product_id") != "0").then(pl.lit(START))
    )
    shop = open_shop(shop_with(products=products), cache=tmp_path / "read")
    assert shop.products is not None
    ids = shop.products["product_id"].to_list()
    days = [0.5, 5.0, 400.0, -1.0]
    times = np.array([int((START + timedelta(days=d)).timestamp() * 1e6) for d in days])
    item = np.array([ids.index("1")] * 4, dtype=np.int32)
    none = np.zeros(4)
    rows = Rows(none, item, none, times, none, none, none, none, none, none)
    assert age(shop, rows).tolist() == [1, 3, len(AGES) + 1, 0]  # a row from before it came: not known
    bare = Rows(none, np.array([ids.index("0")] * 4), none, times, none, none, none, none, none, none)
    assert age(shop, bare).tolist() == [0] * 4
