"""Training on a shop's judged pairs, and grading a table of pairs."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import polars as pl

from moonshelf.errors import InputError
from moonshelf.progress import Progress, say
from moonshelf.relevance.asked import ask
from moonshelf.relevance.calibrate import calibrate
from moonshelf.relevance.catalogue import Catalogue
from moonshelf.relevance.goods import Goods, goods_of, lexicon_of, read_titles, used_fields
from moonshelf.relevance.latent import title_factors, word_vectors
from moonshelf.relevance.model import STAGE, TREES, RelevanceModel, feature_names, feature_rows
from moonshelf.relevance.trees import library, train_trees
from moonshelf.relevance.vectors import ShelfVectors
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import plain_text
from moonshelf.workspace import atomic_folder, write_manifest

LATENT, MEANING = 100, 64
HELD_OUT = 0.1
_LEAST = 20  # pairs to train on, and two to calibrate on; fewer tell nothing


def train_relevance(
    shop: Shop, folder: Path, *, vectors: ShelfVectors | None = None, seed: int = 0
) -> RelevanceModel:
    """Train on the table ``relevance`` and write the model into ``folder``, whole or not at all.

    Latent spaces come from the titles alone; trees from train pairs; when to stop and the calibration
    from val queries, or from a tenth of the train queries when there is no val split.

    Raises:
        InputError: no table, no usable pairs, all grades are equal, or LightGBM is missing.

    Cost: 8 to 15 ms a query for 50,000 products, then under a minute of trees for 50,000 pairs.
    """
    begun = time.monotonic()
    library()  # said before the long work
    train, held = training_pairs(shop, seed)
    catalogue = read_catalogue(shop, seed)
    names = feature_names(catalogue, vectors is not None)
    both = pl.concat((train, held))
    rows = pair_rows(both, shop, catalogue, vectors, "relevance: read training pairs", fresh=True)
    grade = both["grade"].to_numpy()
    n = len(train)
    say(f"relevance: training trees on {n} pairs")
    trees = train_trees(rows[:n], grade[:n], names, held=(rows[n:], grade[n:]), seed=seed)
    calibration = calibrate(trees.predict(rows[n:]), grade[n:])
    model = RelevanceModel(catalogue, trees, calibration, vectors)
    with atomic_folder(folder, (TREES,)) as out:
        model.save(out)
        write_manifest(
            out,
            stage=STAGE,
            inputs={"shop": shop.fingerprint, "encoder": None if vectors is None else vectors.version},
            config={"latent": LATENT, "meaning": MEANING, "features": names},
            seed=seed,
            seconds=time.monotonic() - begun,
            metrics={"pairs": n, "held_out_pairs": len(held), "trees": trees.count, "gains": trees.gains()},
        )
    return model


def read_catalogue(shop: Shop, seed: int) -> Catalogue:
    """Words of a shop's products, latent vectors and postings of their titles; no grade is looked at."""
    products = shop.products
    if products is None or not len(products):
        raise InputError("there are no products", where=shop.name, mend="add the table products")
    titles = read_titles(products)
    if not any(text.words for text in titles):
        raise InputError("no product has a title", where=shop.name, mend="add the column title to products")
    fields = used_fields(products)
    lexicon = lexicon_of(titles, products, fields)
    goods = goods_of(products, lexicon, fields, titles)
    say("relevance: learning which words go together")
    factors = title_factors(goods.titles, lexicon.idf, LATENT, seed=seed)
    return Catalogue(lexicon, goods, factors, word_vectors(goods.titles, lexicon.counts, MEANING, seed=seed))


def usable_pairs(shop: Shop) -> pl.DataFrame:
    """The judged pairs that have a query with text, a finite grade and a product of the shop.

    Raises:
        InputError: there is no table, or no pair is left.
    """
    table = shop.relevance
    if table is None:
        raise InputError(
            "the shop has no judged pairs",
            where=shop.name,
            mend="add the table relevance: query_id, query_text, product_id, grade",
        )
    if not len(table):
        raise InputError(
            "every row of the table relevance was rejected, or it has none",
            where=shop.name,
            mend="moonshelf check SHOP says why",
        )
    asked = pl.col("query_text").fill_null("").str.strip_chars() != ""
    known = pl.col("product_id").is_in([] if shop.products is None else shop.products["product_id"].to_list())
    graded = pl.col("grade").is_finite().fill_null(False)
    left_out = []
    for keep, what in (
        (asked, "an empty query"),
        (graded, "no finite grade"),
        (known, "a product not in the shop"),
    ):
        left = table.filter(keep)
        if len(left) < len(table):
            left_out.append(f"{len(table) - len(left)} have {what}")
        table = left
    if not len(table):
        raise InputError(
            f"no judged pair can be used: {', '.join(left_out)}",
            where=shop.name,
            mend="mend the table relevance",
        )
    for what in left_out:
        say(f"relevance: judged pairs left out: {what}")
    return table


def training_pairs(shop: Shop, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Pairs to train on, and pairs of other queries to stop and calibrate on.

    A query of val or test (by id or text) is never trained on, nor one of test held out.

    Raises:
        InputError: there are too few pairs, or the grades to train on or to calibrate on are all equal.
    """
    pairs = usable_pairs(shop).with_columns(
        pl.col("query_text").map_elements(plain_text, return_dtype=pl.String).alias("key")
    )
    parts = {name: pairs.filter(pl.col("split") == name) for name in ("train", "val", "test")}
    val = _without(parts["val"], parts["test"])
    train = _without(_without(parts["train"], parts["test"]), val)
    repeated = len(parts["train"]) + len(parts["val"]) - len(train) - len(val)
    if repeated:
        say(f"relevance: {repeated} pairs left out: their query is also in val or test")
    made = not len(val)
    if made:
        keys = train["key"].unique().sort()
        chosen = np.random.default_rng(seed).permutation(len(keys))[: max(1, round(HELD_OUT * len(keys)))]
        val = train.filter(pl.col("key").is_in(keys[np.sort(chosen)].to_list()))
        train = _without(train, val)
    if len(train) < _LEAST or len(val) < 2:
        raise InputError(
            f"too few judged pairs: {len(train)} to train on, {len(val)} to calibrate on"
            + (f", {repeated} left out because their query is also in val or test" if repeated else ""),
            where=shop.name,
            mend=f"judge more queries; {_LEAST} pairs of train and 2 of val are the least",
        )
    for pairs, what in ((train, "train"), (val, "the queries held out of train" if made else "val")):
        if pairs["grade"].n_unique() < 2:
            raise InputError(
                f"all grades are equal in {what}",
                where=shop.name,
                mend="give judged pairs of at least two grades",
            )
    return train, val


def _without(pairs: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    ids, keys = others["query_id"].unique().to_list(), others["key"].unique().to_list()
    return pairs.filter(~pl.col("query_id").is_in(ids) & ~pl.col("key").is_in(keys))


def pair_rows(
    pairs: pl.DataFrame,
    shop: Shop,
    catalogue: Catalogue,
    vectors: ShelfVectors | None,
    label: str,
    *,
    fresh: bool = False,
) -> np.ndarray:
    """Features ``[n, F]`` float32 of pairs, in their order. Every product must be one of the shop's.

    Products that the catalogue does not have, or has with other words, are read from the shop.

    Args:
        fresh: the catalogue was read from this very shop just now.
    """
    lexicon, known = catalogue.lexicon, catalogue.goods
    others = None
    if shop.products is not None and not fresh:
        table = shop.products.filter(pl.col("product_id").is_in(pairs["product_id"].unique().to_list()))
        others = _changed(goods_of(table, lexicon, [*known.fields]), catalogue)
        if others is not None:
            say(f"relevance: {len(others)} products are new to the model or have changed; read from the shop")
    place = {} if others is None else {p: i for i, p in enumerate(others.product_ids)}
    out: np.ndarray | None = None
    groups = pairs.with_row_index("at").group_by("query_text", maintain_order=True).agg("at", "product_id")
    texts = groups["query_text"].to_list()
    queries = None if vectors is None else vectors.embed(texts)
    with Progress(len(texts), label, "queries") as progress:
        for i, (text, at, ids) in enumerate(groups.iter_rows()):
            asked, own = ask(text, catalogue), np.array(at)
            inside = np.array([p not in place for p in ids])
            for goods, row, chosen in ((known, catalogue.row, inside), (others, place, ~inside)):
                if goods is None or not chosen.any():
                    continue
                numbers = np.array([row[p] for p, c in zip(ids, chosen, strict=True) if c], dtype=np.int64)
                vector = None if queries is None else queries[i]
                rows = feature_rows(asked, goods.take(numbers), catalogue, vectors, vector)
                out = np.empty((len(pairs), rows.shape[1]), dtype=np.float32) if out is None else out
                out[own[chosen]] = rows
            progress.advance()
    assert out is not None
    return out


def _changed(now: Goods, catalogue: Catalogue) -> Goods | None:
    """Those of some products whose words are not those of the catalogue; None where all are."""
    held = catalogue.goods

    def same(i: int, at: int) -> bool:
        lists = [(now.titles, held.titles), *((now.fields[f], held.fields[f]) for f in held.fields)]
        return all(np.array_equal(a.part(i), b.part(at)) for a, b in lists)

    strange = [
        i
        for i, product in enumerate(now.product_ids)
        if product not in catalogue.row or not same(i, catalogue.row[product])
    ]
    return now.take(np.array(strange, dtype=np.int64)) if strange else None


def grade_pairs(model: RelevanceModel, pairs: pl.DataFrame, shop: Shop) -> np.ndarray:
    """Grades ``[n]`` float32 of a table of pairs (query_text, product_id) of a shop.

    Raises:
        InputError: the model shares no product with the shop.
    """
    ids = [] if shop.products is None else shop.products["product_id"].to_list()
    if not any(p in model.catalogue.row for p in ids):
        raise InputError(
            "the model was trained on another shop: they share no product",
            where=shop.name,
            mend="train one for this shop with: moonshelf relevance train",
        )
    rows = pair_rows(pairs, shop, model.catalogue, model.vectors, "relevance: grade pairs")
    return model.calibration.grades(model.trees.predict(rows))
