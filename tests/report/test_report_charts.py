"""Axes, charts and thumbnails of the report."""

from __future__ import annotations

import base64
import io
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from moonshelf.report.about_searches import choose
from moonshelf.report.axes import Scale, log_ticks, smooth, thin, ticks
from moonshelf.report.charts import Row, bar_chart, line_chart, whisker_chart
from moonshelf.report.markup import Html, metric, number, percent, tag, text
from moonshelf.report.pictures import Pictures
from moonshelf.shop.shop import Shop


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_even_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert 2 <= len(found) <= 11
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in found)
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert max(steps) - min(steps) < 1e-6 * max(1.0, abs(low), width)


def test_log_ticks() -> None:
    assert log_ticks(3.0, 300.0) == [5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
    assert log_ticks(0.5, 5000.0) == [1.0, 10.0, 100.0, 1000.0]


def test_scale_holds_values_at_its_ends() -> None:
    scale = Scale(0.0, 10.0, 100.0, 200.0)
    assert [scale(v) for v in (-5.0, 0.0, 5.0, 10.0, 99.0)] == [100.0, 100.0, 150.0, 200.0, 200.0]
    assert Scale(1.0, 100.0, 0.0, 2.0, log=True)(10.0) == pytest.approx(1.0)


def test_thin_keeps_every_spike() -> None:
    y = [0.0] * 5000
    y[1234], y[3210] = 9.0, -9.0
    x = [float(i) for i in range(5000)]
    a, b = thin(x, y)
    assert len(a) <= 330 and 9.0 in b and -9.0 in b
    assert a == sorted(a) and a[b.index(9.0)] == 1234.0


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.integers(1, 15))
def test_smooth_is_the_mean_around(y: list[float], window: int) -> None:
    found = smooth(y, window)
    assert len(found) == len(y)
    for i, value in enumerate(found):
        around = y[max(0, i - window // 2) : i + (window + 1) // 2] if window > 1 else [y[i]]
        assert value == pytest.approx(sum(around) / len(around), abs=1e-6)


def places(chart: str, shape: str, attribute: str) -> list[float]:
    return [float(v) for v in re.findall(rf"<{shape}[^>]* {attribute}=\"([-0-9.]+)\"", chart)]


def test_line_chart_draws_what_it_is_given() -> None:
    chart = line_chart(
        "val", [0, 50, 100], [0.1, 0.4, 0.3], share=True, dots=True, best=1, y_range=(0.0, 0.5)
    )
    x, y = places(chart, "circle", "cx"), places(chart, "circle", "cy")
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert (y[0] - y[2]) == pytest.approx(2 * (y[2] - y[1]), abs=0.3)  # 0.2 up, then 0.1 down
    assert "best 40.0%" in chart and "step 50: 40.0%" in chart


def test_line_chart_takes_a_log_axis_only_for_spikes() -> None:
    calm, wild = [float(5 + i % 3) for i in range(100)], [5.0] * 99 + [900.0]
    x = [float(i) for i in range(100)]
    assert "log scale" not in line_chart("a", x, calm) and "log scale" in line_chart("a", x, wild)


@pytest.mark.parametrize("y", [[], [1.0], [0.0, 0.0], [-3.0, -3.0, 5e8]])
def test_line_chart_of_little(y: list[float]) -> None:
    chart = line_chart("a", [float(i) for i in range(len(y))], y)
    assert ("nothing was logged" in chart) == (not y) and "nan" not in chart


def test_whiskers_and_references_stand_where_their_values_are() -> None:
    rows = [Row("before", 0.2, 0.1, 0.3), Row("after", 0.6, 0.5, 0.7)]
    chart = whisker_chart("recall@1", rows, [("chance", 0.0), ("off the shelf", 0.4)])
    before, after = places(chart, "circle", "cx")
    reference = [float(v) for v in re.findall(r'<line x1="([0-9.]+)"[^>]*class="reference', chart)]
    assert reference[1] == pytest.approx((before + after) / 2, abs=0.2)
    ends = re.findall(r'<line x1="([0-9.]+)" y1="[0-9.]+" x2="([0-9.]+)"[^>]*class="whisker now"', chart)
    wide = [(float(a), float(b)) for a, b in ends if a != b]
    assert [sum(e) / 2 for e in wide] == pytest.approx([before, after], abs=0.2)
    assert "60.0% [50.0, 70.0]" in chart and "off the shelf 40.0%" in chart


def test_bars_are_as_long_as_their_values() -> None:
    chart = bar_chart(
        "by category", [Row("a", 0.8, n="9", other=0.5), Row("<b>", 0.4, n="3")], "off the shelf"
    )
    long, short = places(chart, "rect", "width")
    assert long == pytest.approx(2 * short, abs=0.2)
    assert "&lt;b&gt;" in chart and "<b>" not in chart and "n = 9" in chart


def test_markup_escapes_all_but_markup() -> None:
    assert tag("p", "<i>", Html("<i>x</i>"), class_='a"b') == '<p class="a&quot;b">&lt;i&gt;<i>x</i></p>'
    assert text("a\x00b\nc") == "a b c" and len(text("x" * 1000)) == 600
    text("\ud800").encode("utf-8")


def test_numbers_as_words() -> None:
    assert metric({"value": 0.861, "low": 0.842, "high": 0.88, "n": 5}) == "86.1% [84.2, 88.0]"
    assert metric({"value": 0.5, "low": 0.5, "high": 0.5}) == "50.0%"
    assert metric({"value": 0.912, "low": 0.9, "high": 0.92}, share=False) == "0.912 [0.900, 0.920]"
    assert percent(0.00067) == "0.07%" and percent(0.0) == "0.0%"
    for bad in (None, "x", float("nan"), float("inf"), True, [1], 10**400):
        assert number(bad) is None and metric(bad) == "–"


def test_pictures_are_small_jpegs_within_the_budget(messy: Shop) -> None:
    pictures = Pictures(messy.images, 20_000)
    drawn = [pictures.photo(i) for i in messy.images.ids[:40]]
    images = [d for d in drawn if d.startswith("<img")]
    assert 0 < pictures.shown == len(images) < 40 and pictures.skipped == 40 - len(images)
    assert sum(len(d.split("base64,")[1].split('"')[0]) for d in images) <= 20_000
    data = base64.b64decode(images[0].split("base64,")[1].split('"')[0])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG" and max(image.size) <= 96
    assert "no photo" in pictures.photo(None) and "cannot be read" in pictures.photo("gone")


def test_choice_of_examples_covers_categories_and_is_stable() -> None:
    examples = [{"query_id": f"q{i}", "rank": 1, "kind": "abcd"[i % 4] if i > 30 else "a"} for i in range(60)]
    chosen = choose(examples, 6, lambda e: str(e["kind"]))
    assert {e["kind"] for e in chosen} == set("abcd") and len({e["query_id"] for e in chosen}) == 6
    assert choose(examples[::-1], 6, lambda e: str(e["kind"])) == chosen
