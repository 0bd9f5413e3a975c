"""The creatives that may be compared: of one test (or of one product), on one side of the split, soundly randomised.

Whatever is left out is counted with its reason. The test side is never touched: where a test lies in two splits, or a
creative of a training test is shown again in a held-out one, the training side gives way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from moonshelf.errors import InputError, TooLittleData
from moonshelf.shop.schema import SHOWN_IMAGE
from moonshelf.shop.shop import Shop
from moonshelf.shop.splits import hash_split, plain_text
from moonshelf.types import SPLITS

FAULTY = "faulty_randomisation"  # column beside the contract: True where the randomisation of the test failed
NEEDED = ("creative_id", "impressions", "clicks")
Apart = Literal["look", "words", "picture", ""]
_ALONE = "alone in its test"
_RANK = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class Logged:
    """Creatives in the order of their table.

    Attributes:
        frame: the columns of the contract and

            * ``group`` -- what is compared with one another: ``t:`` and the test, else ``p:`` and the product;
            * ``look`` -- equal for creatives that look the same: their picture (near duplicates too) and their words;
            * ``picture``, ``words`` -- the two halves of it, null where there is none;
            * ``title``, ``category`` -- of the product, "" without one; ``queries`` is never null;
            * ``split`` -- filled.
        left: creatives that take no part, by reason.
        how: how the splits came about: ``explicit`` or ``hash``.
    """

    frame: pl.DataFrame
    left: Mapping[str, int] = field(default_factory=dict)
    how: str = "explicit"

    def __len__(self) -> int:
        return len(self.frame)

    def part(self, split: str) -> Logged:
        """The creatives of one split."""
        return Logged(self.frame.filter(pl.col("split") == split), self.left, self.how)


def from_shop(shop: Shop, *, apart: Apart = "look") -> Logged:
    """The creatives of a shop, with titles and categories of its products; see :func:`from_log`.

    A creative without queries gets the most frequent ones of its product (:func:`top_queries`). Pictures that the
    shop does not have count by their ids, so that pairs of words beside one picture are found.

    Raises:
        TooLittleData: the shop has no creatives.
    """
    if shop.creatives is None or not len(shop.creatives):
        raise TooLittleData("there are no creatives", where=shop.name, mend="add the table creatives")
    groups: dict[str, int] = dict(
        shop.images.table.filter(status="ok").select("image_id", "near_group").iter_rows()
    )
    logged = from_log(shop.creatives, products=shop.products, pictures=groups, apart=apart)
    asked = top_queries(shop)
    queries = [
        own or asked.get(product, [])
        for own, product in logged.frame.select("queries", "product_id").iter_rows()
    ]
    filled = pl.Series("queries", queries, dtype=pl.List(pl.String))
    return Logged(logged.frame.with_columns(filled), logged.left, logged.how)


def from_log(
    log: pl.DataFrame,
    *,
    products: pl.DataFrame | None = None,
    pictures: Mapping[str, int] | None = None,
    apart: Apart = "look",
    seed: int = 0,
) -> Logged:
    """Creatives of any log, ready to be compared.

    Args:
        log: a row a creative: ``creative_id``, ``impressions``, ``clicks``, one of ``image_id`` and ``text``, one of
            ``test_id`` and ``product_id``; ``queries``, ``split`` and ``faulty_randomisation`` where there are.
        products: with ``product_id``, ``title``, ``category``.
        pictures: image id -> number that near duplicates share (``near_group`` of the shop's audit).
        apart: leave out tests of train with a creative whose look (or ``words``, or ``picture``) comes up in val or
            test again, and of val those of test: a story is often tested twice. "": leave them in.
        seed: of the hash that splits by group where the log has no split.

    Raises:
        InputError: a column is missing.
    """
    missing = [name for name in NEEDED if name not in log.columns]
    if (
        missing
        or not {"image_id", "text"} & set(log.columns)
        or not {"test_id", "product_id"} & set(log.columns)
    ):
        raise InputError(
            f"the log of creatives lacks {', '.join(missing) or 'image_id or text, test_id or product_id'}",
            mend="a row is a creative with its counts, its image or text, its test or product",
        )
    left: dict[str, int] = {}
    frame = _filled(log, products, pictures or {})

    def leave(bad: pl.Expr, why: str) -> None:
        nonlocal frame
        found = frame.select(bad.fill_null(False).alias("bad"))["bad"]
        if found.any():
            left[why] = int(found.sum())
            frame = frame.filter(~found)

    if FAULTY in frame.columns:
        frame = frame.with_columns(_flags(frame[FAULTY]))
        leave(pl.col(FAULTY), "of a test with faulty randomisation")
    leave(pl.col("group").is_null(), "of no test and no product")
    leave(pl.col("look").is_null(), "without picture and text")
    leave(pl.col("impressions") <= 0, "never shown")
    leave(pl.col("clicks") > pl.col("impressions"), "more clicks than impressions")
    how = "explicit" if frame["split"].is_not_null().any() else "hash"
    if how == "hash":
        known = {g: hash_split(g, seed) for g in frame["group"].unique().to_list()}
        frame = frame.with_columns(
            pl.col("group").replace_strict(known, return_dtype=pl.String).alias("split")
        )
    leave(pl.col("split").is_null() | ~pl.col("split").is_in(SPLITS), "without a split")
    rank = pl.col("split").replace_strict(_RANK, return_dtype=pl.Int64)
    leave(rank < rank.max().over("group"), "of a test that lies in a more protected split too")
    if apart:
        again = pl.col(apart).is_not_null() & (rank < rank.max().over(apart))
        frame = frame.with_columns(again.alias("again"))  # a window inside a window is not what it seems
        leave(pl.col("again").any().over("group"), "of a test with a creative of a more protected split")
        frame = frame.drop("again")
    leave(pl.len().over("group") < 2, _ALONE)
    return Logged(frame, left, how)


def _flags(column: pl.Series) -> pl.Series:
    """Yes or no, whatever a file made of it; empty cells are no."""
    if column.dtype != pl.String:
        return column.cast(pl.Boolean).fill_null(False)
    said = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}
    words = column.fill_null("").str.strip_chars().str.to_lowercase()
    strange = words.filter(~words.is_in(list(said)))
    if len(strange):
        raise InputError(
            f"{strange[0]!r} is neither yes nor no", where=f"column {column.name}", mend="write true or false"
        )
    return words.replace_strict(said, return_dtype=pl.Boolean).alias(column.name)


def having(logged: Logged, column: Literal["words", "image_id"], why: str) -> Logged:
    """Those that have it; the others, and who is alone without them, are counted as left out."""
    frame, left = logged.frame.filter(pl.col(column).is_not_null()), dict(logged.left)
    if len(frame) == len(logged):
        return logged
    left[why] = len(logged) - len(frame)
    whole = frame.filter(pl.len().over("group") > 1)
    if len(whole) < len(frame):
        left[_ALONE] = left.get(_ALONE, 0) + len(frame) - len(whole)
    return Logged(whole, left, logged.how)


def pooled(
    logged: Logged, by: Literal["words", "picture", "look"] = "words", *, alone: bool = False
) -> Logged:
    """Creatives of one test that are equal in ``by`` as one, with their counts together: a headline with many pictures.

    The first of them stands for all. Tests that are left with one are left out, unless ``alone``: nothing can be
    compared there, but how well a headline did among other tests says something, too.
    """
    frame = logged.frame.filter(pl.col(by).is_not_null())
    counts = [pl.col(c).sum().over("group", by) for c in ("impressions", "clicks")]
    frame = frame.with_columns(counts).unique(["group", by], keep="first", maintain_order=True)
    if not alone:
        frame = frame.filter(pl.len().over("group") > 1)
    return Logged(frame, logged.left, logged.how)


def _filled(log: pl.DataFrame, products: pl.DataFrame | None, pictures: Mapping[str, int]) -> pl.DataFrame:
    """Every column that is read later, and the keys."""
    texts = ("image_id", "text", "test_id", "product_id", "split")
    frame = log.with_columns(
        [pl.lit(None, pl.String).alias(c) for c in texts if c not in log.columns]
        + [pl.lit(None, pl.List(pl.String)).alias(c) for c in ("queries",) if c not in log.columns]
    ).drop("title", "category", strict=False)
    if products is not None:
        named = products.select(
            "product_id",
            *(
                pl.col(c) if c in products.columns else pl.lit(None, pl.String).alias(c)
                for c in ("title", "category")
            ),
        )
        frame = frame.join(named, on="product_id", how="left", maintain_order="left")
    else:
        frame = frame.with_columns(pl.lit("").alias("title"), pl.lit("").alias("category"))
    shown = pl.coalesce("image_id", SHOWN_IMAGE) if SHOWN_IMAGE in frame.columns else pl.col("image_id")
    near = [
        None if i is None else f"g{pictures[i]}" if i in pictures else f"i{i}"
        for i in frame.select(shown).to_series().to_list()
    ]
    return frame.with_columns(
        pl.col("title", "category").fill_null(""),
        pl.col("queries").fill_null(pl.lit([], dtype=pl.List(pl.String))),
        pl.col("impressions", "clicks").cast(pl.Int64),
        pl.Series("picture", near, dtype=pl.String),
        pl.Series("words", [words_key(t) or None for t in frame["text"].to_list()], dtype=pl.String),
        pl.coalesce(pl.concat_str(pl.lit("t:"), "test_id"), pl.concat_str(pl.lit("p:"), "product_id")).alias(
            "group"
        ),
    ).with_columns(
        pl.when(pl.col("picture").is_not_null() | pl.col("words").is_not_null())
        .then(pl.concat_str(pl.col("picture").fill_null(""), pl.lit("\0"), pl.col("words").fill_null("")))
        .alias("look")
    )


def words_key(text: str | None) -> str:
    """A text as ``words`` has it: plain, without punctuation, so that "Look!" and "look" are one.

    A text of marks alone stays as it is; "" without any.
    """
    plain = plain_text(text)
    return " ".join("".join(c if c.isalnum() else " " for c in plain).split()) or plain


def top_queries(shop: Shop, most: int = 5) -> dict[str, list[str]]:
    """The most frequent query texts of each product, from searches and acts of the training time.

    Searches of val and test are left out; acts have no split and count whole. Equal counts go by the alphabet.
    """
    parts = []
    if shop.searches is not None:
        parts.append(shop.searches.filter(split="train").select("product_id", "query_text"))
    if shop.events is not None:
        parts.append(shop.events.select("product_id", "query_text"))
    if not parts:
        return {}
    asked = pl.concat(parts).drop_nulls()
    asked = asked.with_columns(
        pl.Series("query_text", [plain_text(t) for t in asked["query_text"]], dtype=pl.String)
    )
    counted = asked.filter(pl.col("query_text") != "").group_by("product_id", "query_text").len()
    counted = counted.sort(["product_id", "len", "query_text"], descending=[False, True, False])
    listed = counted.group_by("product_id", maintain_order=True).agg(pl.col("query_text").head(most))
    return dict(listed.iter_rows())
