"""Measures: texts counted by hand, drawn pictures with known answers, what a creative does not have is 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from moonshelf.creative import looks, measures_image, measures_text
from moonshelf.creative.measures import NAMES, UNITS, Brief, see
from moonshelf.encoder import CompactEncoder


def text(of: str) -> dict[str, float]:
    return dict(zip(measures_text.NAMES, measures_text.measure_text(of), strict=True))


def picture(*images: Image.Image) -> list[dict[str, float]]:
    rows = measures_image.measure_images(images)
    return [dict(zip(measures_image.NAMES, row.tolist(), strict=True)) for row in rows]


def test_a_headline_counted_by_hand() -> None:
    m = text('You won\'t believe why 3 dogs in Paris love this... "Wow!" said Anna.')
    wanted = {
        "words": 12, "numbers": 1, "names": 2, "question": 0, "exclamation": 1, "quotes": 2, "ellipsis": 1,
        "sentences": 3, "curiosity": 1, "emotion": 2, "negative": 1, "second": 1, "pointing": 1, "shouted": 0,
    }  # fmt: skip
    assert {k: m[k] for k in wanted} == wanted


def test_title_case_hides_names_and_capitals_shout() -> None:
    assert text("They Saw Anna In Paris")["names"] == 0 and text("they saw Anna in Paris")["names"] == 2
    assert text("This is NOT ok")["shouted"] == 1
    assert text("I think I'm there")["names"] == 0


def test_chinese_counts_characters_and_english_lists_are_silent() -> None:
    m = text("蓝色 杯子 50ml?")
    assert m["words"] == 5 and m["numbers"] == 1 and m["question"] == 1 and m["curiosity"] == 0


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_can_be_measured(of: str) -> None:
    m = text(of)
    assert all(np.isfinite(v) and v >= 0 for v in m.values())
    assert set(m.values()) == {0.0} if not of.strip() else m["characters"] > 0


def test_easier_words_read_more_easily() -> None:
    easy, hard = (
        text("The cat sat on the mat."),
        text("Organisational considerations necessitate reevaluation."),
    )
    assert easy["ease"] > 90 > 30 > hard["ease"]
    assert [measures_text.syllables(w) for w in ("cat", "table", "make", "free", "banana", "rhythm")] == [
        1,
        2,
        1,
        1,
        3,
        1,
    ]


def square(side: int, at: int = 80, ground: str = "white", size: int = 160) -> Image.Image:
    image = Image.new("RGB", (size, size), ground)
    ImageDraw.Draw(image).rectangle(
        (at - side // 2, 80 - side // 2, at + side // 2 - 1, 80 + side // 2 - 1), fill=(30, 60, 160)
    )
    return image


def test_area_and_place_of_a_drawn_subject() -> None:
    small, large, aside = picture(square(48), square(96), square(48, at=120))
    assert small["cut"] == large["cut"] == 1
    assert small["area"] == pytest.approx(0.09, abs=0.015) and large["area"] == pytest.approx(0.36, abs=0.03)
    assert small["off_centre"] < 0.02 and aside["off_centre"] == pytest.approx(0.25, abs=0.02)
    assert large["core_area"] > small["core_area"] and small["apart"] > 0.5


def test_light_colour_clutter_and_sharpness() -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (160, 160, 3), dtype=np.uint8))
    grey, dark, busy, soft = picture(
        Image.new("RGB", (160, 160), (128, 128, 128)), Image.new("RGB", (160, 160), (20, 20, 20)), noise,
        noise.filter(ImageFilter.GaussianBlur(4)),
    )  # fmt: skip
    assert grey["brightness"] == pytest.approx(128 / 255, abs=0.01) and dark["brightness"] < 0.1
    assert grey["clutter"] == 0 and busy["clutter"] > 0.5 > soft["clutter"]
    assert busy["sharpness"] > 3 * soft["sharpness"] and grey["sharpness"] == 0
    assert grey["colourful"] == pytest.approx(0, abs=1e-9) and grey["harmony"] == 1
    assert grey["cut"] == 0 and grey["area"] == 0


def test_two_opposite_hues_are_in_harmony_and_a_rainbow_is_not() -> None:
    hues = np.zeros((64, 64, 3), dtype=np.uint8)
    hues[..., 1:] = 255
    both, all_of_them = hues.copy(), hues.copy()
    both[:, 32:, 0] = 128
    all_of_them[..., 0] = np.linspace(0, 255, 64, dtype=np.uint8)
    two, rainbow = picture(*(Image.fromarray(h, "HSV").convert("RGB") for h in (both, all_of_them)))
    assert two["harmony"] == pytest.approx(1.0) and rainbow["harmony"] < 0.4


def test_what_is_not_there_is_zero_and_says_so(encoder: CompactEncoder) -> None:
    creatives = [
        Brief("A blue mug", title="blue mug", queries=("mug",)),
        Brief(None, lambda: square(48), title="blue square"),
        Brief("SALE", lambda: square(96)),
    ]
    seen = see(encoder, creatives)
    column = {name: i for i, name in enumerate(NAMES)}
    m = seen.measures
    assert m[:, column["text.there"]].tolist() == [1, 0, 1] and m[:, column["image.there"]].tolist() == [
        0,
        1,
        1,
    ]
    assert not seen.text[1].any() and not seen.image[0].any() and set(UNITS) == set(NAMES)
    assert np.allclose(np.linalg.norm(seen.text[[0, 2], :512], axis=1), 1, atol=1e-5)
    assert m[0, column["match.text_title"]] > 0.5 and m[0, column["match.text_queries"]] > 0.3
    assert m[0, column["match.image_title"]] == 0 == m[2, column["match.text_title"]]
    assert m[1, column["match.image_title"]] != 0


def test_an_empty_list_and_the_cache(
    encoder: CompactEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert see(encoder, []).measures.shape == (0, len(NAMES))
    creatives = [Brief("one"), Brief("two words"), Brief("one")]
    first = see(encoder, creatives, cache=tmp_path)
    assert np.array_equal(first.text[0], first.text[2])
    monkeypatch.setattr(encoder, "embed", None)  # nothing may be computed again
    assert np.array_equal(see(encoder, creatives, cache=tmp_path).text, first.text)


def test_pictures_are_measured_once_and_go_on_where_they_were_cut_off(
    encoder: CompactEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def picture(at: int) -> Brief:
        def load() -> Image.Image:
            opened.append(at)
            if at == stop:
                raise KeyboardInterrupt
            return square(32, at=16 * at)

        return Brief(None, load, "a blue square", mark=f"bytes {at}")

    monkeypatch.setattr("moonshelf.creative.measures.BATCH", 2)
    creatives, stop = [picture(at) for at in range(5)], 3
    with pytest.raises(KeyboardInterrupt):
        see(encoder, creatives, cache=tmp_path)
    opened.clear()
    stop = -1
    first = see(encoder, creatives, cache=tmp_path)
    assert opened == [2, 3, 4]
    again, anew = see(encoder, creatives, cache=tmp_path), see(encoder, creatives)
    assert opened == [2, 3, 4, *range(5)]
    for found in (again, anew):
        assert np.array_equal(found.image, first.image) and np.array_equal(found.measures, first.measures)
    unmarked = [replace(c, mark="") for c in creatives]
    see(encoder, unmarked, cache=tmp_path)
    assert opened[8:] == [*range(5)]


def test_a_layout_does_not_tell_left_from_right_but_high_from_low(encoder: CompactEncoder) -> None:
    left, right = square(48, at=40), square(48, at=120)
    top = Image.new("RGB", left.size, "white")
    ImageDraw.Draw(top).rectangle((56, 16, 103, 63), fill=(30, 60, 160))
    rows = looks.layouts([left, right, top])
    assert rows.shape == (3, looks.LAYOUT)
    assert np.abs(rows[0] - rows[1]).max() < 0.06 < np.abs(rows[0] - rows[2]).max()
    pixels = torch.from_numpy(
        np.stack([np.asarray(i.resize((64, 64))).transpose(2, 0, 1) for i in (left, top)])
    )
    mean, grid = looks.grids(encoder, pixels)
    assert grid.shape == (2, looks.GRID) and np.allclose(np.linalg.norm(mean, axis=1), 1, atol=1e-5)
    assert np.allclose(looks.grids(encoder, pixels[1:])[1], grid[1:], atol=1e-3)
