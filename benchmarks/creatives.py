"""Choosing the better creative of a randomised test: the fast selector beside its baselines, and a replay online.

    python benchmarks/creatives.py SHOP [--seeds 3] [--work DIR] [--replay]

Creatives of tests with faulty randomisation are left out, and so are training tests with a headline that comes up in
val or test again. Blocks and penalty are chosen on val; the test split is scored once, at the end. A pair counts when
|z| > 1.96, its texts differ and its pictures are the same one (``image_id``, as an id alone); pairs whatever their
pictures stand below. `--replay`: clicks are made from logged rates (binomial draws), see moonshelf.creative.replay.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf.creative.fast import FastSelector
from moonshelf.creative.fit import fit_fast, spread_of_effects
from moonshelf.creative.logs import Logged, from_log, pooled, words_key
from moonshelf.creative.measures import Seen, briefs, see
from moonshelf.creative.pairs import PairRules, Pairs, build_pairs, one_line
from moonshelf.creative.pairwise import fit_pairwise
from moonshelf.creative.replay import POLICIES, TRAFFIC, Policy, Prior, arms, gains, replay, shrunk
from moonshelf.creative.teacher import teach, teacher_of, truthful
from moonshelf.encoder import CompactEncoder
from moonshelf.evaluation import selection
from moonshelf.evaluation.metrics import bootstrap_interval
from moonshelf.evaluation.selection import Judged

RULES = PairRules(impressions=0, alone="text")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/creatives"))
    parser.add_argument("--replay", action="store_true")
    parser.add_argument(
        "--split", default="test", choices=["val", "test"], help="val: for choosing, no claim"
    )
    a = parser.parse_args()
    raw = next(p for p in (a.shop / f"creatives.{s}" for s in ("parquet", "csv", "jsonl")) if p.is_file())
    reader = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[raw.suffix]
    logged = from_log(reader(raw), apart="words")
    print(f"{len(logged):,} creatives; left out: {dict(logged.left)}")
    encoder = CompactEncoder.untrained()
    whole = pooled(logged, alone=True)  # a headline with several pictures is one headline
    seen = see(encoder, briefs(whole.frame), cache=a.work)
    place = {(g, w): i for i, (g, w) in enumerate(whole.frame.select("group", "words").iter_rows())}
    texts = [t or "" for t in whole.frame["text"].to_list()]

    learn = np.flatnonzero(whole.frame["split"].is_in(["train", "val"]).to_numpy())
    known = Logged(whole.frame[learn], whole.left, whole.how)
    refit = a.split == "test"  # else val would be scored by a selector that saw it
    logistic, linear = "logistic on differences", "one block: sentence vectors"
    models: dict[str, list[FastSelector]] = {
        "fast selector": [],
        logistic: [],
        linear: [],
        "measures alone": [],
    }
    start, given = time.monotonic(), dict[str, Any]()
    for seed in range(a.seeds):
        given = {"seed": seed, "encoder": encoder.version, "refit": refit}
        if seed:  # as chosen with the first
            told = models["fast selector"][0].about
            given |= {"mixes": [told["blocks"]], "penalties": [told["penalty"]]}
        models["fast selector"].append(fit_fast(known, seen.take(learn), **given))
        if not seed:
            pairs = fit_pairwise(
                known, seen.take(learn), rules=PairRules(impressions=0), encoder=encoder.version
            )
            models[logistic].append(pairs)
            for name, mix in ((linear, "sentence"), ("measures alone", "measures")):
                models[name].append(fit_fast(known, seen.take(learn), mixes=[(mix,)], **given))
    told = models["fast selector"][0].about
    chosen = f"{' + '.join(told['blocks'])}, penalty {told['penalty']:g}"
    print(f"{told['train']:,} headlines of train, {told['val']:,} of val; chosen on val: {chosen}")
    took = time.monotonic() - start
    print(
        f"tau {told['tau']:.3f}, sigma {told['sigma']:.3f}; {took:.0f} s for {a.seeds} seeds and two simpler ones"
    )

    for name, rules in (("same picture", RULES), ("any picture", PairRules(impressions=0))):
        frame = logged.frame.filter(pl.col("split") == a.split)
        if name == "any picture":  # creatives that differ in their picture alone say nothing of headlines
            frame = frame.with_columns(
                pl.lit(None, pl.String).alias("picture"), pl.col("words").alias("look")
            )
        pairs = build_pairs(Logged(frame), rules)
        print(f"\n{name}, split {a.split}: {one_line(pairs.report)}")
        report(pairs, models, seen, texts, place)
    speed(models["fast selector"][0], seen, texts)
    taught(logged, models["measures alone"][0], seen, place)
    if a.replay:
        online(whole, seen, texts, models["fast selector"][0], a.split)
    return 0


def report(
    pairs: Pairs,
    models: dict[str, list[FastSelector]],
    seen: Seen,
    texts: list[str],
    place: dict[tuple[str, str], int],
) -> None:
    """One table, the seeds apart, and accuracy by gap."""
    frame = pairs.frame
    at = [
        np.array([place[g, words_key(t)] for g, t in frame.select("group", f"text_{side}").iter_rows()])
        for side in "ab"
    ]
    won, group = (frame["winner"] == "A").to_numpy(), frame["group"].to_list()
    length = seen.measures[:, 1]
    systems: dict[str, Judged] = {"chance": selection.chance(won, group)}
    systems["longer text"] = selection.larger_wins(length[at[0]], length[at[1]], won, group)
    every: list[Judged] = []
    for name, fitted in models.items():
        for seed, model in enumerate(fitted):
            f = model.score(seen, texts)
            judged = selection.asked_twice(lambda x, y, m=model, f=f: m.chance(f[x], f[y]), *at, won, group)
            systems[name if not seed else f"{name}, seed {seed}"] = judged
            if name == "fast selector":
                every.append(judged)
    print(selection.table(systems, against="logistic on differences"))
    mean = np.mean([(j.first > 0.5) == j.won for j in every], axis=0)
    print(f"fast selector, mean of {len(every)} seeds: accuracy {bootstrap_interval(mean, groups=group)}")
    print(f"less longer text: {selection.difference(every[0], systems['longer text']).signed()}")
    for gap, found in selection.by_bucket(every[0], selection.gap_buckets(frame["gap"].to_numpy())).items():
        print(f"  gap {gap:<14} n = {found.n:<4} {found}")
    assert selection.selection_metrics(every[0])["flip_rate"].value == 0


def taught(logged: Logged, model: FastSelector, seen: Seen, place: dict[tuple[str, str], int]) -> None:
    """What the measured teacher writes of the training pairs."""
    frame = build_pairs(logged.part("train"), RULES).frame
    a, b = (
        np.array([place[g, words_key(t)] for g, t in frame.select("group", f"text_{side}").iter_rows()])
        for side in "ab"
    )
    start = time.perf_counter()
    traces, why = teach(teacher_of(model), seen.measures[a], seen.measures[b], frame["winner"].to_list())
    took = time.perf_counter() - start
    kept = [(t, i, j) for t, i, j in zip(traces, a, b, strict=True) if t is not None]
    told = np.sum([truthful(t.verdict, seen.measures[i], seen.measures[j]) for t, i, j in kept], axis=0)
    print(f"\nmeasured teacher, {len(frame):,} training pairs in {took:.1f} s: {why}")
    print(f"reasons true of their pair {told[0]:,}, false {told[1]}, not to be checked {told[2]}")
    print(kept[0][0].text)


def speed(model: FastSelector, seen: Seen, texts: list[str]) -> None:
    """Time of one verdict once the vectors are there."""
    took = []
    for i in range(50):
        start = time.perf_counter()
        f = model.score(seen.take(np.array([i, i + 1])), texts[i : i + 2])
        model.chance(f[:1], f[1:])
        took.append(1000 * (time.perf_counter() - start))
    print(f"\none pair, vectors there: {np.median(took):.2f} ms (median of 50)")


def online(whole: Logged, seen: Seen, texts: list[str], model: FastSelector, split: str) -> None:
    """Clicks by traffic, from logged rates and from shrunk ones."""
    frame = whole.frame
    several = frame.select(pl.len().over("group") > 1).to_series().to_numpy()
    train, at = (np.flatnonzero((frame["split"] == s).to_numpy() & several) for s in ("train", split))
    k, n = (frame[c].to_numpy().astype(float) for c in ("clicks", "impressions"))
    group = np.unique(frame["group"].to_numpy(), return_inverse=True)[1]
    tau2 = spread_of_effects(group[train], k[train], n[train])
    prior = Prior(
        base=float(k[train].sum() / n[train].sum()), spread=model.spread, spread_plain=float(np.sqrt(tau2))
    )
    f = model.score(seen, texts)
    rates = {
        "logged rates": k[at] / n[at],
        "rates drawn from what the log leaves possible": shrunk(group[at], k[at], n[at], tau2, 0),
    }
    print(f"\nreplay, clicks are made: {len(set(group[at]))} tests of {split}, {prior}")
    against: dict[Policy, tuple[Policy, ...]] = {}
    against["thompson"], against["ucb"] = ("plain", "flat", "verdict"), ("ucb_plain", "verdict")
    for name, rate in rates.items():
        played = replay(arms(group[at], rate, f[at]), prior, traffic=TRAFFIC)
        print(f"\nby {name}: clicks a test, and gain over the even test")
        for size, clicks in played.items():
            print(f" {size:,} impressions a test")
            for policy, (got, gain) in gains(clicks).items():
                print(f"   {POLICIES[policy]:<52} {got.value:8.2f}  {100 * gain.value:+6.2f}% "
                      f"[{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]")  # fmt: skip
            for one, others in against.items():
                for other in others:
                    g = gains(clicks, other)[one][1]
                    ends = f"{100 * g.value:+.2f}% [{100 * g.low:+.2f}, {100 * g.high:+.2f}]"
                    print(f"   {POLICIES[one]} less {POLICIES[other]}: {ends}")


if __name__ == "__main__":
    sys.exit(main())
