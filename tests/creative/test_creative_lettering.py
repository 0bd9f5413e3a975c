"""Letters and stickers: drawn words are found on any ground and however pale; dots, stripes and noise are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from moonshelf.creative.lettering import Line, find_lines, find_sticker, overlap
from moonshelf.creative.measures_image import NAMES, measure_images

GROUNDS = ["#ffffff", "#202028", "#9ab0c4", "#d8c8a0"]


def words(
    text: str, ground: str, ink: str, *, points: int = 36, at: tuple[int, int] = (20, 30)
) -> Image.Image:
    image = Image.new("RGB", (400, 400), ground)
    ImageDraw.Draw(image).text(at, text, fill=ink, font=ImageFont.load_default(size=points))
    return image


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("step", [-26, 26, 120, -120])
def test_words_are_found_with_their_contrast(ground: str, step: int) -> None:
    rgb = Image.new("RGB", (1, 1), ground).getpixel((0, 0))
    assert isinstance(rgb, tuple)
    ink = tuple(int(np.clip(c + step, 0, 255)) for c in rgb)
    image = words("Made for your desk", ground, "#{:02x}{:02x}{:02x}".format(*ink))
    grey = abs(float(np.dot(np.subtract(ink, rgb), [0.299, 0.587, 0.114]))) / 255
    lines = find_lines(image)
    if grey < 0.06:  # the step was cut off at white or black
        return
    assert len(lines) == 1 and lines[0].contrast == pytest.approx(grey, rel=0.25)
    left, top, right, bottom = lines[0].box
    font = ImageFont.load_default(size=36)
    a, b, c, d = (v / 400 for v in ImageDraw.Draw(image).textbbox((20, 30), "Made for your desk", font=font))
    assert (left, top, right, bottom) == pytest.approx((a, b, c, d), abs=0.02)
    assert lines[0].area == pytest.approx((c - a) * (d - b), rel=0.2)


def test_two_lines_the_surer_first_and_none_twice() -> None:
    image = words("Ready to travel", "#ffffff", "#101010")
    ImageDraw.Draw(image).text(
        (20, 200), "Small price today", fill="#d0d0d0", font=ImageFont.load_default(size=30)
    )
    lines = find_lines(image)
    assert len(lines) == 2 and lines[0].contrast > 0.7 > 0.3 > lines[1].contrast
    assert overlap(lines[0].box, lines[1].box) == 0


def test_dots_stripes_and_noise_are_no_letters() -> None:
    image = Image.new("RGB", (400, 400), "#e0e0e0")
    draw = ImageDraw.Draw(image)
    for x in range(20, 380, 36):
        draw.ellipse((x, 60, x + 20, 80), fill="#303030")
        draw.rectangle((x, 200, x + 12, 399), fill="#306030")
    assert find_lines(image) == []
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert (
        sum(line.area for line in find_lines(Image.fromarray(noise))) < 0.03
    )  # five specks in a row, by chance


@pytest.mark.parametrize("fill", ["#d6222c", "#f5c400", "#0a7d3c"])
@pytest.mark.parametrize("ground", ["#ffffff", "#804020", "#9ab0c4"])
def test_a_sticker_is_one_strong_colour_with_letters(fill: str, ground: str) -> None:
    image = Image.new("RGB", (400, 400), ground)
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 250, 140, 350), fill=fill)
    assert find_sticker(image) is None  # nothing is written on it
    draw.text((54, 284), "-20%", fill="#ffffff", font=ImageFont.load_default(size=34))
    found = find_sticker(image)
    assert found is not None and found == pytest.approx((0.1, 0.625, 0.3525, 0.8775), abs=0.01)


def test_measures_keep_letters_stickers_and_ground_apart() -> None:
    plain = Image.new("RGB", (400, 400), "#c8d0d8")
    ImageDraw.Draw(plain).rectangle((140, 140, 260, 300), fill="#203050")
    marked = plain.copy()
    draw = ImageDraw.Draw(marked)
    draw.text((20, 20), "Made for your desk", fill="#101010", font=ImageFont.load_default(size=36))
    draw.ellipse((20, 290, 110, 380), fill="#d6222c")
    draw.text((36, 322), "SALE", fill="#ffffff", font=ImageFont.load_default(size=24))
    shaded = np.asarray(plain).astype(float) * np.linspace(1, 0.4, 400)[:, None, None]
    a, b, c = (
        dict(zip(NAMES, row, strict=True))
        for row in measure_images([plain, marked, Image.fromarray(shaded.astype(np.uint8))])
    )
    assert a["lettering"] == a["lettering_contrast"] == a["sticker"] == 0
    assert (
        0.03 < b["lettering"] < 0.12
        and b["lettering_contrast"] > 0.5
        and b["sticker"] == pytest.approx(0.05, abs=0.01)
    )
    assert (
        b["ground_clutter"] <= a["ground_clutter"] + 0.01 < 0.05
    )  # its letters are no clutter of the ground
    assert c["ground_spread"] > a["ground_spread"] + 0.05


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_any_picture_can_be_looked_at(wide: int, high: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (high, wide, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for line in find_lines(image):
        assert (
            isinstance(line, Line)
            and 0 <= line.box[0] < line.box[2] <= 1
            and 0 <= line.box[1] < line.box[3] <= 1
        )
    found = find_sticker(image)
    assert found is None or 0 <= found[0] < found[2] <= 1
