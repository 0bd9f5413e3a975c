from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageFont

from moonshelf.report import sheet
from moonshelf.report.sheet import FRAME, MARGIN, THUMB, Cell, contact_sheet, drawable, load_font, wrap

BLUE = Image.new("RGB", (300, 200), (0, 0, 250))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def near(image: Image.Image, at: tuple[int, int], colour: str) -> bool:
    found = np.array(image.getpixel(at), dtype=int)
    return bool(np.abs(found - ImageColor.getrgb(colour)).max() < 12)


def left_of(column: int, query: bool = True) -> int:
    return MARGIN + column * (THUMB + sheet.GAP) + (sheet.GAP * 2 if query and column else 0)


def test_frames_tell_right_from_wrong(tmp_path: Path) -> None:
    row = [Cell(BLUE, "query", None), (BLUE, "right", True), (BLUE, "wrong", False)]
    image = opened(contact_sheet([("a photo", row)], tmp_path / "new" / "s.png"))
    middle = MARGIN + sheet.LABEL + THUMB // 2
    assert near(image, (left_of(1) + FRAME // 2, middle), sheet.RIGHT)
    assert near(image, (left_of(2) + FRAME // 2, middle), sheet.WRONG)
    assert near(image, (left_of(0) + FRAME // 2, middle), "#0000fa")  # the query has no frame
    for column in range(3):
        assert near(image, (left_of(column) + THUMB // 2, middle), "#0000fa")
        assert near(image, (left_of(column), MARGIN + sheet.LABEL), sheet.PAPER)  # the corner is round


def test_results_without_a_query_start_at_one_and_missing_photos_are_drawn(tmp_path: Path) -> None:
    image = opened(contact_sheet([("t", [Cell(None, "a"), Cell(BLUE, "b")])], tmp_path / "s.png"))
    assert near(image, (left_of(0, False) + 20, MARGIN + sheet.LABEL + 9), sheet.INK)  # the badge
    assert near(image, (left_of(0, False) + 20, MARGIN + sheet.LABEL + THUMB - 20), "#e4e2dc")


@pytest.mark.parametrize("rows", [[], [("empty", [])], [("x", [Cell(BLUE, "c")] * 40)], [("r", [])] * 200])
def test_any_number_of_rows_and_cells(rows: list[tuple[str, list[Cell]]], tmp_path: Path) -> None:
    image = opened(contact_sheet(rows, tmp_path / "s.png"))
    assert image.height <= sheet.MOST_SIDE and image.width <= sheet.MOST_COLUMNS * (THUMB + 30) + 100


@pytest.fixture
def plain_font(monkeypatch: pytest.MonkeyPatch) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """As on a machine without any Chinese font."""
    monkeypatch.setattr(sheet, "FONT_PATHS", ())
    load_font.cache_clear()
    font = load_font(14)
    load_font.cache_clear()
    return font


def test_undrawable_text_becomes_the_product_id(plain_font: ImageFont.FreeTypeFont) -> None:
    assert drawable("红色水壶", plain_font, "p17") == "p17"
    assert drawable("red kettle 红", plain_font, "p17") == "red kettle"
    assert drawable("红色", plain_font) == "?"


def test_no_chinese_font_never_crashes(plain_font: object, tmp_path: Path) -> None:
    out = contact_sheet(
        [("红色水壶", [Cell(BLUE, "红色", True, "编号"), Cell(BLUE, "", False)])], tmp_path / "s.png"
    )
    assert opened(out).width > 0
    load_font.cache_clear()


@example("0@P%\U00018cd6Phu00", 86, 1)
@given(st.text(max_size=80), st.integers(10, 200), st.integers(1, 3))
def test_wrapped_lines_fit(text: str, width: int, lines: int) -> None:
    font = load_font(14)
    text = drawable(text, font, "id")
    found = wrap(text, font, width, lines)
    assert len(found) <= lines
    assert all(font.getlength(line) <= width or len(line) <= 4 for line in found)
    if not any(line.endswith(("…", "...")) for line in found):
        assert "".join(found).replace(" ", "") == text.replace(" ", "")
