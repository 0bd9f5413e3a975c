"""Off-policy estimates on real logs: one policy's click rate from another's impressions, beside what it really got.

    python benchmarks/off_policy.py SHOP [--obp] [--json FILE]

SHOP: the Open Bandit Dataset (Saito et al. 2020) as a shop folder, table impressions with policy (random, bts),
campaign, product_id, position from 1, clicked, propensity. Per campaign: bts from random's rows and random from bts's
rows, each estimator with its 95% interval (rows drawn anew: the log names neither users nor pages), and the mean of the
policy's own rows, which has an interval of its own.

bts changes while it learns, so its action distribution must be estimated: "counts" are its shares of each product at
each position over its own rows (an average over the week, from other rows than those it is applied to); "prior", with
--obp, is obp's simulation of Thompson sampling with the production prior, as in the dataset's own examples. The model
of DM and DR is a shrunk click rate a product, fitted on the other half of the rows.

--obp also prints the largest difference to obp's own estimators on the same arrays. Install obp apart, as its pins are
old: pip install --no-deps obp==0.4.1 && pip install pandas matplotlib seaborn pyyaml tqdm scikit-learn
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf.evaluation.off_policy import Logged, OffPolicy, estimate, weights
from moonshelf.types import Interval
from moonshelf.workspace import write_json

CAMPAIGNS = ("all", "men", "women")
SHRINK = 200.0  # rows of the mean that each product's click rate is mixed with


@dataclass(frozen=True)
class Log:
    """One policy's rows of one campaign. position from 0."""

    clicked: np.ndarray
    action: np.ndarray
    position: np.ndarray
    propensity: np.ndarray


def read(shop: Path, campaign: str, policy: str) -> Log:
    columns = ["policy", "campaign", "time", "product_id", "position", "clicked", "propensity"]
    rows = pl.read_parquet(shop / "impressions.parquet", columns=columns).filter(
        (pl.col("policy") == policy) & (pl.col("campaign") == campaign)
    )
    action = rows["product_id"].cast(pl.Int64).to_numpy()
    position = rows["position"].to_numpy() - 1
    return Log(rows["clicked"].to_numpy().astype(float), action, position, rows["propensity"].to_numpy())


def shares(log: Log, actions: int) -> np.ndarray:
    """``[A, K]``: share of each product at each position."""
    count = np.zeros((actions, int(log.position.max()) + 1))
    np.add.at(count, (log.action, log.position), 1)
    return count / count.sum(axis=0)


def click_model(log: Log, actions: int) -> np.ndarray:
    """``[N, A]``: shrunk click rate of every product, from the half that the row is not in."""
    half = np.random.default_rng(0).permutation(len(log.clicked)) % 2
    q = np.empty((len(half), actions))
    for h in (0, 1):
        fit = half != h
        shown, clicks = (np.bincount(log.action[fit], w, actions) for w in (None, log.clicked[fit]))
        q[half == h] = (clicks + SHRINK * log.clicked[fit].mean()) / (shown + SHRINK)
    return q


def logged(log: Log, new: np.ndarray) -> tuple[Logged, np.ndarray]:
    """The rows for the policy ``new [A, K]``, and q ``[N, A]``."""
    q = click_model(log, len(new))
    here = new[:, log.position].T
    row = np.arange(len(q))
    return Logged(
        log.clicked, log.propensity, here[row, log.action],
        q_logged=q[row, log.action], q_new=(here * q).sum(axis=1),
    ), q  # fmt: skip


def of_obp(log: Log, new: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """The same by obp's classes."""
    from obp.ope import (
        DirectMethod,
        DoublyRobust,
        InverseProbabilityWeighting,
        SelfNormalizedDoublyRobust,
        SelfNormalizedInverseProbabilityWeighting,
    )

    n, places = len(q), new.shape[1]
    given = {
        "reward": log.clicked,
        "action": log.action,
        "pscore": log.propensity,
        "position": log.position,
        "action_dist": np.broadcast_to(new, (n, *new.shape)).copy(),
        "estimated_rewards_by_reg_model": np.repeat(q[:, :, None], places, axis=2),
    }
    classes = {
        "ips": InverseProbabilityWeighting, "snips": SelfNormalizedInverseProbabilityWeighting,
        "dm": DirectMethod, "dr": DoublyRobust, "sndr": SelfNormalizedDoublyRobust,
    }  # fmt: skip
    return {name: float(kind().estimate_policy_value(**given)) for name, kind in classes.items()}


def by_prior(campaign: str, actions: int) -> np.ndarray:
    """``[A, 3]``: obp's simulation of bts as it began."""
    from obp.policy import BernoulliTS

    policy = BernoulliTS(actions, len_list=3, is_zozotown_prior=True, campaign=campaign, random_state=0)
    return np.asarray(policy.compute_batch_action_dist(n_rounds=1, n_sim=100_000)[0])


def gap(estimated: Interval, own: Interval) -> Interval:
    """Estimate minus own mean; the rows are independent, so the widths add as squares (normal approximation)."""
    half = float(np.hypot(estimated.high - estimated.low, own.high - own.low)) / 2
    value = estimated.value - own.value
    return Interval(value, value - half, value + half, estimated.n)


def show(title: str, result: OffPolicy, own: Interval) -> dict[str, object]:
    s = result.support
    print(f"\n{title}: own mean {pct(own)}, {own.n:,} rows")
    print(
        f"  log: mean {pct(result.logged)}; ess {s.ess:,.0f} of {s.rows:,}, of rewards {s.rewards:.1f},"
        f" largest w {s.largest:,.1f}, mean w {s.mean:.3f}, support {s.share:.1%}{', THIN' if s.thin else ''}"
    )
    print(
        f"  {'':<9}{'click rate in %':<24}{'holds own mean':<16}{'estimate - own mean, %':<26}{'lift over the log'}"
    )
    for name, e in result.estimates.items():
        holds = e.value.low <= own.value <= e.value.high
        print(
            f"  {name:<9}{pct(e.value):<24}{'yes' if holds else 'NO':<16}{pct(gap(e.value, own), '+.3f'):<26}"
            f"{e.ratio if e.ratio is not None else '-'}"
        )
    return {
        "title": title, "own": own.as_dict(), "logged": result.logged.as_dict(), "ess": s.ess,
        "rewards": s.rewards, "largest": s.largest, "mean_weight": s.mean, "thin": s.thin,
        "estimates": {name: e.value.as_dict() for name, e in result.estimates.items()},
    }  # fmt: skip


def pct(x: Interval, form: str = ".3f") -> str:
    return f"{100 * x.value:{form}} [{100 * x.low:{form}}, {100 * x.high:{form}}]"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--obp", action="store_true", help="compare with obp, and use its prior for bts")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    found, differences = [], dict.fromkeys(("ips", "snips", "dm", "dr", "sndr"), 0.0)
    for campaign in CAMPAIGNS:
        logs = {p: read(a.shop, campaign, p) for p in ("random", "bts")}
        actions = 1 + int(max(log.action.max() for log in logs.values()))
        own = {
            p: estimate(Logged(log.clicked, log.propensity, log.propensity)).logged for p, log in logs.items()
        }
        policies = {"bts by counts": shares(logs["bts"], actions)}
        if a.obp:
            policies["bts by prior"] = by_prior(campaign, actions)
        policies["random"] = np.full((actions, 3), 1 / actions)
        for name, new in policies.items():
            log, target = (logs["bts"], "random") if name == "random" else (logs["random"], "bts")
            rows, q = logged(log, new)
            result = estimate(rows)
            found.append(
                show(
                    f"{campaign}, {name} from {'bts' if name == 'random' else 'random'}", result, own[target]
                )
            )
            if name == "random":
                rare = log.propensity < 1e-3
                print(f"  rows with a propensity below .001: {rare.mean():.2%}; their share of sum w:"
                      f" {weights(rows)[rare].sum() / weights(rows).sum():.0%}")  # fmt: skip
            if a.obp:
                for key, value in of_obp(log, new, q).items():
                    one = abs(value - result.estimates[key].value.value)
                    differences[key] = max(differences[key], one)
    held = {
        name: sum(
            f["estimates"][name]["low"] <= f["own"]["value"] <= f["estimates"][name]["high"] for f in found
        )  # type: ignore[index]
        for name in found[0]["estimates"]  # type: ignore[attr-defined]
    }
    print(f"\nof {len(found)} estimates the interval holds the own mean: {held}")
    if a.obp:
        print("largest difference to obp: " + ", ".join(f"{k} {v:.1e}" for k, v in differences.items()))
    if a.json:
        write_json(a.json, {"estimates": found, "held": held, "obp": differences if a.obp else None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
