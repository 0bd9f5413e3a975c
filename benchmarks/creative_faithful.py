"""Are the reasons for a creative the true ones? The demo shop knows what each of its layouts adds to the click rate.

    python benchmarks/creative_faithful.py DEMO_SHOP [--work DIR] [--encoder WORK] [--seeds 3] [--pairs 120]

Test pairs of unseen products. *Ceiling*: how often the creative with the higher true rate won in the log; nobody who
does not know the noise can do better. *Named factor*: the loudest aspect for the chosen creative (and the loudest
measure alone), by the factor it measures, beside the term of the true click model that speaks loudest for the truly
better one. *Edits*: the winner's true main factor is set to the loser's value and the picture is painted again: does
the verdict move as the truth does? *Other searches*: the same two pictures for people who search for something else,
where that turns the true winner round. All data is made.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from moonshelf.creative.chooser import Chooser
from moonshelf.creative.facts import INDEX, PHRASES
from moonshelf.creative.learn import Material, gather, judged, learn
from moonshelf.creative.measures import NAMES, Brief, briefs, see
from moonshelf.creative.pairs import PairRules, Pairs, build_pairs
from moonshelf.creative.place import cutout_of
from moonshelf.creative.teacher import main_of
from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.evaluation import selection
from moonshelf.evaluation.metrics import bootstrap_interval
from moonshelf.shop.demo.catalog import make_items
from moonshelf.shop.demo.creatives import TERMS, Creative, creative_picture, make_creatives
from moonshelf.shop.demo.light import STUDIO
from moonshelf.shop.demo.plan import Chunk, _Views
from moonshelf.shop.demo.text import interest_queries
from moonshelf.shop.shop import open_shop

FACTORS: dict[str, tuple[str, ...]] = {  # which terms of the click model a measure can stand for
    **dict.fromkeys(("image.found_size", "image.area", "image.core_area"), ("size",)),
    **dict.fromkeys(("image.found_off", "image.found_low", "image.off_centre", "image.core_off"), ("position",)),
    **dict.fromkeys(
        ("image.brightness", "image.contrast", "image.colourful", "image.harmony", "image.apart",
         "image.ground_spread", "image.sharpness", "image.ground_colours", "image.ground_repeat",
         "image.ground_divided", "image.ground_clutter"), ("background",),
    ),
    "image.clutter": ("background", "clutter"), "image.ground_breaks": ("clutter",),
    "image.lettering": ("headline",), "image.lettering_contrast": ("legibility",), "image.sticker": ("badge",),
    **dict.fromkeys((n for n in NAMES if n.startswith("text.")), ("headline",)),
    **dict.fromkeys((n for n in NAMES if n.startswith("match.")), ("match",)),
}  # fmt: skip
COPIED: dict[str, tuple[str, ...]] = {  # fields of a layout that make a factor
    "size": ("scale",), "position": ("x",), "background": ("background", "tone"), "legibility": ("legible",),
    "headline": ("theme", "headline"), "match": ("theme", "headline"), "badge": ("badge",), "clutter": ("clutter",),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/creative-faithful"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=120, help="to be edited")
    parser.add_argument("--encoder", default="compact", help="a work or encoder folder, or compact")
    parser.add_argument(
        "--split", default="test", choices=["val", "test"], help="val: for choosing, no claim"
    )
    a = parser.parse_args()
    encoder = load_encoder(a.encoder)
    shop = open_shop(a.shop)
    material = gather(shop, encoder, cache=a.work)
    truth = {r["creative_id"]: r for r in pl.read_parquet(a.shop / "truth" / "creatives.parquet").to_dicts()}
    frame = material.logged.frame.filter(pl.col("split") == a.split)
    for seed in range(a.seeds):
        chooser, known = learn(material, encoder, PairRules(impressions=0), seed=seed)
        pairs = build_pairs(replace(material.logged, frame=frame), chooser.rules, seed=seed)
        told = chooser.fast.about
        print(
            f"\nseed {seed}: {len(known.frame)} pairs of train and val, {len(pairs)} of {a.split}; selector "
            f"{' + '.join(told['blocks'])}, teacher {' + '.join(chooser.measures.about['blocks'])}"
        )
        accuracy(chooser, material, pairs, truth)
        named(chooser, material, pairs, truth)
    edited(chooser, material, pairs, shop, a.shop, encoder, a.pairs)
    other_searches(chooser, material, pairs, shop, a.shop, encoder)
    return 0


def accuracy(chooser: Chooser, material: Material, pairs: Pairs, truth: dict[str, dict]) -> None:
    """The selectors beside the best that could be done."""
    systems = judged(chooser, material, pairs)
    print(selection.table(systems))
    rows = pairs.frame.select("creative_id_a", "creative_id_b", "winner", "group").to_dicts()
    best = [
        (truth[r["creative_id_a"]]["ctr"] > truth[r["creative_id_b"]]["ctr"]) == (r["winner"] == "A")
        for r in rows
    ]
    groups = [r["group"] for r in rows]
    print(f"ceiling: {bootstrap_interval(np.array(best, float), groups=groups)} (n = {len(rows)})")
    fast = list(systems.values())[-1]
    right = ((fast.first > 0.5) == fast.won).astype(float)
    print(f"less the ceiling: {bootstrap_interval(right - np.array(best, float), groups=groups).signed()}")


def named(chooser: Chooser, material: Material, pairs: Pairs, truth: dict[str, dict]) -> None:
    """How often the named factor is the true one."""
    at, seen = material.places(pairs), material.seen.measures
    f = chooser.fast.score(material.seen, material.texts)
    right, joined, second, groups = [], [], [], []
    found: Counter[str] = Counter()
    missed: Counter[tuple[str, str]] = Counter()
    for i, j, row in zip(*at, pairs.frame.to_dicts(), strict=True):
        ours, theirs = truth[row["creative_id_a"]], truth[row["creative_id_b"]]
        if f[i] < f[j]:
            i, j, ours, theirs = j, i, theirs, ours
        if ours["ctr"] <= theirs["ctr"]:
            continue  # a wrong choice has no true reason; counted by accuracy
        terms = {t: ours[f"term_{t}"] - theirs[f"term_{t}"] for t in TERMS}
        order = sorted(terms, key=lambda t: -terms[t])
        evidence = chooser.teacher.evidence(seen[i], seen[j])
        spoken = max(PHRASES, key=lambda name: evidence[INDEX[name]])
        right.append(float(order[0] in FACTORS.get(spoken, ())))
        joined.append(float(order[0] in FACTORS.get(main_of(evidence), ())))
        second.append(float(bool({t for t in order[:2] if terms[t] > 0} & set(FACTORS.get(spoken, ())))))
        groups.append(row["group"])
        found[order[0]] += 1
        if not right[-1]:
            missed[order[0], spoken] += 1
    most = found.most_common(1)[0]
    print(
        f"named factor, of {len(right)} right choices ({most[0]} is the true one in {most[1] / len(right):.0%}):"
    )
    for name, hits in (
        ("the loudest measure", right),
        ("the loudest aspect (what is named)", joined),
        ("the loudest measure, true first or second", second),
    ):
        print(f"  {name:<45} {bootstrap_interval(np.array(hits), groups=groups)}")
    print("  missed most: " + ", ".join(f"{t} called {m} {n}" for (t, m), n in missed.most_common(8)))


def edited(
    chooser: Chooser,
    material: Material,
    pairs: Pairs,
    shop: object,
    folder: Path,
    encoder: CompactEncoder,
    most: int,
) -> None:
    """The main factor is taken from the winner: does the verdict follow?"""
    told = json.loads((folder / "truth" / "truth.json").read_text())
    layouts, paint = painter(told["products"], told["seed"], told["image_size"])
    at = material.places(pairs)
    frame = material.whole.frame
    photos = dict(shop.products.select("product_id", pl.col("image_ids").list.first()).iter_rows())  # type: ignore[attr-defined]
    cuts = {p: cutout_of(shop.images.decode(photos[p])) for p in set(frame["product_id"])}  # type: ignore[attr-defined]
    painted: list[Brief] = []
    cases: list[tuple[str, float, float, str]] = []  # factor, true difference before and after, group
    for i, j, row in list(zip(*at, pairs.frame.to_dicts(), strict=True))[:most]:
        ours, theirs = layouts[row["creative_id_a"]], layouts[row["creative_id_b"]]
        if ours.ctr <= theirs.ctr:
            i, j, ours, theirs = j, i, theirs, ours
        terms = {t: v - theirs.terms()[t] for t, v in ours.terms().items()}
        factor = max(terms, key=lambda t: terms[t])
        changed = replace(ours, **{name: getattr(theirs, name) for name in COPIED[factor]})
        before = sum(terms.values())
        after = sum(changed.terms().values()) - sum(theirs.terms().values())
        cases.append((factor, before, after, row["group"]))
        for number, layout in ((int(i), ours), (int(i), changed), (int(j), theirs)):
            row_of = frame.row(number, named=True)
            painted.append(
                Brief(
                    layout.headline or None, lambda layout=layout: paint(layout), row_of["title"],
                    tuple(row_of["queries"]), lambda p=row_of["product_id"]: cuts[p],
                )
            )  # fmt: skip
    seen = see(encoder, painted, among=chooser.headlines)
    f = chooser.fast.score(seen, [b.text or "" for b in painted]).reshape(-1, 3)
    before, after = f[:, 0] - f[:, 2], f[:, 1] - f[:, 2]
    groups = [c[3] for c in cases]
    true_before, true_after = (np.array([c[k] for c in cases]) for k in (1, 2))
    print(f"\nedits of the true main factor, {len(cases)} pairs painted again:")
    moved = (after < before).astype(float)
    print(f"  the verdict moves towards the other one: {bootstrap_interval(moved, groups=groups)}")
    clear = np.abs(true_after) > 0.1
    agrees = ((after > 0) == (true_after > 0)).astype(float)[clear]
    kept = [g for g, c in zip(groups, clear, strict=True) if c]
    right = bootstrap_interval(agrees, groups=kept)
    print(f"  right of the edited pair (true log odds beyond 0.1, n = {clear.sum()}): {right}")
    still = ((before > 0) == (true_after > 0)).astype(float)[clear]
    print(f"  had the verdict stayed as it was:        {bootstrap_interval(still, groups=kept)}")
    slope = float(np.corrcoef(before - after, true_before - true_after)[0, 1])
    print(f"  correlation of the move with the true move: {slope:.3f}")
    for factor in sorted({c[0] for c in cases}):
        here = np.array([c[0] == factor for c in cases])
        by, of = (float(np.mean(d[here])) for d in (before - after, true_before - true_after))
        print(
            f"    {factor:<11} n = {here.sum():<4} moved {moved[here].mean():.2f}, by {by:+.2f} of {of:+.2f}"
        )


def other_searches(
    chooser: Chooser, material: Material, pairs: Pairs, shop: object, folder: Path, encoder: CompactEncoder
) -> None:
    """The same pair for people with another interest: does the winner change where it truly does?"""
    told = json.loads((folder / "truth" / "truth.json").read_text())
    items = make_items(told["products"], told["seed"])
    layouts, _ = painter(told["products"], told["seed"], told["image_size"])
    at, frame = material.places(pairs), material.whole.frame
    photos = dict(shop.products.select("product_id", pl.col("image_ids").list.first()).iter_rows())  # type: ignore[attr-defined]
    written = briefs(frame, shop.images.decode, photos)  # type: ignore[attr-defined]
    rng = np.random.default_rng(told["seed"])
    asked: list[Brief] = []
    cases: list[tuple[bool, bool, str]] = []  # A truly better for its own searches, for the others, group
    for i, j, row in zip(*at, pairs.frame.to_dicts(), strict=True):
        ours, theirs = layouts[row["creative_id_a"]], layouts[row["creative_id_b"]]
        own = sum(ours.terms().values()) - sum(theirs.terms().values())
        for interest in items[ours.item].info.scenes:
            changed = [replace(c, interest=str(interest)) for c in (ours, theirs)]
            other = sum(changed[0].terms().values()) - sum(changed[1].terms().values())
            if interest == ours.interest or min(abs(own), abs(other)) < 0.1 or own == other:
                continue
            queries = tuple(interest_queries(items[ours.item], str(interest), rng))
            asked += [written[int(i)], written[int(j)]]
            asked += [replace(written[int(k)], queries=queries) for k in (i, j)]
            cases.append((own > 0, other > 0, row["group"]))
    seen = see(encoder, asked, among=chooser.headlines)
    f = chooser.fast.score(seen, [b.text or "" for b in asked]).reshape(-1, 4)
    first, second = f[:, 0] > f[:, 1], f[:, 2] > f[:, 3]
    own, other = (np.array([c[k] for c in cases]) for k in (0, 1))
    turned = own != other
    print(
        f"\nother searches, which change the true difference, {len(cases)} cases ({turned.sum()} turn the winner):"
    )
    for name, hits, where in (
        ("turned: right of the own searches", first == own, turned),
        ("turned: right of the other searches", second == other, turned),
        ("turned: right of both, so the verdict turns", (first == own) & (second == other), turned),
        ("not turned: the verdict stays", first == second, ~turned),
    ):
        groups = [c[2] for c, w in zip(cases, where, strict=True) if w]
        print(f"  {name:<45} {bootstrap_interval(hits[where].astype(float), groups=groups)}")


def painter(
    products: int, seed: int, size: int
) -> tuple[dict[str, Creative], Callable[[Creative], Image.Image]]:
    """The layouts of a demo shop by id, and what paints one of them as the shop does."""
    items = make_items(products, seed)
    layouts = make_creatives(items, max(8, round(400 * products / 3000)), seed)
    number = {c.creative_id: n for n, c in enumerate(layouts)}
    large = products >= 600
    side = (size * 2 if large else size * 5 // 4) // 8 * 8
    views: dict[tuple[str, int], _Views] = {}

    def paint(layout: Creative) -> Image.Image:
        item = items[layout.item]
        key = item.category, item.shape
        if key not in views:
            views[key] = _Views(Chunk(*key, seed, size, 4 if large else 2, side, (), (), ()))
        rng = np.random.default_rng((seed, 13, number[layout.creative_id]))
        return creative_picture(layout, item, views[key].painted(item, "front", STUDIO), size, rng)

    return {c.creative_id: c for c in layouts}, paint


if __name__ == "__main__":
    sys.exit(main())
