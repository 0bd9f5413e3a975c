"""Mined hard negatives: for every query the wrong products that an earlier encoder takes for right. Offline, on disk.

The encoder that mines is the one before (as in ANCE, Xiong et al. 2021, with one refresh a stage); MOON
(2511.11305) takes products of the positive's category instead, which ``posttrain.category_hard`` does.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from moonshelf.arrays import best_columns
from moonshelf.errors import InputError
from moonshelf.progress import Progress
from moonshelf.training.pairs import SearchPairs
from moonshelf.workspace import file_digest

BLOCK = 512
_SCORES = 1 << 25  # most scores held at once, 128 MB: large shops take fewer queries at a time
_SCHEMA = pa.schema(
    [
        ("pair", pa.int64()),  # number of the query-product pair
        ("rank", pa.int32()),  # 1: the most alike of the negatives that were kept
        ("product", pa.int64()),  # product number
        ("cosine", pa.float32()),  # to the query
        ("positive", pa.float32()),  # cosine of the query to its own product
    ]
)


@dataclass(frozen=True, slots=True)
class Mined:
    """What mining found: pairs with and without negatives, negatives in all, those that the guard refused."""

    pairs: int
    empty: int
    negatives: int
    guarded: int

    def __str__(self) -> str:
        return (
            f"mined: {self.negatives:,} hard negatives for {self.pairs - self.empty:,} of {self.pairs:,} pairs "
            f"({self.guarded:,} taken for right ones)"
        )


def mine(
    queries: np.ndarray,
    products: np.ndarray,
    pairs: SearchPairs,
    out: Path,
    *,
    per_query: int = 4,
    guard: float = 0.05,
) -> Mined:
    """Write the ``per_query`` most alike wrong products of every pair to a Parquet file, query blocks at a time.

    A file of the same vectors, pairs and settings is left as it is.

    Products of the right designs are never negatives. Nor are those more alike than the query's own product by
    ``guard``: they are taken for right ones that nobody clicked. Ties go to the smaller product number, so
    the same vectors give the same file.

    Args:
        queries: ``[len(pairs), D]`` float32 unit rows, by pair; rows of NaN (unreadable queries) are left out.
        products: ``[len(pairs.products), D]`` float32 unit rows, by product number; likewise.
        pairs: what belongs together.
        out: the file, written whole or not at all.

    Raises:
        ValueError: other lengths.

    Cost: ``len(pairs) x products x D`` multiply-adds; memory 512 queries times all products, 32 million scores at most.
    """
    if len(queries) != len(pairs) or len(products) != len(pairs.products):
        raise ValueError(
            f"{queries.shape} and {products.shape} for {len(pairs)} pairs, {len(pairs.products)} products"
        )
    state = hashlib.sha256(np.ascontiguousarray(queries).data)
    state.update(np.ascontiguousarray(products).data)
    meta = {
        "pairs": pairs.fingerprint,
        "per_query": str(per_query),
        "guard": str(guard),
        "vectors": state.hexdigest()[:16],
    }
    held = _held(out, meta)
    if held is not None:
        return held
    everything = torch.arange(len(products))
    usable = np.isfinite(products).all(1)
    columns_of = np.ascontiguousarray(np.nan_to_num(products).T)
    empty = negatives = guarded = 0
    block = max(1, min(BLOCK, _SCORES // max(1, len(products))))
    temporary = out.with_name(f".{out.name}.partial")
    with (
        pq.ParquetWriter(temporary, _SCHEMA.with_metadata(meta)) as writer,
        Progress(len(pairs), "mine", "queries") as bar,
    ):
        for start in range(0, len(pairs), block):
            rows = np.arange(start, min(start + block, len(pairs)))
            scores = queries[rows] @ columns_of
            own = scores[np.arange(len(rows)), pairs.product_of[rows]]
            known = (
                usable[None] & usable[pairs.product_of[rows], None]
            )  # without its own product there is no measure
            wrong = pairs.masks(rows, everything)[1].numpy() & known & np.isfinite(scores)
            close = wrong & (scores > own[:, None] + guard)
            guarded += int(close.sum())
            scores = np.where(wrong & ~close, scores, -np.inf)
            top = best_columns(scores, min(per_query, len(products)))
            found = np.take_along_axis(scores, top, axis=1)
            there = np.isfinite(found)
            empty += int((~there.any(1)).sum())
            negatives += int(there.sum())
            at, rank = np.nonzero(there)
            columns = [rows[at], (rank + 1).astype(np.int32), top[there], found[there], own[at]]
            writer.write_table(pa.table(columns, schema=_SCHEMA))
            bar.advance(len(rows))
        found_all = Mined(len(pairs), empty, negatives, guarded)
        writer.add_key_value_metadata({"mined": json.dumps(asdict(found_all))})
    temporary.replace(out)
    return found_all


def _held(path: Path, meta: dict[str, str]) -> Mined | None:
    """What an earlier run found with the same vectors and settings."""
    try:
        marks = {
            k.decode(): v.decode()
            for k, v in (pq.read_metadata(path).metadata or {}).items()
            if k != b"ARROW:schema"
        }
        return Mined(**json.loads(marks["mined"])) if meta.items() <= marks.items() else None
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None  # none, or damaged: it is written anew


def mined_mark(path: str) -> str:
    """What identifies a file of mined negatives: its bytes, wherever it lies; "" for none."""
    return file_digest(Path(path)) if path else ""


def load_mined(path: Path, pairs: SearchPairs) -> np.ndarray:
    """``[len(pairs), K]`` int64 product numbers, most alike first, -1 where there are fewer.

    Raises:
        InputError: no such file, damaged, or mined for other pairs.
    """
    try:
        table = pq.read_table(path)
        marks = table.schema.metadata or {}
        wide = int(marks[b"per_query"])
        fits = marks[b"pairs"] == pairs.fingerprint.encode()
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise InputError(
            "the mined negatives cannot be read", where=str(path), mend="mine them again"
        ) from error
    if not fits:
        raise InputError(
            "these negatives were mined for other searches or products",
            where=str(path),
            mend="mine them again",
        )
    found = np.full((len(pairs), wide), -1, dtype=np.int64)
    found[table["pair"].to_numpy(), table["rank"].to_numpy() - 1] = table["product"].to_numpy()
    return found
