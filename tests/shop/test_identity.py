"""The same data is the same shop, however it lies in memory."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shop.identity import data_digest

INDEX = pl.DataFrame({"image_id": ["a"], "status": ["ok"], "sha256": ["0" * 64]})
ROWS = st.lists(
    st.tuples(
        st.none() | st.text(max_size=5), st.none() | st.floats(allow_nan=False), st.lists(st.text(max_size=3))
    ),
    min_size=2,
    max_size=20,
)


def frame_of(rows: list[tuple[str | None, float | None, list[str]]]) -> pl.DataFrame:
    return pl.DataFrame(
        rows, schema={"title": pl.String, "price": pl.Float64, "image_ids": pl.List(pl.String)}, orient="row"
    )


@given(ROWS, st.data())
def test_the_digest_does_not_depend_on_pieces_or_on_what_lies_under_nulls(
    rows: list[tuple[str | None, float | None, list[str]]], data: st.DataObject
) -> None:
    whole = frame_of(rows)
    cut = data.draw(st.integers(1, len(rows) - 1))
    pieces = pl.concat([frame_of(rows[:cut]), frame_of(rows[cut:])], rechunk=False)
    hidden = whole.with_columns(  # other bytes under the nulls
        price=pl.when(whole["price"].is_null()).then(pl.lit(None)).otherwise(pl.col("price").fill_null(7.0))
    )
    sieved = pl.concat([whole, whole]).with_row_index().filter(pl.col("index") < len(rows)).drop("index")
    digests = {data_digest({"products": f}, INDEX) for f in (whole, pieces, hidden, sieved)}
    assert len(digests) == 1
    other = whole.with_columns(title=pl.lit("another title"))
    assert data_digest({"products": other}, INDEX) not in digests
