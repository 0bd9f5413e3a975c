"""Do off-policy estimates hold the truth? Rankers on the demo shop, whose true click rate is known. All data is made.

    python benchmarks/off_policy_demo.py DEMO_SHOP [--logs 100] [--json FILE]

DEMO_SHOP: a folder made by `moonshelf demo` (3,000 products; or make_demo_shop). Four rankers use what was logged in
the first 60% of the time: gradient boosting on clicks, popularity, newest first, and liking of brand and colour; each
is a list sorted by score and softmax at five temperatures. They are estimated from the random slice (propensity 1 /
number of candidates) of the pages after that; units are users. The model of DM and DR is the boosting, times the clicks
by position of the early random slice.

Truth: the mean true click chance over all later pages, from truth/. First the log that was written, policy by policy;
then the share of intervals that hold the truth over --logs further random slices of the same pages, drawn from the
truth: other pages, other products, other clicks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier

from moonshelf.evaluation.metrics import bootstrap_interval
from moonshelf.evaluation.off_policy import Logged, estimate, expected, greedy_policy, softmax_policy
from moonshelf.shop.demo.pages import Pages, read_pages
from moonshelf.types import Interval
from moonshelf.workspace import write_json

TEMPERATURES = (4.0, 2.0, 1.0, 0.5, 0.25)
RANDOM_SHARE = 0.12
DRAWS = 400  # of the bootstrap in repeated logs
NAMES = ("ips", "clipped", "snips", "dm", "dr", "sndr")


@dataclass(frozen=True)
class Policy:
    """chance [G, A] at every position, or [G, K, A] of a list; truth and q [G, K]: true and modelled click rate."""

    name: str
    chance: np.ndarray
    truth: np.ndarray
    q: np.ndarray


def features(shop: Path, pages: Pages, at: np.ndarray, item: np.ndarray, until: np.datetime64) -> np.ndarray:
    """``[N, 8]`` of (page, product) pairs, from what was written down before ``until``; no truth in it."""
    products = pl.read_parquet(shop / "products.parquet")
    written = [
        dict(a) for a in pq.read_table(shop / "products.parquet", columns=["attributes"])[0].to_pylist()
    ]
    colour = np.unique([w.get("colour", "") for w in written], return_inverse=True)[1]
    brand = np.unique([w.get("brand", "") for w in written], return_inverse=True)[1]
    category = np.unique(products["category"].to_numpy(), return_inverse=True)[1]
    usual = np.array(
        [np.median(products["price"].to_numpy()[category == c]) for c in range(category.max() + 1)]
    )
    price = np.log(products["price"].to_numpy() / usual[category])
    row = {name: n for n, name in enumerate(products["product_id"])}
    users = {name: n for n, name in enumerate(pl.read_parquet(shop / "users.parquet")["user_id"])}
    events = pl.read_parquet(shop / "events.parquet").filter(
        pl.col("time") < pl.lit(until).dt.replace_time_zone("UTC")
    )
    who = np.array([users[u] for u in events["user_id"]])
    what = np.array([row[p] for p in events["product_id"]])
    famous = np.log1p(np.bincount(what, minlength=len(products)) / len(what) * len(products))

    def liking(value: np.ndarray) -> np.ndarray:
        """How much more of a value a user took than others did, shrunk: [U, values]."""
        count = np.zeros((len(users), value.max() + 1))
        np.add.at(count, (who, value[what]), 1)
        usual_share = count.sum(axis=0) / count.sum()
        return np.log((count + 20 * usual_share) / (count.sum(axis=1, keepdims=True) + 20) / usual_share)

    paid = np.bincount(who, price[what], len(users)) / np.maximum(np.bincount(who, minlength=len(users)), 1)
    text = (
        pl.read_parquet(shop / "impressions.parquet")
        .group_by("query_id", maintain_order=True)
        .first()["query_text"]
    )
    bags = [set(t.lower().split()) for t in text]
    titles = [set(f"{t or ''} {' '.join(w.values())}".lower().split()) for t, w in
              zip(products["title"], written, strict=True)]  # fmt: skip
    overlap = np.array([len(bags[g] & titles[i]) / len(bags[g]) for g, i in zip(at, item, strict=True)])
    u = pages.user[at]
    came = products["created_at"].to_numpy()
    age = (pages.time[at] - came[item]) / np.timedelta64(86400, "s")
    return np.stack([
        famous[item], age, price[item], liking(colour)[u, colour[item]], liking(brand)[u, brand[item]],
        np.abs(price[item] - paid[u]), overlap, category[item],
    ], axis=1)  # fmt: skip


def rankers(
    shop: Path, pages: Pages, first: np.datetime64, cut: np.datetime64
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores ``[G, A]`` by name, standardised, of the pages from ``cut`` on; and modelled click rates ``[G, A, K]``."""
    log = pl.read_parquet(shop / "impressions.parquet")
    page = {q: g for g, q in enumerate(pages.ids)}
    row = {p: n for n, p in enumerate(pl.read_parquet(shop / "products.parquet")["product_id"])}
    at = np.array([page[q] for q in log["query_id"]])
    item = np.array([row[p] for p in log["product_id"]])
    clicked, position = log["clicked"].to_numpy(), log["position"].to_numpy()
    fit = (pages.time[at] >= first) & (pages.time[at] < cut)
    x = np.column_stack([features(shop, pages, at[fit], item[fit], first), position[fit]])
    model = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, random_state=0, early_stopping=False
    ).fit(x, clicked[fit])
    early = pages.chance[at] & (pages.time[at] < cut)  # at random: products are alike at every position
    curve = np.array([clicked[early & (position == k)].mean() for k in range(1, len(pages.examine) + 1)])
    late = pages.time >= cut
    there = pages.item[late] >= 0
    g, a = np.nonzero(there)
    new = features(shop, pages, np.flatnonzero(late)[g], pages.item[late][g, a], cut)
    told = model.predict_proba(np.column_stack([new, np.ones(len(new))]))[:, 1]
    scores = {}
    columns = {
        "boosting": np.log(told / (1 - told)),
        "popular": new[:, 0],
        "newest": -new[:, 1],
        "liking": new[:, 3] + new[:, 4],
    }
    for name, value in columns.items():
        scores[name] = np.full(there.shape, -np.inf)
        scores[name][there] = (value - value.mean()) / value.std()
    q = np.zeros(there.shape)
    q[there] = told
    return scores, np.asarray(q[:, :, None] * (curve / curve[0]))


def policies(
    scores: dict[str, np.ndarray], attraction: np.ndarray, examine: np.ndarray, q: np.ndarray
) -> list[Policy]:
    found, places = [], len(examine)
    seen = attraction[:, :, None] * examine
    for name, s in scores.items():
        for t in TEMPERATURES:
            chance = softmax_policy(s, t)
            found.append(Policy(
                f"{name}, T={t:g}", chance, np.einsum("ga,gak->gk", chance, seen), np.einsum("ga,gak->gk", chance, q),
            ))  # fmt: skip
        each = [greedy_policy(s, np.full(len(s), k)) for k in range(1, places + 1)]
        truth, told = (
            np.stack([expected(c, x[:, :, k]) for k, c in enumerate(each)], axis=1) for x in (seen, q)
        )
        found.append(Policy(f"{name}, sorted", np.stack(each, axis=1).astype(np.float32), truth, told))
    return found


def of_rows(p: Policy, g: np.ndarray, k: np.ndarray, a: np.ndarray) -> np.ndarray:
    return p.chance[g, a] if p.chance.ndim == 2 else p.chance[g, k, a].astype(np.float64)


def as_log(p: Policy, g: np.ndarray, k: np.ndarray, a: np.ndarray, r: np.ndarray, n: np.ndarray, user: np.ndarray,
           q: np.ndarray) -> Logged:  # fmt: skip
    """Rows at page g, position k (from 0), of candidate a with reward r, for one policy. n: candidates of the pages."""
    return Logged(r, 1 / n[g], of_rows(p, g, k, a), unit=user[g], q_logged=q[g, a, k], q_new=p.q[g, k])


def inside(x: Interval | None, truth: float) -> bool:
    return x is not None and x.low <= truth <= x.high


def as_written(
    tried: list[Policy], rows: tuple[np.ndarray, ...], late: tuple[np.ndarray, ...], uniform: float
) -> list[dict[str, object]]:
    """The shop's own random slice, policy by policy."""
    print(
        "\nthe log as written: true lift (ratio), estimates of it; * does not hold the truth, ! thin"
        f"\n{'':<18}{'ess':>6}{'rewards':>8}  {'true':<7}{'IPS':<23}{'SNIPS':<23}{'DR':<23}"
    )
    table: list[dict[str, object]] = []
    for p in tried:
        result = estimate(as_log(p, *rows, *late))
        lift = float(p.truth.mean()) / uniform
        s = result.support
        cells = [result.estimates[m].ratio for m in ("ips", "snips", "dr")]
        shown = "".join(f"{str(c) + ('' if inside(c, lift) else ' *'):<23}" for c in cells)
        print(f"{p.name:<18}{s.ess:>6.0f}{s.rewards:>8.1f}{'!' if s.thin else ' '} {lift:<7.3f}{shown}")
        ratios = {m: e.ratio.as_dict() for m, e in result.estimates.items() if e.ratio}
        table.append({"policy": p.name, "true_lift": lift, "ess": s.ess, "thin": s.thin, **ratios})
    return table


def coverage(
    tried: list[Policy],
    attraction: np.ndarray,
    examine: np.ndarray,
    late: tuple[np.ndarray, ...],
    uniform: float,
    logs: int,
) -> list[dict[str, float]]:
    """Further random slices of the later pages; how often each interval holds the truth."""
    rng, n, places = np.random.default_rng(1), late[0], len(examine)
    held = np.zeros((logs, len(tried), 3, len(NAMES)))
    error = np.zeros((logs, len(tried), len(NAMES)))
    ess, thin = np.zeros(len(tried)), np.zeros((logs, len(tried)), dtype=bool)
    for one in range(logs):
        drawn = np.flatnonzero(rng.random(len(n)) < RANDOM_SHARE)
        g, k = np.repeat(drawn, places), np.tile(np.arange(places), len(drawn))
        a = np.concatenate([rng.permutation(n[x])[:places] for x in drawn])
        r = (rng.random(len(g)) < attraction[g, a] * examine[k]).astype(float)
        for i, p in enumerate(tried):
            result = estimate(as_log(p, g, k, a, r, *late), draws=DRAWS, seed=one)
            truth = float(p.truth.mean())
            ess[i] += result.support.ess / logs
            thin[one, i] = result.support.thin
            for j, m in enumerate(NAMES):
                e = result.estimates[m]
                held[one, i, 0, j] = inside(e.value, truth)
                held[one, i, 1, j] = inside(e.difference, truth - uniform)
                held[one, i, 2, j] = inside(e.ratio, truth / uniform)
                error[one, i, j] = e.value.value / truth - 1
    heads = "".join(f"{m:>9}" for m in NAMES)
    print(
        f"\n{logs} further logs: share of intervals that hold the true lift (ratio); mean error of the click rate in %"
        f"\n{'':<18}{'ess':>6}{'thin':>6}{heads}   {heads}"
    )
    for i, p in enumerate(tried):
        shares = "".join(f"{h:>9.2f}" for h in held[:, i, 2].mean(axis=0))
        errors = "".join(f"{100 * e:>+9.1f}" for e in error[:, i].mean(axis=0))
        print(f"{p.name:<18}{ess[i]:>6.0f}{thin[:, i].mean():>6.0%}{shares}   {errors}")
    enough = thin.mean(axis=0) < 0.5
    for what, rows in (("not thin in most logs", enough), ("thin in most logs", ~enough)):
        for j, title in enumerate(("click rate", "difference", "ratio")):
            if rows.any():
                print(f"{rows.sum()} policies {what}, {title}, 95% over logs:")
                for m, h in zip(NAMES, held[:, rows, j].mean(axis=1).T, strict=True):
                    print(f"    {m:<8}{bootstrap_interval(h)}")
    return [dict(zip(NAMES, h.tolist(), strict=True)) for h in held[:, :, 2].mean(axis=0)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--logs", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arg = parser.parse_args()
    pages = read_pages(arg.shop)
    log = pl.read_parquet(arg.shop / "impressions.parquet")
    written = pl.read_parquet(arg.shop / "truth" / "impressions.parquet")["click_probability"].to_numpy()
    row = {p: n for n, p in enumerate(pl.read_parquet(arg.shop / "products.parquet")["product_id"])}
    page = {name: g for g, name in enumerate(pages.ids)}
    at = np.array([page[name] for name in log["query_id"]])
    place = log["position"].to_numpy() - 1
    own = (pages.item[at] == np.array([row[p] for p in log["product_id"]])[:, None]).argmax(axis=1)
    off = np.abs(pages.attraction[at, own] * pages.examine[place] - written).max()
    print(f"{len(pages.ids):,} pages; click chances of the {len(at):,} shown rebuilt to {off:.1e} of truth/")
    first, cut = (np.sort(pages.time)[int(len(pages.time) * share)] for share in (0.4, 0.6))
    scores, q = rankers(arg.shop, pages, first, cut)
    later = pages.time >= cut
    attraction, user, n = pages.attraction[later], pages.user[later], (pages.item[later] >= 0).sum(axis=1)
    assert n.min() >= len(pages.examine), "pages with fewer candidates than positions"
    tried = policies(scores, attraction, pages.examine, q)
    uniform = float((attraction.sum(axis=1) / n).mean() * pages.examine.mean())
    take = later[at] & pages.chance[at]
    g, k, a = (np.cumsum(later) - 1)[at[take]], place[take], own[take]
    r = log["clicked"].to_numpy()[take].astype(float)
    print(
        f"{later.sum():,} later pages, {len(np.unique(g))} of them random: {len(r):,} rows, {r.sum():.0f} clicks,"
        f" {len(np.unique(user[g]))} users; true click rate of the random policy {uniform:.4f}"
    )
    table = as_written(tried, (g, k, a, r), (n, user, q), uniform)
    for line, found in zip(
        table, coverage(tried, attraction, pages.examine, (n, user, q), uniform, arg.logs), strict=True
    ):
        line["coverage"] = found
    if arg.json:
        write_json(arg.json, {"made": True, "logs": arg.logs, "policies": table})
    return 0


if __name__ == "__main__":
    sys.exit(main())
