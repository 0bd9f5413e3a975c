"""The relevance model: grades and reasons for a query and products, in a folder that needs no pickle. Our design."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf.errors import InputError
from moonshelf.relevance.asked import Asked, ask
from moonshelf.relevance.calibrate import Calibration
from moonshelf.relevance.catalogue import Catalogue
from moonshelf.relevance.features import pair_features
from moonshelf.relevance.goods import Goods, goods_of
from moonshelf.relevance.lexicon import Lexicon
from moonshelf.relevance.ragged import Ragged
from moonshelf.relevance.reasons import reasons
from moonshelf.relevance.trees import Trees
from moonshelf.relevance.vectors import NAMES, ShelfVectors
from moonshelf.relevance.words import read_text
from moonshelf.workspace import read_manifest, write_json

STAGE = "relevance"
FORMAT = 2
WORDS, ARRAYS, TREES = "words.json", "arrays.npz", "trees.txt"
Which = Sequence[str] | np.ndarray | Goods
_AGAIN = "train it again with: moonshelf relevance train"
_UNZIP = (zipfile.BadZipFile, zlib.error)


class RelevanceModel:
    """Grades products for a query. Make one with ``train.train_relevance``, open one with ``open_relevance``.

    Products are named by id, by row number of the catalogue it was trained on, or, when the model does not know
    them, given as what ``read`` makes of a products table.

    Args:
        vectors: needed when the model was trained with them.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        trees: Trees,
        calibration: Calibration,
        vectors: ShelfVectors | None = None,
    ) -> None:
        self.catalogue, self.trees, self.calibration, self.vectors = catalogue, trees, calibration, vectors
        self._ask = lru_cache(maxsize=8)(self._read_query)

    def grades(self, query: str, which: Which) -> np.ndarray:
        """Mean grade that a judge would give, ``[n]`` float32, on the scale of the training table.

        Raises:
            InputError: the query has no text, or an id is not in the catalogue.

        Cost: about 30 ms for 200 products of a catalogue of 50,000, most of it reading the query, which is kept.
        """
        return self.calibration.grades(self.scores(query, which))

    def probability(self, query: str, which: Which, threshold: float) -> np.ndarray:
        """``P(grade >= threshold)``, ``[n]`` float32; to filter candidates with. Errors and cost as ``grades``."""
        return self.calibration.probability(self.scores(query, which), threshold)

    def scores(self, query: str, which: Which) -> np.ndarray:
        """Raw scores of the trees, ``[n]`` float64."""
        asked, vector = self._asked(query)
        return self.trees.predict(
            feature_rows(asked, self.goods(which), self.catalogue, self.vectors, vector)
        )

    def reasons(self, query: str, which: Which) -> list[str]:
        """A line a product: ``matches 'linen', 'dress'; not '12 in' (has 10in)``. Errors as ``grades``."""
        return reasons(self._asked(query)[0], self.goods(which), self.catalogue)

    def read(self, products: pl.DataFrame) -> Goods:
        """Products that the model does not know (or knows with other texts), from a products table in normal form."""
        titles = [read_text(title or "") for title in products["title"].to_list()]
        return goods_of(products, self.catalogue.lexicon, [*self.catalogue.goods.fields], titles)

    def knows_one_of(self, product_ids: Sequence[str]) -> bool:
        """Whether at least one of these products was in the shop it was trained on."""
        return any(product_id in self.catalogue.row for product_id in product_ids)

    def goods(self, which: Which) -> Goods:
        """The products meant by ids, row numbers or goods."""
        if isinstance(which, Goods):
            return which
        if isinstance(which, np.ndarray) and which.dtype.kind in "iu":
            if len(which) and not 0 <= int(which.min()) <= int(which.max()) < len(self.catalogue.goods):
                raise InputError(
                    f"row numbers outside 0 to {len(self.catalogue.goods) - 1}",
                    mend="use rows of the catalogue",
                )
            return self.catalogue.goods.take(which)
        ids = [str(x) for x in which]
        unknown = [x for x in ids if x not in self.catalogue.row]
        if unknown:
            raise InputError(
                f"{len(unknown)} of {len(ids)} products are not in the model's catalogue, e.g. {unknown[0]}",
                mend="give them as model.read(products table), or train on a shop that has them",
            )
        return self.catalogue.goods.take(np.array([self.catalogue.row[x] for x in ids], dtype=np.int64))

    def _asked(self, query: str) -> tuple[Asked, np.ndarray | None]:
        if not query.strip():
            raise InputError("the query is empty", mend="give a query with text")
        return self._ask(query)

    def _read_query(self, query: str) -> tuple[Asked, np.ndarray | None]:
        vector = None if self.vectors is None else self.vectors.embed([query])[0]
        return ask(query, self.catalogue), vector

    def save(self, folder: Path) -> None:
        """Write the model's files into an existing folder; the manifest is the caller's."""
        c, goods = self.catalogue, self.catalogue.goods
        write_json(
            folder / WORDS,
            {
                "format": FORMAT,
                "products": c.lexicon.products,
                "vectors": None if self.vectors is None else self.vectors.version,
                "fields": [*goods.fields],
                "words": c.lexicon.words[1:],
                "product_ids": goods.product_ids,
            },
        )
        arrays = {
            "counts": c.lexicon.counts[1:],
            "factors": c.factors,
            "vectors": c.vectors,
            "head": goods.head,
        }
        for name, lists in {"title": goods.titles, **goods.fields}.items():
            arrays |= {f"{name}.start": lists.start, f"{name}.value": lists.value}
        k = self.calibration
        arrays |= {"held.score": k.score, "held.grade": k.grade, "line": np.array([k.slope, k.level])}
        np.savez_compressed(folder / ARRAYS, allow_pickle=False, **arrays)
        self.trees.save(folder / TREES)


def feature_rows(
    asked: Asked,
    goods: Goods,
    catalogue: Catalogue,
    vectors: ShelfVectors | None = None,
    vector: np.ndarray | None = None,
) -> np.ndarray:
    """All features of a query against products, ``[n, F]`` float32, in the order of ``feature_names``."""
    rows = np.stack([*pair_features(asked, goods, catalogue).values()], axis=1)
    if vectors is not None and vector is not None:
        rows = np.concatenate((rows, vectors.features(vector, goods.product_ids)), axis=1)
    # sums in another order (other candidates, another machine) must not fall on the other side of a tree's threshold
    return np.round(rows, 4)


def feature_names(catalogue: Catalogue, vectors: bool) -> list[str]:
    """Names of the columns of ``feature_rows``."""
    nothing = catalogue.goods.take(np.empty(0, dtype=np.int64))
    return [*pair_features(ask("", catalogue), nothing, catalogue), *(NAMES if vectors else ())]


def open_relevance(path: str | Path, vectors: ShelfVectors | None = None) -> RelevanceModel:
    """Open a model: a work folder, or the stage's folder.

    Args:
        vectors: the shelf and encoder, for a model that was trained with vectors.

    Raises:
        InputError: there is no model, a file of it is missing or damaged, LightGBM is missing, or its vectors are not
            those given.
    """
    folder, _ = _found(path)
    try:
        info: dict[str, Any] = json.loads((folder / WORDS).read_text())
        if info.get("format") != FORMAT:
            raise InputError(f"the model has format {info.get('format')}", where=str(folder), mend=_AGAIN)
        with (folder / ARRAYS).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        lexicon = Lexicon(info["words"], held["counts"], info["products"])
        lists = {
            name: Ragged(held[f"{name}.start"], held[f"{name}.value"]) for name in ("title", *info["fields"])
        }
        goods = Goods(info["product_ids"], lists.pop("title"), held["head"], lists)
        slope, level = (float(x) for x in held["line"])
        calibration = Calibration(held["held.score"], held["held.grade"], slope, level)
        catalogue = Catalogue(lexicon, goods, held["factors"], held["vectors"])
        _check_sizes(catalogue, calibration)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, *_UNZIP) as error:
        raise InputError("the relevance model is damaged", where=str(folder), mend=_AGAIN) from error
    _check_vectors(info.get("vectors"), vectors, folder)
    trees = Trees.load(folder / TREES)
    if trees.names != feature_names(catalogue, vectors is not None):
        raise InputError("the model knows other features than this version", where=str(folder), mend=_AGAIN)
    return RelevanceModel(catalogue, trees, calibration, vectors)


def trained_on(path: str | Path) -> str:
    """Fingerprint of the shop that a model was trained on. Errors as ``open_relevance``."""
    return str(_found(path)[1]["inputs"]["shop"])


def reads_vectors(path: str | Path) -> bool:
    """Whether a model needs a shelf and its encoder. Errors as ``open_relevance``."""
    return _found(path)[1]["inputs"]["encoder"] is not None


def _found(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Folder and manifest of a model."""
    given = Path(path)
    folder = next((p for p in (given, given / STAGE) if (p / WORDS).is_file()), None)
    manifest = read_manifest(folder) if folder is not None else None
    if folder is None or manifest is None or manifest.get("stage") != STAGE:
        raise InputError(
            "there is no relevance model here",
            where=str(given),
            mend="make one with: moonshelf relevance train SHOP --work DIR",
        )
    if not {"shop", "encoder"} <= (manifest.get("inputs") or {}).keys():
        raise InputError("the relevance model is damaged", where=str(folder), mend=_AGAIN)
    return folder, manifest


def _check_sizes(catalogue: Catalogue, calibration: Calibration) -> None:
    words, goods = len(catalogue.lexicon), catalogue.goods
    lists = (goods.titles, *goods.fields.values())
    whole = (
        len(catalogue.lexicon.counts) == len(catalogue.factors) == len(catalogue.vectors) == words
        and all(len(x) == len(goods) == len(goods.head) for x in lists)
        and all(x.start[-1] == len(x.value) and x.value.max(initial=0) < words for x in lists)
        and len(calibration.score) == len(calibration.grade) > 0
    )
    if not whole:
        raise ValueError("files of different sizes")


def _check_vectors(trained: str | None, given: ShelfVectors | None, folder: Path) -> None:
    if trained == (None if given is None else given.version):
        return
    if given is None:
        what, mend = (
            f"the model needs vectors of encoder {trained}",
            "name them with --shelf DIR --encoder PATH",
        )
    elif trained is None:
        what, mend = "the model was trained without vectors", "leave out --shelf and --encoder"
    else:
        what, mend = f"the model needs vectors of encoder {trained}, not {given.version}", _AGAIN
    raise InputError(what, where=str(folder), mend=mend)
