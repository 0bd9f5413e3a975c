"""How near to the true click model anybody can come on the demo shop, with the log as long as it is (made data).

    python benchmarks/click_ceiling.py DEMO [--steps 80]

The true model knows every user's taste. Nobody else does: a few clicks and visits a user say a part of it. Here the
form of the true model is given away (how tastes, matches, places and quality make a click; true factors of every
product; the true match of every query), and only users' tastes are estimated, by their most probable values under the
very distribution that they were drawn from, from all impressions and visits before val. What is missing between its AUC
and that of the true model is not in the log. Lines below take knowledge away, one piece each.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from moonshelf.evaluation.clicks import Scored, auc_by_users
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.history import build_history
from moonshelf.ranking.parts import parts_of
from moonshelf.shop.demo.words import BY_KEY
from moonshelf.shop.shop import open_shop

NEGATIVES = 40
PIECES = ("visits", "impressions", "style", "quality", "price", "colour", "brand", "match")


@dataclass
class World:
    """What is given away, as tensors: ``N`` impressions in order of time, ``A`` visits, ``P`` products, ``U`` users."""

    told: dict[str, dict[str, float]]
    colour: Tensor
    brand: Tensor
    style: Tensor
    price: Tensor
    quality: Tensor
    fame: Tensor
    user: Tensor
    item: Tensor
    match: Tensor
    examine: Tensor
    clicked: Tensor
    learned: Tensor  # [N] bool, before val
    visitor: Tensor
    visits: Tensor  # [A, 1 + NEGATIVES], the product first, then others of its category
    there: Tensor  # [A, 1 + NEGATIVES] bool
    users: int
    truth: Tensor  # [N] the true model's click probability


def read(folder: Path, val: int) -> World:
    """Truth and log of a demo shop; ``val``: microseconds at which val begins."""
    told = json.loads((folder / "truth" / "truth.json").read_text())
    products = pl.read_parquet(folder / "truth" / "products.parquet")
    people = pl.read_parquet(folder / "truth" / "users.parquet")
    came = (
        pl.read_parquet(folder / "products.parquet", columns=["created_at"])["created_at"]
        .dt.epoch("us")
        .to_numpy()
    )
    keys = ["query_id", "position", "product_id"]
    shown = pl.read_parquet(folder / "impressions.parquet")
    truth = pl.read_parquet(folder / "truth" / "impressions.parquet")
    shown = shown.join(truth, on=keys, how="left", maintain_order="left").sort("time", maintain_order=True)
    events = pl.read_parquet(folder / "events.parquet").filter(
        (pl.col("time").dt.epoch("us") < val) & pl.col("query_text").is_null() & (pl.col("action") == "click")
    )
    row = {p: i for i, p in enumerate(products["product_id"])}
    who = {u: i for i, u in enumerate(people["user_id"])}

    def at(column: str) -> Tensor:
        place = {name: i for i, name in enumerate(told["order"][column])}
        return torch.tensor([place[name] for name in products[column]])

    usual = np.array([BY_KEY[c].price for c in products["category"]])
    item = torch.tensor([row[p] for p in shown["product_id"]])
    user = torch.tensor([who[u] for u in shown["user_id"]])
    visits = torch.tensor([row[p] for p in events["product_id"]])
    category, rng = at("category").numpy(), np.random.default_rng(0)
    members = [np.flatnonzero(category == c) for c in range(category.max() + 1)]
    others = np.stack([rng.choice(members[category[i]], NEGATIVES) for i in visits.tolist()])
    there = (came[others] <= events["time"].dt.epoch("us").to_numpy()[:, None]) & (
        others != visits.numpy()[:, None]
    )
    world = World(
        told, at("colour"), at("brand"), torch.tensor(products["style"].to_list()).float(),
        torch.tensor(np.log(products["price"].to_numpy() / usual)).float(),
        torch.tensor(products["quality"].to_numpy()).float(), torch.tensor(products["popularity"].to_numpy()).float(),
        user, item, torch.zeros(len(shown)), torch.tensor(shown["examine"].to_numpy()).float(),
        torch.tensor(shown["clicked"].to_numpy()).float(),
        torch.tensor(shown["time"].dt.epoch("us").to_numpy() < val), torch.tensor([who[u] for u in events["user_id"]]),
        torch.cat((visits[:, None], torch.from_numpy(others)), 1),
        torch.cat((torch.ones(len(visits), 1, dtype=torch.bool), torch.from_numpy(there)), 1), len(people),
        torch.tensor(shown["click_probability"].to_numpy()),
    )  # fmt: skip
    tastes = {
        **{name: torch.tensor(people[name].to_list()).float() for name in ("colour", "brand", "style")},
        "price": torch.tensor(people["price_level"].to_numpy()).float(),
    }  # fmt: skip
    attraction = torch.tensor(shown["attraction"].to_numpy())
    click = told["click"]
    rest = (
        torch.log(attraction / (1 - attraction))
        - click["b0"]
        - click["b_taste"] * liking(world, tastes, user, item)
    )
    world.match = (rest / click["b_match"]).float()
    return world


def liking(w: World, taste: dict[str, Tensor], user: Tensor, item: Tensor, without: str = "") -> Tensor:
    """``taste[u, i]`` of ``shop.demo.users``, perhaps without one of its terms."""
    weight = w.told["utility"]
    terms = {
        "colour": taste["colour"][user, w.colour[item]],
        "style": (taste["style"][user] * w.style[item]).sum(-1),
        "brand": taste["brand"][user, w.brand[item]],
        "price": -(w.price[item] - taste["price"][user]).abs(),
        "quality": w.quality[item],
    }
    found: Tensor = sum(
        (weight[name] * term for name, term in terms.items() if name != without), torch.zeros(())
    )
    return found


def logits(w: World, taste: dict[str, Tensor], rows: Tensor, without: str = "") -> Tensor:
    """Of a click when looked at."""
    click = w.told["click"]
    match = 0.0 if without == "match" else click["b_match"] * w.match[rows]
    return click["b0"] + click["b_taste"] * liking(w, taste, w.user[rows], w.item[rows], without) + match


def estimated(w: World, steps: int, without: str = "") -> dict[str, Tensor]:
    """The most probable tastes: standard normal ones, price levels of spread .35."""
    sizes = {"colour": (w.users, int(w.colour.max()) + 1), "brand": (w.users, int(w.brand.max()) + 1)}
    sizes |= {"style": (w.users, w.style.shape[1]), "price": (w.users,)}
    taste = {name: torch.zeros(size, requires_grad=True) for name, size in sizes.items()}
    optimiser = torch.optim.Adam([*taste.values()], lr=0.05)
    rows = w.learned.nonzero()[:, 0]
    for _ in range(steps):
        loss = sum(((v / (0.35 if name == "price" else 1.0)) ** 2).sum() / 2 for name, v in taste.items())
        if without != "visits":
            score = 1.1 * liking(w, taste, w.visitor[:, None], w.visits, without) + 0.6 * w.fame[w.visits]
            loss = loss - torch.log_softmax(score.masked_fill(~w.there, -1e9), 1)[:, 0].sum()
        if without != "impressions":
            p = (w.examine[rows] * torch.sigmoid(logits(w, taste, rows, without))).clamp(1e-6, 1 - 1e-6)
            loss = loss - torch.where(w.clicked[rows] > 0, torch.log(p), torch.log1p(-p)).sum()
        optimiser.zero_grad()
        (loss / 1000).backward()
        optimiser.step()
    return {name: v.detach() for name, v in taste.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("demo", type=Path)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--test", action="store_true", help="report on test, not on val")
    a = parser.parse_args()
    shop = open_shop(a.demo)
    parts = parts_of(shop, build_history(shop), RankConfig())
    part = parts["test" if a.test else "val"]
    w = read(a.demo, int(parts["val"].time.min()))
    begin = len(parts["train"]) + (len(parts["val"]) if a.test else 0)
    rows = torch.arange(begin, begin + len(part))
    assert np.array_equal(w.clicked[rows].numpy() > 0, part.clicked())

    def told(name: str, chance: Tensor) -> None:
        scored = Scored(chance.double().numpy(), part.clicked(), part.units())
        print(f"{name:<44}{auc_by_users(scored)}", flush=True)

    print(f"{'test' if a.test else 'val'}: {len(part):,} impressions (made), of {len(w.clicked):,}")
    told("the true model", w.truth[rows])
    told("places alone", w.examine[rows])
    for name in ("", *PIECES):
        taste = estimated(w, a.steps, name)
        chance = w.examine[rows] * torch.sigmoid(logits(w, taste, rows, name))
        told(f"tastes estimated, without {name}" if name else "tastes estimated, all else given", chance)
    return 0


if __name__ == "__main__":
    sys.exit(main())
