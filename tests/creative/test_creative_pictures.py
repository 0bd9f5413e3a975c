"""From a shop's pictures to a selector: busy grounds cost clicks in this shop, and that is found on unseen products."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf.creative.facts import INDEX
from moonshelf.creative.fit import fit_fast
from moonshelf.creative.learn import gather
from moonshelf.creative.logs import from_shop
from moonshelf.creative.measures import briefs, see
from moonshelf.creative.pairs import build_pairs
from moonshelf.creative.teacher import teach, teacher_of
from moonshelf.encoder import CompactEncoder
from moonshelf.shop.shop import open_shop


def test_pictures_of_a_shop(
    shop_with: Callable[..., Path], tmp_path: Path, _untrained: CompactEncoder
) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "creative_id": f"{p}-{name}", "product_id": str(p), "image_id": name, "impressions": 5000,
            "clicks": int(rng.binomial(5000, 0.04 if name.startswith("p") else 0.02)),
            "split": ("train", "train", "train", "val", "test")[p % 5],
        }
        for p in range(12)
        for name in (f"p{p}", f"q{p}-0", f"q{p}-1")
    ]  # fmt: skip
    shop = open_shop(shop_with(creatives=pl.DataFrame(rows)), cache=tmp_path / "read")
    logged = from_shop(shop)
    assert len(logged) == 36 and not logged.left
    seen = see(_untrained, briefs(logged.frame, shop.images.decode))
    assert seen.measures[:, INDEX["image.there"]].all() and seen.measures[:, INDEX["match.image_title"]].any()
    model = fit_fast(logged, seen)
    f = model.score(seen, [""] * len(seen))
    place = {name: i for i, name in enumerate(logged.frame["creative_id"])}
    pairs = build_pairs(logged)
    test = pairs.part("test").frame
    a, b = (np.array([place[i] for i in test[f"creative_id_{s}"]]) for s in "ab")
    assert len(test) >= 4 and ((f[a] > f[b]) == (test["winner"] == "A").to_numpy()).all()

    teacher = teacher_of(fit_fast(logged, seen, mixes=[("measures",)]))
    a, b = (np.array([place[i] for i in pairs.frame[f"creative_id_{s}"]]) for s in "ab")
    traces, why = teach(teacher, seen.measures[a], seen.measures[b], pairs.frame["winner"].to_list())
    assert why["kept"] > 0.9 * len(pairs)
    assert all(set(t.facts) & {"layout", "background", "subject"} for t in traces if t)


def test_a_picture_of_a_test_is_not_learned_from_with_other_words(
    shop_with: Callable[..., Path], tmp_path: Path, _untrained: CompactEncoder
) -> None:
    rows = [
        {
            "creative_id": f"{p}-{name}", "product_id": str(p), "image_id": name, "text": f"words {p}",
            "impressions": 5000, "clicks": 100 + at, "split": split,
        }
        for p, split, names in ((0, "train", ("p0", "p5")), (1, "train", ("p1", "p2")), (4, "test", ("p5", "p4")))
        for at, name in enumerate(names)
    ]  # fmt: skip
    shop = open_shop(shop_with(creatives=pl.DataFrame(rows)), cache=tmp_path / "read")
    found = gather(shop, _untrained)
    assert found.kind == "image" and set(found.logged.frame["product_id"]) == {"1", "4"}
    assert found.logged.left == {"of a test with a creative of a more protected split": 2}
