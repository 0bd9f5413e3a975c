"""Relevance on a shop's judged pairs: our model beside simpler ones, on test queries that nobody trained on.

    python benchmarks/relevance.py SHOP [--work DIR] [--seeds 3] [--vectors] [--folds 5]

Lines: cosine of character n-gram TF-IDF, BM25 alone (both put on the scale of grades by a line fit on train pairs),
gradient boosting on a dozen overlap and similarity features (the yardstick, scikit-learn), ours, and with `--vectors`
ours with the cosines of the untrained compact encoder; of several seeds the interval is that of the first, and the mean
over seeds stands beside it. Everything learns from train queries; the tables of features are kept in `--work`.
`--folds` cross-validates over train queries instead and leaves test alone: settings are chosen with that.

Intervals draw queries with all their pairs; differences are paired. The last line is ours minus the yardstick.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer

from moonshelf.encoder import load_encoder
from moonshelf.errors import InputError
from moonshelf.evaluation import grades
from moonshelf.evaluation.grades import Graded
from moonshelf.relevance import features
from moonshelf.relevance.calibrate import Calibration, calibrate
from moonshelf.relevance.model import feature_names
from moonshelf.relevance.train import pair_rows, read_catalogue, training_pairs, usable_pairs
from moonshelf.relevance.trees import train_trees
from moonshelf.relevance.vectors import NAMES, ShelfVectors
from moonshelf.shelf import Shelf, embed_shop
from moonshelf.shop.shop import Shop, open_shop
from moonshelf.workspace import digest

MAKERS = ("words", "ragged", "lexicon", "latent", "goods", "catalogue", "asked", "features", "vectors")
METRICS = (
    ("spearman", grades.spearman, grades.spearman_difference),
    ("ndcg@10", grades.ndcg_at, grades.ndcg_difference),
    ("rmse", grades.rmse, grades.rmse_difference),
)


def our_features(
    shop: Shop, pairs: pl.DataFrame, work: Path, with_vectors: bool
) -> tuple[np.ndarray, list[str]]:
    """Our features of all pairs, kept for this shop and version of the features; vectors are the last columns."""
    vectors = None
    if with_vectors:
        encoder = load_encoder("compact")
        folder = work / "shelf"
        shelf = Shelf.open(folder) if folder.is_dir() else embed_shop(shop, encoder, folder)
        vectors = ShelfVectors(shelf, encoder)
    code = Path(features.__file__).parent
    texts = [(code / f"{name}.py").read_text() for name in MAKERS]
    mark = digest([shop.fingerprint, with_vectors, texts])
    file = work / f"features-{mark}.npz"
    if not file.is_file():
        catalogue = read_catalogue(shop, 0)
        rows = pair_rows(pairs, shop, catalogue, vectors, "features of all pairs")
        names = feature_names(catalogue, with_vectors)
        work.mkdir(parents=True, exist_ok=True)
        np.savez(file, rows=rows, names=np.array(names))
    with np.load(file, allow_pickle=False) as held:
        return held["rows"], held["names"].tolist()


def simple_features(shop: Shop, pairs: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The yardstick's features ``[n, 13]`` of plain lower-case words, and the character cosine alone ``[n]``."""
    assert shop.products is not None
    titles = dict(shop.products.select("product_id", pl.col("title").fill_null("")).iter_rows())
    queries, texts = pairs["query_text"].to_list(), [titles[p] for p in pairs["product_id"].to_list()]

    def cosines(**kind: object) -> np.ndarray:
        maker = TfidfVectorizer(**kind).fit(titles.values())
        a, b = maker.transform(queries), maker.transform(texts)
        return np.asarray(a.multiply(b).sum(1)).ravel()

    letters = cosines(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    words = cosines(sublinear_tf=True)
    rows = []
    for query, text in zip(queries, texts, strict=True):
        q, t = query.lower().split(), text.lower().split()
        both = set(q) & set(t)
        inside = sum(w in text.lower() for w in q)
        rows.append(
            (
                len(q),
                len(t),
                len(query),
                len(text),
                len(both),
                len(both) / max(1, len(set(q))),
                len(both) / max(1, len(set(q) | set(t))),
                inside / max(1, len(q)),
                bool(q) and q[-1] in t,
                bool(q) and q[0] in t,
                query.lower() in text.lower(),
            )
        )
    return np.column_stack((np.array(rows, dtype=np.float64), letters, words)), letters


def on_scale(score: np.ndarray, grade: np.ndarray, train: np.ndarray) -> np.ndarray:
    """A score as a grade, by a line fit on train pairs."""
    return calibrate(score[train], grade[train]).grades(score)


def ours(
    rows: np.ndarray, grade: np.ndarray, names: list[str], parts: list[np.ndarray], seed: int
) -> np.ndarray:
    """Grades of the last part by trees trained on the first, stopped and calibrated on the second."""
    calibration, score = scored(rows, grade, names, parts, seed)
    return calibration.grades(score)


def scored(
    rows: np.ndarray, grade: np.ndarray, names: list[str], parts: list[np.ndarray], seed: int
) -> tuple[Calibration, np.ndarray]:
    """What ``ours`` is made of: the calibration, and raw scores of the last part."""
    train, held, asked = parts
    trees = train_trees(rows[train], grade[train], names, held=(rows[held], grade[held]), seed=seed)
    return calibrate(trees.predict(rows[held]), grade[held]), trees.predict(rows[asked])


def folds(rows: np.ndarray, grade: np.ndarray, names: list[str], query: np.ndarray, n: int) -> np.ndarray:
    """Cross-validated grades: every fold of queries by a model of the others, a tenth of which stops and calibrates."""
    rng = np.random.default_rng(0)
    fold = rng.permutation(query.max() + 1)[query] % n
    tenth = rng.permutation(query.max() + 1)[query] % 10 == 0
    out = np.empty(len(grade), dtype=np.float32)
    for k in range(n):
        parts = [
            np.flatnonzero((fold != k) & ~tenth),
            np.flatnonzero((fold != k) & tenth),
            np.flatnonzero(fold == k),
        ]
        out[parts[2]] = ours(rows, grade, names, parts, k)
    return out


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shop")
    parser.add_argument("--work", type=Path, default=Path("work/benchmark-relevance"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("--folds", type=int, default=0)
    a = parser.parse_args()
    shop, work = open_shop(a.shop), a.work
    pairs = usable_pairs(shop)
    rows, names = our_features(shop, pairs, work, a.vectors)
    grade = pairs["grade"].to_numpy()
    query = np.unique(pairs["query_text"].to_numpy(), return_inverse=True)[1]
    plain = [i for i, name in enumerate(names) if name not in NAMES]
    if a.folds:
        at = np.flatnonzero(pairs["split"].to_numpy() == "train")
        own = np.unique(query[at], return_inverse=True)[1]
        found = []
        for columns in (plain, list(range(len(names))))[: 1 + a.vectors]:
            told = folds(rows[np.ix_(at, columns)], grade[at], [names[i] for i in columns], own, a.folds)
            found.append(Graded(told, grade[at], own))
        print(f"{a.folds} folds of {len(at)} train pairs, {own.max() + 1} queries")
        for metric, measure, difference in METRICS:
            print(f"{metric:<10}ours {measure(found[0])}")
            if a.vectors:
                print(
                    f"{metric:<10}with vectors {measure(found[1])}  more {difference(found[1], found[0]).signed()}"
                )
        return 0
    seeds = range(a.seeds)
    splits = []
    for seed in seeds:  # pairs keep their row number, so that features are found again
        row = {(q, p): i for i, (q, p) in enumerate(pairs.select("query_id", "product_id").iter_rows())}
        splits.append(
            [
                np.array([row[x] for x in t.select("query_id", "product_id").iter_rows()])
                for t in training_pairs(shop, seed)
            ]
        )
    train = np.concatenate(splits[0])
    test = np.flatnonzero(pairs["split"].to_numpy() == "test")
    simple, letters = simple_features(shop, pairs)
    told: dict[str, list[np.ndarray]] = {
        "character n-grams": [on_scale(letters, grade, train)[test]],
        "BM25": [on_scale(rows[:, names.index("bm25")], grade, train)[test]],
        "yardstick": [
            HistGradientBoostingRegressor(max_iter=200, learning_rate=0.06, random_state=s)
            .fit(simple[train], grade[train])
            .predict(simple[test])
            for s in seeds
        ],
    }
    found = [scored(rows[:, plain], grade, [names[i] for i in plain], [*splits[s], test], s) for s in seeds]
    told["ours"] = [calibration.grades(score) for calibration, score in found]
    if a.vectors:
        told["ours, vectors"] = [ours(rows, grade, names, [*splits[s], test], s) for s in seeds]
    judged = {name: [Graded(t, grade[test], query[test]) for t in x] for name, x in told.items()}
    print(
        f"{shop.name}: {len(test)} test pairs of {len(np.unique(query[test]))} queries; trained on {len(train)} pairs"
    )
    first = {name: x[0] for name, x in judged.items()}
    for metric, measure, _ in METRICS:
        for name, x in judged.items():
            each = [measure(y).value for y in x]
            spread = f"  mean over {len(x)} seeds {np.mean(each):.4f} ({min(each):.4f} to {max(each):.4f})"
            print(f"{metric:<10}{name:<20}{measure(first[name])}{spread if len(x) > 1 else ''}")
    print(f"calibration of ours, mean grade: gap {grades.calibration_gap(first['ours'])}")
    calibration, score = found[0]
    for least in (2.0, 2.5, 3.0):
        chance = calibration.probability(score, least)
        rows_of = Graded(chance, (grade[test] >= least).astype(np.float64), query[test])
        share = f"said {chance.mean():.3f} on average, true of {rows_of.grade.mean():.3f}"
        print(f"calibration of ours, P(grade >= {least}): gap {grades.calibration_gap(rows_of)}, {share}")
    for name in ("ours, vectors", "character n-grams", "BM25", "yardstick"):
        if name in first:
            for metric, _, difference in METRICS:
                print(f"ours - {name:<20}{metric:<10}{difference(first['ours'], first[name]).signed()}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"relevance: {error}")
