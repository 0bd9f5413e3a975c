"""Training, keeping and using the relevance model, on a made shop."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moonshelf.cli import main
from moonshelf.encoder import CompactEncoder
from moonshelf.errors import InputError
from moonshelf.evaluation import grades
from moonshelf.evaluation.grades import Graded
from moonshelf.relevance.model import ARRAYS, TREES, WORDS, RelevanceModel, open_relevance
from moonshelf.relevance.train import grade_pairs, train_relevance, training_pairs
from moonshelf.relevance.vectors import ShelfVectors
from moonshelf.shelf import embed_shop
from moonshelf.shop.shop import Shop

Trained = tuple[RelevanceModel, Path]
ShopOf = Callable[..., Shop]


def of_test(model: RelevanceModel, shop: Shop) -> Graded:
    assert shop.relevance is not None
    pairs = shop.relevance.filter(pl.col("split") == "test")
    query = np.unique(pairs["query_text"].to_numpy(), return_inverse=True)[1]
    return Graded(grade_pairs(model, pairs, shop), pairs["grade"].to_numpy(), query)


def test_it_finds_the_rule_behind_the_grades(trained: Trained, judged: Shop) -> None:
    rows = of_test(trained[0], judged)
    assert grades.spearman(rows).low > 0.6
    assert grades.rmse(rows).high < rows.grade.std()


def test_test_grades_are_not_looked_at(
    trained: Trained, judged: Shop, shop_of: ShopOf, tmp_path: Path
) -> None:
    assert judged.relevance is not None
    at = pl.col("split") == "test"
    turned = judged.relevance.with_columns(
        pl.when(at).then(4 - pl.col("grade")).otherwise("grade").alias("grade")
    )
    other = train_relevance(shop_of(relevance=turned), tmp_path / "m")
    assert np.array_equal(of_test(trained[0], judged).score, of_test(other, judged).score)


def test_saved_and_opened_it_is_the_same(trained: Trained, judged: Shop) -> None:
    model, folder = trained
    ids = judged.products["product_id"].to_list() if judged.products is not None else []
    for path in (folder, folder.parent):
        again = open_relevance(path)
        for query in ("red shelf", "连衣裙", "12 inch mirrors white"):
            assert np.array_equal(again.grades(query, ids), model.grades(query, ids))
            assert np.array_equal(again.probability(query, ids, 2), model.probability(query, ids, 2))
            assert again.reasons(query, ids) == model.reasons(query, ids)
    assert not [p for p in folder.iterdir() if p.suffix in (".pkl", ".pickle", ".pt", ".joblib")]


def test_ids_rows_and_texts_of_a_product_give_one_grade(trained: Trained, judged: Shop) -> None:
    model, _ = trained
    assert judged.products is not None
    rows = np.array([5, 0, 50, 5])
    ids = [model.catalogue.goods.product_ids[i] for i in rows]
    strangers = model.read(judged.products[rows.tolist()])
    for query in ("red shelf 12 in", "boltek lamp"):
        told = model.grades(query, rows)
        assert told.dtype == np.float32 and told.shape == (4,)
        assert np.array_equal(told, model.grades(query, ids))
        assert np.array_equal(told, model.grades(query, strangers))
        assert told[0] == told[3]
    assert model.grades("shelf", []).shape == (0,)


def test_new_words_of_new_products_count(trained: Trained, judged: Shop) -> None:
    model, _ = trained
    assert judged.products is not None
    new = judged.products[:2].with_columns(
        pl.Series("product_id", ["n1", "n2"]),
        pl.Series("title", ["Zyxalon 12 in. Red Shelf", "Quxbar 12 in. Red Shelf"]),
    )
    told = model.grades("zyxalon shelf", model.read(new))
    assert told[0] > told[1]
    assert model.reasons("zyxalon shelf", model.read(new)) == [
        "matches 'zyxalon', 'shelf'",
        "matches 'shelf'; not 'zyxalon'",
    ]


def test_reasons_name_words_and_measures(trained: Trained, judged: Shop) -> None:
    model, _ = trained
    assert judged.products is not None
    titles = dict(judged.products.select("product_id", "title").iter_rows())
    lamp = next(p for p, t in titles.items() if "lamp" in t and "White" in t)
    size = titles[lamp].split()[1]
    (line,) = model.reasons("white lamps 7in sofa", [lamp])
    assert line == f"matches 'white', 'lamps'; not '7in' (has {size}in), 'sofa'"
    assert "matches 'mirorr'" in model.reasons("mirorr", [p for p, t in titles.items() if "mirror" in t])[0]


def test_a_missing_val_split_is_made_of_whole_queries(judged: Shop) -> None:
    train, held = training_pairs(judged, 0)
    assert not set(train["key"]) & set(held["key"]) and len(held)
    assert set(train["split"]) == set(held["split"]) == {"train"}
    again, _ = training_pairs(judged, 0)
    assert again.equals(train)
    assert not training_pairs(judged, 1)[1].equals(held)


def test_queries_of_val_and_test_are_not_trained_on(shop_of: ShopOf, judged: Shop) -> None:
    assert judged.relevance is not None
    table = judged.relevance
    test = table.filter(pl.col("split") == "test")
    repeated = test.with_columns(
        pl.lit("train").alias("split"), pl.col("query_id") + "x", pl.col("query_text").str.to_uppercase()
    )
    train, held = training_pairs(shop_of(relevance=pl.concat((table, repeated))), 0)
    assert len(train) + len(held) == len(table) - len(test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.with_columns(pl.lit(2.0).alias("grade")), "all grades are equal in train"),
        (
            lambda t: pl.concat((t, made_val(t).with_columns(pl.lit(2.0).alias("grade")))),
            "all grades are equal in val",
        ),
        (lambda t: t[:12], "too few judged pairs"),
        (
            lambda t: t.with_columns(
                pl.Series("split", ["train" if i % 2 else "test" for i in range(len(t))])
            ),
            "left out because their query is also in val or test",
        ),
        (lambda t: t.with_columns(pl.lit(float("nan")).alias("grade")), "every row .* was rejected"),
        (lambda t: t.with_columns(pl.lit("unheard of").alias("product_id")), "every row .* was rejected"),
        (lambda t: t.with_columns(pl.lit("  ").alias("query_text")), "every row .* was rejected"),
    ],
)
def test_tables_that_cannot_train(
    shop_of: ShopOf, judged: Shop, tmp_path: Path, capsys, change, message: str
) -> None:
    shop = shop_of(relevance=change(judged.relevance))
    with pytest.raises(InputError, match=message):
        train_relevance(shop, tmp_path / "m")
    assert main(["relevance", "train", str(shop.path), "--work", str(tmp_path / "w")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and shop.name in err and ": " in err
    assert not (tmp_path / "m").exists() and not (tmp_path / "w" / "relevance").exists()


def made_val(table: pl.DataFrame) -> pl.DataFrame:
    """Pairs of new queries in val."""
    new = [pl.lit("v").alias("query_id"), pl.lit("a new query").alias("query_text")]
    return table[:8].with_columns(*new, pl.lit("val").alias("split"))


def test_bad_rows_are_left_out(shop_of: ShopOf, judged: Shop) -> None:
    assert judged.relevance is not None
    bad = judged.relevance[:3].with_columns(
        pl.Series("query_text", ["  ", "red shelf", "red shelf"]),
        pl.Series("grade", [2.0, float("nan"), 2.0]),
        pl.Series("product_id", ["p1", "p1", "unheard of"]),
        pl.lit("z").alias("query_id"),
    )
    train, held = training_pairs(shop_of(relevance=pl.concat((judged.relevance, bad))), 0)
    before = training_pairs(judged, 0)
    assert train.equals(before[0]) and held.equals(before[1])


def test_bad_questions_are_one_clear_line(trained: Trained) -> None:
    model, _ = trained
    for query, which, message in (
        (" ", ["p1"], "query is empty"),
        ("lamp", ["p1", "nobody"], "1 of 2 products are not in the model's catalogue, e.g. nobody"),
        ("lamp", np.array([9999]), "row numbers outside"),
    ):
        with pytest.raises(InputError, match=message):
            model.grades(query, which)
    assert np.isfinite(model.grades("!!!", ["p1"])).all()  # nothing to match: an ordinary, low grade


def test_damaged_and_missing_models(trained: Trained, tmp_path: Path) -> None:
    _, folder = trained
    with pytest.raises(InputError, match="there is no relevance model here"):
        open_relevance(tmp_path)
    for name in (WORDS, ARRAYS, TREES):
        copy = tmp_path / name
        copy.mkdir()
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes() if file.name != name else file.read_bytes()[:50])
        with pytest.raises(InputError, match=r"damaged|cannot be read"):
            open_relevance(copy)


def test_a_model_whose_files_do_not_fit_is_damaged(trained: Trained, tmp_path: Path) -> None:
    _, folder = trained
    with np.load(folder / ARRAYS) as file:
        held = dict(file)
    for i, (name, value) in enumerate(
        (("factors", None), ("head", held["head"][1:]), ("title.value", held["title.value"] + 9999))
    ):
        copy = tmp_path / str(i)
        shutil.copytree(folder, copy)
        changed = {k: value if k == name else v for k, v in held.items()}
        np.savez(copy / ARRAYS, **{k: v for k, v in changed.items() if v is not None})
        with pytest.raises(InputError, match="the relevance model is damaged"):
            open_relevance(copy)
    (tmp_path / "0" / WORDS).write_text("[]")
    with pytest.raises(InputError, match="the relevance model is damaged"):
        open_relevance(tmp_path / "0")


def test_one_grade_for_all_cannot_be_measured(trained: Trained, judged: Shop, tmp_path: Path, capsys) -> None:
    _, folder = trained
    copy = tmp_path / "flat"
    shutil.copytree(folder, copy)
    with np.load(folder / ARRAYS) as file:
        held = dict(file)
    np.savez(copy / ARRAYS, **{**held, "held.grade": np.full_like(held["held.grade"], 2.0)})
    assert main(["evaluate", "relevance", str(judged.path), "--model", str(copy)]) == 1
    err = capsys.readouterr().err
    assert "gives all pairs of split test one grade" in err and err.count("\n") == 1


def test_a_model_of_another_shop_is_refused(trained: Trained, judged: Shop, shop_of: ShopOf) -> None:
    assert judged.products is not None and judged.relevance is not None
    other = shop_of(
        products=judged.products.with_columns(pl.col("product_id").str.replace("p", "o")),
        relevance=judged.relevance.with_columns(pl.col("product_id").str.replace("p", "o")),
    )
    with pytest.raises(InputError, match="another shop"):
        grade_pairs(trained[0], judged.relevance, other)


def test_products_added_since_training_are_graded(trained: Trained, judged: Shop, shop_of: ShopOf) -> None:
    model, _ = trained
    assert judged.products is not None and judged.relevance is not None
    renamed = (
        pl.when(pl.col("product_id") == "p3").then(pl.lit("new")).otherwise("product_id").alias("product_id")
    )
    other = shop_of(
        products=judged.products.with_columns(renamed), relevance=judged.relevance.with_columns(renamed)
    )
    assert other.relevance is not None
    told = grade_pairs(model, other.relevance, other)
    assert np.array_equal(told, grade_pairs(model, judged.relevance, judged))


def test_a_title_that_has_changed_is_graded_as_it_is_now(
    trained: Trained, judged: Shop, shop_of: ShopOf
) -> None:
    model, _ = trained
    assert judged.products is not None and judged.relevance is not None
    at = pl.col("product_id") == "p3"
    now = judged.products.with_columns(pl.when(at).then(pl.lit("Hat")).otherwise("title").alias("title"))
    other = shop_of(products=now)
    pairs = judged.relevance.filter(at)
    assert (grade_pairs(model, pairs, other) != grade_pairs(model, pairs, judged)).any()
    rest = judged.relevance.filter(~at)
    assert np.array_equal(grade_pairs(model, rest, other), grade_pairs(model, rest, judged))


def test_with_vectors(judged: Shop, encoder: CompactEncoder, tmp_path: Path) -> None:
    vectors = ShelfVectors(embed_shop(judged, encoder, tmp_path / "shelf"), encoder)
    model = train_relevance(judged, tmp_path / "m", vectors=vectors)
    again = open_relevance(tmp_path / "m", vectors)
    assert np.array_equal(model.grades("red lamp", ["p1", "p2"]), again.grades("red lamp", ["p1", "p2"]))
    own = vectors.embed(["red lamp", " "])
    told = vectors.features(own[0], ["p1", "nobody"])
    assert told[0, 0] == pytest.approx(float(vectors.rows[1] @ own[0])) and np.isnan(told[1]).all()
    assert not own[1].any()
    pairs = (
        judged.relevance.filter(pl.col("split") == "test") if judged.relevance is not None else pl.DataFrame()
    )
    one = [model.grades(q, [p])[0] for q, p in pairs.select("query_text", "product_id")[:20].iter_rows()]
    assert grade_pairs(model, pairs, judged)[:20] == pytest.approx(
        one, abs=1e-5
    )  # batch or one query at a time
    with pytest.raises(InputError, match="needs vectors of encoder"):
        open_relevance(tmp_path / "m")


def test_the_command_line_trains_and_evaluates(
    judged: Shop, trained: Trained, tmp_path: Path, capsys
) -> None:
    shop, out = str(judged.path), tmp_path / "r.json"
    assert main(["relevance", "train", shop, "--work", str(tmp_path / "w")]) == 0
    assert main(["evaluate", "relevance", shop, "--model", str(tmp_path / "w"), "--json", str(out)]) == 0
    found = json.loads(out.read_text())["metrics"]
    assert set(found) == {"spearman", "ndcg@10", "rmse", "calibration_gap"}
    rows = of_test(trained[0], judged)
    assert found["spearman"] == grades.spearman(rows).as_dict()
    assert found["ndcg@10"] == grades.ndcg_at(rows, 10).as_dict()
    assert "spearman" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["evaluate", "relevance", "{shop}"], "no model is named"),
        (["evaluate", "relevance", "{shop}", "--model", "nowhere"], "there is no relevance model here"),
        (
            ["evaluate", "relevance", "{shop}", "--model", "{model}", "--split", "val"],
            "no judged pairs in split val",
        ),
        (["evaluate", "relevance", "{shop}", "--model", "{model}", "--limit", "3"], "does not belong"),
        (["evaluate", "image-search", "{shop}", "--model", "{model}"], "belongs to evaluate relevance"),
        (["relevance", "train", "{shop}", "--work", "{tmp}", "--shelf", "x"], "belong together"),
    ],
)
def test_the_command_line_refuses_in_one_line(
    args: list[str], message: str, judged: Shop, trained: Trained, tmp_path: Path, capsys
) -> None:
    filled = [a.format(shop=judged.path, model=trained[1], tmp=tmp_path) for a in args]
    assert main(filled) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_shop_without_judged_pairs(shop: Shop, tmp_path: Path, capsys) -> None:
    assert main(["relevance", "train", str(shop.path), "--work", str(tmp_path)]) == 1
    assert "no judged pairs" in capsys.readouterr().err


def test_torch_and_lightgbm_train_in_one_process() -> None:
    code = (
        "import torch, numpy as np; from moonshelf.relevance.trees import train_trees;"
        "x = torch.randn(10000, 300); (x.T @ x).sum(); r = x[:, :3].numpy();"
        "t = train_trees(r, r[:, 0], ['a', 'b', 'c'], held=(r[:50], r[:50, 0]), seed=0, rounds=80);"
        "(x.T @ x).sum(); print(np.corrcoef(t.predict(r), r[:, 0])[0, 1] > 0.9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr
