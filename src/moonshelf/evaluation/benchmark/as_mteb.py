"""The benchmark's retrieval directions as tasks of ``mteb``, and any embedding function as one of its models.

For comparing in that library's own tables. Written against mteb 2.26 (``pip install mteb``, which is not a dependency
of ours; not ``mteb[image]``, which brings torchvision). Its recall@k is the share of right products found, ours whether
any is: with one right product a query they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from moonshelf.errors import InputError
from moonshelf.evaluation.benchmark.directions import Direction
from moonshelf.evaluation.benchmark.embedders import Embed
from moonshelf.evaluation.benchmark.inputs import Source, load
from moonshelf.shop.shop import Shop
from moonshelf.types import Shown

_CODE = {"text": "t", "image": "i", "joint": "it"}
_COLUMN = {"t": "text", "i": "image"}


def as_task(direction: Direction, shop: Shop, *, languages: Sequence[str] = ("eng-Latn",)) -> Any:
    """An ``mteb`` retrieval task of one direction; masked rows cannot be told to mteb and count as wrong.

    Args:
        direction: of ``build_directions``.
        shop: where its photos are; they are decoded when the task is loaded, all of them.
        languages: of the texts, in mteb's codes.

    Raises:
        InputError: mteb is not installed.
    """
    _require()
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    query, against = _CODE[direction.query], _CODE[direction.against]
    title = f"{shop.name}-{direction.name.replace('>', '-to-')}"

    class Task(AbsTaskRetrieval):  # type: ignore[misc]
        k_values = (1, 5, 10)
        metadata = TaskMetadata(
            name=title,
            description=f"moonshelf's direction {direction.name} of the shop {shop.name}",
            type="Any2AnyRetrieval",
            category=f"{query}2{against}",
            modalities=sorted({_COLUMN[c] for c in query + against}),
            dataset={"path": f"local/{title}", "revision": shop.fingerprint},
            eval_splits=["test"],
            eval_langs=list(languages),
            main_score="recall_at_10",
        )

        def load_data(self, num_proc: int | None = None, **_: Any) -> None:
            if getattr(self, "data_loaded", False):
                return
            right = {f"q{i}": {f"d{row}": 1 for row in rows} for i, rows in enumerate(direction.positives)}
            data = {
                "queries": _table(direction.queries, "q", query, shop),
                "corpus": _table(direction.gallery, "d", against, shop),
                "relevant_docs": right,
                "top_ranked": None,
            }
            self.dataset = {"default": {"test": data}}
            self.data_loaded = True

    return Task()


def as_model(embed: Embed, name: str = "moonshelf/encoder", revision: str = "1") -> Any:
    """An embedding function as an ``mteb`` model (cosine).

    Raises:
        InputError: mteb is not installed.
    """
    _require()
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    class Model(AbsEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            about = {"name": name, "revision": revision, "modalities": ["text", "image"]}
            self.mteb_model_meta = ModelMeta.create_empty(
                {**about, "similarity_fn_name": ScoringFunction.COSINE}
            )

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:
            rows = []
            for batch in inputs:
                n = len(batch["image"] if "image" in batch else batch["text"])
                texts, images = batch.get("text") or [None] * n, batch.get("image") or [None] * n
                shown = [
                    Shown(text or None, None if image is None else image.convert("RGB"))
                    for text, image in zip(texts, images, strict=True)
                ]
                rows.append(np.asarray(embed(shown), dtype=np.float32))
            return np.concatenate(rows)

    return Model()


def _table(sources: Sequence[Source], prefix: str, code: str, shop: Shop) -> Any:
    """A ``datasets.Dataset`` with ``id`` and the columns of a side."""
    from datasets import Dataset, Features, Image, Value

    kinds = {"text": Value("string"), "image": Image()}
    columns = {"id": Value("string"), **{_COLUMN[c]: kinds[_COLUMN[c]] for c in sorted(code, reverse=True)}}
    rows = []
    for start in range(0, len(sources), 64):
        for i, one in enumerate(load(sources[start : start + 64], shop), start):
            # a copy has no file format, and is kept without loss; a JPEG would be pressed again
            image = None if one.image is None else one.image.copy()
            row = {"id": f"{prefix}{i}", "text": one.text or "", "image": image}
            rows.append({column: row[column] for column in columns})
    return Dataset.from_list(rows, features=Features(columns))


def _require() -> None:
    try:
        import mteb
    except ImportError as error:
        raise InputError("mteb is not installed", mend="pip install 'mteb>=2.26,<3'") from error
    if int(mteb.__version__.split(".")[0]) < 2:
        raise InputError(f"mteb {mteb.__version__} is too old", mend="pip install 'mteb>=2.26,<3'")
