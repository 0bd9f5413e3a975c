"""Every page of a written demo shop with all its candidates and their true click chances, shown or not.

With it the true click rate of any ranker is a sum: what an off-policy estimate is held against. All comes from the
folder: candidates are the products of the asked category that had come by then, tastes and the click model lie in
truth/ (`users.py`, `behaviour.py`), and truth/pages.parquet says what each page's query asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moonshelf.errors import InputError
from moonshelf.shop.demo.words import BY_KEY

_ASKED = ("category", "colour", "pattern", "material", "shape", "brand")


@dataclass(frozen=True, slots=True)
class Pages:
    """G pages in time order with A the largest number of candidates.

    Attributes:
        ids: query_id of each page.
        user: ``[G]`` row of truth/users.parquet.
        time: ``[G]`` datetime64.
        chance: ``[G]`` bool, pages of the random slice.
        item: ``[G, A]`` rows of products.parquet, -1 behind the last candidate.
        attraction: ``[G, A]`` chance of a click if seen, 0 behind the last candidate.
        examine: ``[10]`` chance of being seen at position 1, 2, ...: a click has ``examine[k - 1] * attraction``.
    """

    ids: list[str]
    user: NDArray[np.int64]
    time: NDArray[np.datetime64]
    chance: NDArray[np.bool_]
    item: NDArray[np.int64]
    attraction: NDArray[np.float64]
    examine: NDArray[np.float64]


def read_pages(shop: str | Path) -> Pages:
    """Pages, candidates and truth of a demo shop's folder.

    Raises:
        InputError: it is not a demo shop, or one made before truth/pages.parquet was written.

    Cost: about a second for 6,000 pages of 200 candidates; ``G x A`` numbers and ``users x products`` tastes are held.
    """
    folder = Path(shop)
    if not (folder / "truth" / "pages.parquet").is_file():
        raise InputError(
            "no truth/pages.parquet", where=str(folder), mend="make the demo shop again with moonshelf demo"
        )
    numbers = json.loads((folder / "truth" / "truth.json").read_text(encoding="utf-8"))
    products = pl.read_parquet(folder / "truth" / "products.parquet")
    people = pl.read_parquet(folder / "truth" / "users.parquet")
    came = pl.read_parquet(folder / "products.parquet", columns=["created_at"])["created_at"].to_numpy()
    log = pl.read_parquet(
        folder / "impressions.parquet", columns=["query_id", "user_id", "time", "propensity"]
    )
    log = log.group_by("query_id", maintain_order=True).first()
    asks = pq.read_table(folder / "truth" / "pages.parquet", columns=["query_id", "asks"]).to_pydict()
    if asks["query_id"] != log["query_id"].to_list():
        raise InputError(
            "pages of truth/ and impressions differ", where=str(folder), mend="make the demo shop again"
        )
    row = {name: n for n, name in enumerate(people["user_id"])}
    user = np.asarray([row[name] for name in log["user_id"]], dtype=np.int64)
    time = log["time"].to_numpy()
    taste = _tastes(products, people, numbers)
    known = {k: products[k].to_numpy() for k in _ASKED}
    pools = {}
    for key in numbers["order"]["category"]:
        rows = np.flatnonzero(known["category"] == key)
        pools[key] = rows[np.argsort(came[rows], kind="stable")]
    click, candidates, chances = numbers["click"], [], []
    for g, asked in enumerate(dict(a) for a in asks["asks"]):
        pool = pools[asked.pop("category")]
        pool = pool[: max(2, int(np.searchsorted(came[pool], time[g], side="right")))]
        match = np.zeros(len(pool))
        if asked:
            share = np.mean([known[k][pool] == v for k, v in asked.items()], axis=0)
            match = ((1 + 2 * share).round(3) - 1) / 2  # the grade as it is written
        logit = click["b0"] + click["b_taste"] * taste[user[g], pool] + click["b_match"] * match
        candidates.append(pool)
        chances.append(1 / (1 + np.exp(-logit)))
    most = max(map(len, candidates))
    item, attraction = np.full((len(user), most), -1, dtype=np.int64), np.zeros((len(user), most))
    for g, (pool, chance) in enumerate(zip(candidates, chances, strict=True)):
        item[g, : len(pool)], attraction[g, : len(pool)] = pool, chance
    return Pages(
        log["query_id"].to_list(),
        user,
        time,
        log["propensity"].is_not_null().to_numpy(),
        item,
        attraction,
        np.asarray(numbers["examine_by_position"]),
    )


def _tastes(products: pl.DataFrame, people: pl.DataFrame, numbers: dict[str, Any]) -> NDArray[np.float64]:
    """``taste[u, i]`` of `users.py`, from the written vectors."""
    weight, order = numbers["utility"], numbers["order"]

    def at(column: str) -> NDArray[np.int64]:
        place = {name: n for n, name in enumerate(order[column])}
        return np.asarray([place[name] for name in products[column]], dtype=np.int64)

    def liking(column: str) -> NDArray[np.float64]:
        return np.asarray(people[column].to_list(), dtype=np.float64)

    usual = np.asarray([BY_KEY[c].price for c in products["category"]])
    price = np.log(products["price"].to_numpy() / usual)
    out = weight["colour"] * liking("colour")[:, at("colour")]
    out += weight["style"] * (liking("style") @ np.asarray(products["style"].to_list()).T)
    out += weight["brand"] * liking("brand")[:, at("brand")]
    out -= weight["price"] * np.abs(price[None, :] - people["price_level"].to_numpy()[:, None])
    out += weight["quality"] * products["quality"].to_numpy()
    return np.asarray(out, dtype=np.float64)
