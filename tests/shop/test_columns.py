"""Values of every kind: what is read, what is refused and why."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moonshelf.shop.columns import convert, parse_time
from moonshelf.shop.schema import DTYPES, SCHEMAS, TIME, Column

UTC = UTC


def read(
    kind: Any, values: Any, dtype: Any = None, **rules: Any
) -> tuple[list[Any], list[str | None], tuple[str, ...]]:
    result = convert(pl.Series("c", values, dtype=dtype, strict=False), Column("c", kind, **rules))
    assert result.values.dtype == DTYPES[kind]
    return result.values.to_list(), result.reasons.to_list(), result.notes


def test_text_is_trimmed_and_blank_is_missing() -> None:
    assert read("text", [" a ", "", "  ", None]) == (["a", None, None, None], [None] * 4, ())


def test_ids_keep_leading_zeros_and_numbers_become_text_with_a_note() -> None:
    assert read("id", ["007"])[0] == ["007"]
    assert read("id", [7, None])[::2] == (["7", None], ("c: numbers were read as text",))


def test_whole_floats_are_ids_but_broken_floats_are_not() -> None:
    assert read("id", [15970.0, float("nan"), None])[0] == ["15970", None, None]
    assert all(read("id", [1.5, 2.0])[1])


def test_lists_where_text_is_expected_are_a_wrong_type() -> None:
    values, reasons, _ = read("text", [["a"], None])
    assert values == [None, None]
    assert reasons[0] is not None and reasons[0].startswith("wrong type") and reasons[1] is None


def test_nan_price_is_missing_and_counted() -> None:
    assert read("float", [1.5, float("nan"), float("nan")]) == (
        [1.5, None, None],
        [None] * 3,
        ("c: 2 NaN taken as missing",),
    )
    assert read("float", ["1.5", "NaN", ""])[::2] == ([1.5, None, None], ("c: 1 NaN taken as missing",))


def test_bad_numbers_get_a_reason() -> None:
    values, reasons, _ = read("float", ["$5", "1,299.00", "inf", "-1", "3"], low=0.0)
    assert values == [None, None, None, None, 3.0]
    assert reasons == ["not a number", "not a number", "not a finite number", "below 0", None]


@pytest.mark.parametrize(("given_", "wanted"), [("3", 3), ("3.0", 3), ("3.5", None), ("x", None)])
def test_whole_numbers(given_: str, wanted: int | None) -> None:
    values, reasons, _ = read("int", [given_])
    assert values == [wanted] and (reasons[0] is None) == (wanted is not None)


def test_flags() -> None:
    assert read("flag", ["0", "1", "TRUE", "false", "2"])[0] == [0, 1, 1, 0, None]
    assert read("flag", [True, False])[0] == [1, 0]
    assert read("flag", ["2"])[1] == ["not 0 or 1"]


def test_categories_have_one_spelling() -> None:
    assert read("category", ["A>B >  C", "> A >", " > "])[0] == ["A > B > C", "A", None]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("2024-05-01T12:30:00Z", datetime(2024, 5, 1, 12, 30, tzinfo=UTC)),
        ("2024-05-01 12:30:00.25+02:00", datetime(2024, 5, 1, 10, 30, 0, 250000, tzinfo=UTC)),
        ("2024-05-01 12:30-0130", datetime(2024, 5, 1, 14, 0, tzinfo=UTC)),
        ("2024-02-30", None),
        ("yesterday", None),
        ("01/05/2024", None),
        ("0001-01-01T00:00:00+23:00", None),
    ],
)
def test_times(text: str, wanted: datetime | None) -> None:
    values, reasons, _ = read("time", [text])
    assert values == [wanted] and (reasons[0] is None) == (wanted is not None)


def test_naive_times_are_utc_and_noted() -> None:
    for values in (["2024-05-01"], [datetime(2024, 5, 1)], [date(2024, 5, 1)]):
        assert read("time", values)[::2] == (
            [datetime(2024, 5, 1, tzinfo=UTC)],
            ("c: times without a zone were taken as UTC",),
        )
    assert read("time", ["2024-05-01T00:00Z"])[2] == ()


def test_zoned_and_nanosecond_times_are_converted() -> None:
    series = (
        pl.Series("c", [datetime(2024, 5, 1, 12)])
        .dt.cast_time_unit("ns")
        .dt.replace_time_zone("Europe/Paris")
    )
    result = convert(series, Column("c", "time"))
    assert result.values.dtype == TIME and result.values[0] == datetime(2024, 5, 1, 10, tzinfo=UTC)


def test_a_number_is_not_a_time() -> None:
    assert "wrong type" in (read("time", [1714521600])[1][0] or "")


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)), st.integers(-23 * 60, 23 * 60)
)
def test_every_iso_time_is_read_back(when: datetime, minutes: int) -> None:
    zoned = when.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_time(zoned.isoformat()) == (zoned.astimezone(UTC), False)
    assert parse_time(when.isoformat(" ")) == (when.replace(tzinfo=UTC), True)


def test_lists_from_json_and_from_lists() -> None:
    assert read("list", ['["a", "b", 3, "", null]', "", None])[0] == [["a", "b", "3"], None, None]
    assert read("list", [["a", None, ""], []])[0] == [["a"], []]
    assert read("list", [[1, 2]])[0] == [["1", "2"]]


@pytest.mark.parametrize("bad", ["a.jpg", '{"a": 1}', '["a"', "[[1]]", "[true]", "[" * 100_000])
def test_what_is_not_a_list_is_refused(bad: str) -> None:
    assert read("list", [bad])[:2] == ([None], ["not a JSON list of text"])


def test_maps_from_json_struct_and_odd_values() -> None:
    text = '{"colour": "red", "year": 2011, "sizes": ["S", "M"], "none": null, "ok": true, "sub": {"a": 1}}'
    (value,), _, _ = read("map", [text])
    assert json.loads(value) == {
        "colour": "red",
        "year": "2011",
        "sizes": "S, M",
        "ok": "true",
        "sub": '{"a": 1}',
    }
    (value,), _, _ = read("map", [{"a": "x", "b": None}])
    assert json.loads(value) == {"a": "x"}
    assert read("map", ["red"])[1] == ["not a JSON object"]


def test_choices_are_checked_and_defaults_filled() -> None:
    action = SCHEMAS["searches"].column("action")
    result = convert(pl.Series("action", ["Cart", None, "buy"]), action)
    assert result.values.to_list()[:2] == ["cart", "click"]
    assert result.reasons.to_list() == [None, None, "not one of click, cart, purchase"]


_ANY_TEXT = st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=8)


@given(_ANY_TEXT, st.sampled_from(["id", "text", "category", "float", "int", "flag", "time", "list", "map"]))
def test_no_text_breaks_a_reader_and_every_value_is_kept_or_has_a_reason(
    values: list[str | None], kind: Any
) -> None:
    result = convert(pl.Series("c", values, dtype=pl.String), Column("c", kind))
    assert result.values.dtype == DTYPES[kind] and len(result.values) == len(result.reasons) == len(values)
    for before, after, reason in zip(values, result.values.to_list(), result.reasons.to_list(), strict=True):
        blank = before is None or not before.strip() or before.strip().lower() in ("nan", "-nan", "+nan")
        assert reason is None or after is None
        assert after is not None or reason is not None or blank or kind == "category"
