"""The benchmark: what is asked, what is right and set aside, vectors of other programs, labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError, TooLittleData
from moonshelf.evaluation import benchmark
from moonshelf.evaluation.benchmark.directions import DIRECTIONS, build_directions
from moonshelf.evaluation.benchmark.embedders import embed_sources, read_vectors, write_inputs
from moonshelf.evaluation.benchmark.inputs import Source, load, made_view
from moonshelf.evaluation.benchmark.run import over_directions, score
from moonshelf.evaluation.benchmark.zero_shot import answers, label_metrics
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.types import Shown


def counting(shown: Sequence[Shown]) -> np.ndarray:
    """Another model: a mean colour and a few letters, of any width we like."""
    rows = np.zeros((len(shown), 9), dtype=np.float32)
    for row, one in zip(rows, shown, strict=True):
        if one.image is not None:
            row[:3] = np.asarray(one.image.convert("RGB"), dtype=np.float32).mean((0, 1)) / 255
        for at, letter in enumerate("reghb "):
            row[3 + at] += (one.text or "").count(letter)
    return rows + 0.01


@pytest.fixture
def bare(shop_with: Callable[..., Path]) -> Shop:
    """A shop without searches: products ask for themselves."""
    raw = shop_with(searches=None)
    return open_shop(raw, cache=raw.parent / "read")


def test_searches_ask_where_there_are_any(shop: Shop) -> None:
    found = {d.name: d for d in build_directions(shop, split="train")}
    assert [*found] == [f"{a}>{b}" for a, b in DIRECTIONS]
    assert found["text>image"].made == 0 and not found["text>image"].own
    assert len(found["text>image"].queries) == 12 and len(found["image>joint"].queries) == 48
    joint = found["joint>text"]  # nobody asked with both: a text and a photo of one product are paired
    assert joint.made == len(joint.queries) == 12
    for source, product, right in zip(joint.queries, joint.products, joint.positives, strict=True):
        assert source.photo and source.photo.startswith(f"q{product}-") and right.tolist() == [int(product)]
        assert source.text == " ".join(shop.product(product).title.split()[:2])
    gallery = found["text>joint"].gallery
    assert all(s.text and s.photo for s in gallery) and len(gallery) == 12
    only = {d.name: d for d in build_directions(shop, split="train", products={"3"})}
    assert len(only["text>image"].queries) == 1 and len(only["text>image"].gallery) == 12


def test_skus_of_one_design_are_set_aside(shop: Shop) -> None:
    direction = next(d for d in build_directions(shop, split="train") if d.name == "text>image")
    at = direction.products.index("0")  # the red circle; the green one is of the same design
    assert direction.positives[at].tolist() == [0] and direction.masked[at].tolist() == [1]
    assert shop.product("0").spu_id == shop.product("1").spu_id


def test_a_gallery_never_shows_the_very_text_or_photo_that_asks(bare: Shop) -> None:
    found = build_directions(bare)
    assert len(found) == 9 and all(d.own and d.made == len(d.queries) == 12 for d in found)
    for d in found:
        for source, right in zip(d.queries, d.positives, strict=True):
            shown = d.gallery[int(right[0])]
            assert (source.text is not None) == (d.query != "image")
            assert (source.photo is not None) == (d.query != "text")
            assert (shown.text is not None) == (d.against != "image")
            assert (shown.photo is not None) == (d.against != "text")
            if source.text and shown.text:
                assert source.text not in shown.text and "Toys" in shown.text
            if source.photo and shown.photo:
                assert source.made  # there is but one photo a product
            if d.query == "image" and shown.text:
                assert bare.product(d.products[0]).title.split()[0] in d.gallery[int(d.positives[0][0])].text


def test_a_later_photo_asks_where_there_is_one(shop_with: Callable[..., Path], shop_folder: Path) -> None:
    products = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        image_ids=pl.concat_list(
            pl.concat_str(pl.lit("p"), "product_id"), pl.concat_str(pl.lit("q"), "product_id", pl.lit("-2"))
        )
    )
    raw = shop_with(products=products, searches=None)
    found = {d.name: d for d in build_directions(open_shop(raw, cache=raw.parent / "read"))}
    assert found["image>image"].queries[4] == Source(None, "q4-2", made=False)
    assert found["image>image"].gallery[4] == Source(None, "p4")


def test_products_of_one_title_are_not_told_apart_by_it(
    shop_with: Callable[..., Path], shop_folder: Path
) -> None:
    products = pl.read_parquet(shop_folder / "products.parquet").with_columns(
        title=pl.when(pl.col("product_id").is_in(["3", "7"])).then(pl.lit("Same  Thing")).otherwise("title")
    )
    raw = shop_with(products=products, searches=None)
    found = {d.name: d for d in build_directions(open_shop(raw, cache=raw.parent / "read"))}
    assert 7 in found["text>image"].masked[3] and 7 not in found["image>image"].masked[3]


def test_made_views_are_functions_of_the_photo() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    first, again, other = made_view(image, "a"), made_view(image, "a"), made_view(image, "b")
    assert first.tobytes() == again.tobytes() and first.size != image.size
    assert first.size != other.size or first.tobytes() != other.tobytes()
    for size in ((1, 1), (2, 3)):
        assert min(made_view(image.resize(size), "a").size) >= 1


def test_any_function_is_measured_and_the_numbers_are_its_own(bare: Shop) -> None:
    tasks = benchmark.build_tasks(bare)
    result = benchmark.measure(bare, counting, tasks=tasks, against=counting)
    for d in tasks.directions:
        q, g = counting(load(d.queries, bare)), counting(load(d.gallery, bare))
        s = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (g / np.linalg.norm(g, axis=1, keepdims=True)).T
        for i, (right, aside) in enumerate(zip(d.positives, d.masked, strict=True)):
            others = np.setdiff1d(np.arange(len(g)), np.union1d(right, aside))
            rank = 1 + int((s[i, others] > s[i, right].max() - 1e-6).sum())
            assert result.ranks[d.name][i] == rank
        assert result.metrics[f"{d.name} recall@5"].value == (result.ranks[d.name] <= 5).mean()
        assert result.metrics[f"difference {d.name} recall@5"].value == 0
    values = [result.metrics[f"{d.name} recall@5"].value for d in tasks.directions]
    assert result.metrics["mean recall@5"].value == pytest.approx(np.mean(values))
    assert result.metrics["spread recall@5"].value == pytest.approx(max(values) - min(values))
    text = str(result)
    assert "made queries" in text and all(d.name in text for d in tasks.directions)
    assert json.loads(json.dumps(result.to_json()))["metrics"]["text>image recall@1"]["n"] == 12


def test_our_encoder_knows_more_than_chance(bare: Shop, encoder: CompactEncoder) -> None:
    result = benchmark.measure(bare, benchmark.of_encoder(encoder))
    assert result.metrics["image>image recall@1"].value > 3 * result.chance["image>image recall@1"]
    trunk = benchmark.measure(bare, benchmark.of_trunk(encoder))
    assert trunk.metrics["image>image recall@1"].value > 3 * trunk.chance["image>image recall@1"]


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_another_program_can_embed(bare: Shop, tmp_path: Path, ending: str) -> None:
    tasks = benchmark.build_tasks(bare)
    assert write_inputs(tasks.sources(), bare, tmp_path / "in") == len(set(tasks.sources()))
    keys, rows = [], []
    for line in (tmp_path / "in" / "inputs.jsonl").read_text().splitlines():
        one = json.loads(line)
        image = Image.open(tmp_path / "in" / one["image"]) if one["image"] else None
        keys.append(one["key"])
        rows.append(counting([Shown(one["text"], image)])[0])
    path = tmp_path / f"vectors.{ending}"
    if ending == "npz":
        np.savez(path, key=np.array(keys), vector=np.stack(rows))
    else:
        pl.DataFrame({"key": keys, "vector": [row.tolist() for row in rows]}).write_parquet(path)
    there = benchmark.measure(bare, path, tasks=tasks)
    here = benchmark.measure(bare, counting, tasks=tasks)
    assert all(np.array_equal(there.ranks[name], here.ranks[name]) for name in here.ranks)


def test_bad_vectors_are_refused(bare: Shop, tmp_path: Path) -> None:
    sources = benchmark.build_tasks(bare).sources()
    np.savez(tmp_path / "few.npz", key=np.array([sources[0].key]), vector=np.ones((1, 3)))
    with pytest.raises(InputError, match=r"\d+ inputs have no vector"):
        read_vectors(tmp_path / "few.npz", sources)
    np.savez(tmp_path / "nan.npz", key=np.array([sources[0].key]), vector=np.full((1, 3), np.nan))
    with pytest.raises(InputError, match="not finite"):
        read_vectors(tmp_path / "nan.npz", sources)
    np.savez(tmp_path / "object.npz", key=np.array(["a", None], dtype=object), vector=np.ones((2, 3)))
    with pytest.raises(InputError, match="cannot be read"):  # pickles stay closed
        read_vectors(tmp_path / "object.npz", sources)
    for wrong, message in (
        (lambda shown: np.ones((1, 3)), "for 12 inputs|for 64 inputs|gave"),
        (lambda shown: np.full((len(shown), 2), np.inf), "NaN or infinity"),
    ):
        with pytest.raises(InputError, match=message):
            embed_sources(sources, bare, wrong)


def test_a_shop_that_cannot_be_asked(shop_with: Callable[..., Path], shop_folder: Path) -> None:
    products = pl.read_parquet(shop_folder / "products.parquet")[:1]
    raw = shop_with(products=products, searches=None)
    with pytest.raises(TooLittleData, match="nothing to ask"):
        build_directions(open_shop(raw, cache=raw.parent / "read"))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_label_metrics_equal_counting(pairs: list[tuple[int, int]]) -> None:
    right, found = (np.array(side) for side in zip(*pairs, strict=True))
    metrics = label_metrics(right, found, 4)
    assert metrics["accuracy"].value == pytest.approx((right == found).mean())
    precision, recall, f1 = [], [], []
    for label in sorted(set(right.tolist())):
        hit = int(((right == label) & (found == label)).sum())
        said, there = int((found == label).sum()), int((right == label).sum())
        precision.append(hit / said if said else 0.0)
        recall.append(hit / there)
        f1.append(2 * hit / (said + there))
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        assert metrics[name].value == pytest.approx(np.mean(values))
        assert metrics[name].low <= metrics[name].high


def test_labels_are_named_and_never_shown(shop_with: Callable[..., Path], shop_folder: Path) -> None:
    products = pl.concat(
        [
            pl.read_parquet(shop_folder / "products.parquet").with_columns(
                product_id=pl.concat_str("product_id", pl.lit(f"-{i}")), spu_id=pl.lit(None, dtype=pl.String)
            )
            for i in range(6)
        ]
    )
    raw = shop_with(products=products, searches=None)
    tasks = {t.name: t for t in benchmark.build_tasks(open_shop(raw, cache=raw.parent / "read")).labels}
    assert [*tasks] == ["category", "attribute colour"]
    category = tasks["category"]
    assert category.labels == ("Toys > circle", "Toys > cross", "Toys > square")
    assert category.prompts[0] == Source("Toys, circle") and tasks["attribute colour"].prompts[0] == Source(
        "colour black"
    )
    assert len(category.right) == 72 and np.bincount(category.right).tolist() == [24, 24, 24]
    assert all("Toys" not in (s.text or "") for shown in category.items.values() for s in shown)
    perfect = {s: np.eye(3, dtype=np.float32)[i] for i, s in enumerate(category.prompts)}
    rows = np.stack([perfect[category.prompts[label]] for label in category.right])
    assert (answers(rows, np.eye(3, dtype=np.float32)) == category.right).all()


def test_the_mean_over_directions_draws_queries_within_each() -> None:
    hits = [np.array([1.0] * 30 + [0.0] * 10), np.array([1.0] * 10 + [0.0] * 30)]
    mean, spread = over_directions(hits)
    assert mean.value == 0.5 and spread.value == 0.5 and mean.n == 80
    assert mean.low == pytest.approx(0.5 - 1.96 * 0.0484, abs=0.01) and 0.3 < spread.low < spread.high < 0.7


def test_vectors_are_needed_for_everything(bare: Shop) -> None:
    tasks = benchmark.build_tasks(bare)
    with pytest.raises(KeyError):
        score(tasks, {})
