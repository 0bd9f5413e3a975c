"""Contact sheets: rows of photos with captions as one PNG, for search results and their mistakes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from moonshelf.workspace import atomic_write

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Fonts with Chinese characters where common systems keep them; Pillow's own font is the last resort.
FONT_PATHS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/wqy-microhei/wqy-microhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    "/System/Library/Fonts/PingFang.ttc",
    "/System/Library/Fonts/Hiragino Sans GB.ttc",
    "/System/Library/Fonts/STHeiti Light.ttc",
    "C:/Windows/Fonts/msyh.ttc",
    "C:/Windows/Fonts/simsun.ttc",
)
THUMB, GAP, MARGIN, LABEL = 168, 14, 28, 30
FRAME, RADIUS = 5, 14
LINES, LINE_HEIGHT = 2, 19
MOST_COLUMNS, MOST_SIDE = 12, 16_000
PAPER, CARD, INK, SOFT = "#f6f5f2", "#ffffff", "#22252a", "#6b7078"
RIGHT, WRONG = "#2f9e5b", "#d1433f"


class Cell(NamedTuple):
    """One photo of a row.

    ``mark``: True right, False wrong, None neither. ``fallback``: short plain text, such as the product id,
    shown when the caption cannot be drawn. ``query``: this is what was searched with; it has no rank.
    """

    image: Image.Image | None
    caption: str
    mark: bool | None = None
    fallback: str = ""
    query: bool = False


@lru_cache(maxsize=8)
def load_font(size: int) -> Font:
    """The first font of ``FONT_PATHS`` that loads, else Pillow's own, which has no Chinese characters."""
    for path in FONT_PATHS:
        if Path(path).is_file():
            try:
                return ImageFont.truetype(path, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def drawable(text: str, font: Font, fallback: str = "") -> str:
    """``text`` without characters the font lacks; ``fallback`` when too little of it would be left."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    kept = " ".join("".join(c for c in text if _has(font, c)).split())
    if len(kept.replace(" ", "")) * 2 < len(text.replace(" ", "")):
        return "".join(c for c in fallback if _has(font, c)) or kept or "?"
    return kept


@lru_cache(maxsize=4096)
def _has(font: Font, character: str) -> bool:
    """Whether the font draws this character as itself: a missing one looks like the glyph of U+FFFE."""
    if character.isspace():
        return True
    try:
        drawn, missing = font.getmask(character), font.getmask("\ufffe")
    except (OSError, ValueError, UnicodeError):
        return False
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


def wrap(text: str, font: Font, width: int, lines: int) -> list[str]:
    """At most ``lines`` lines of ``width`` pixels, broken at spaces where possible; an ellipsis where cut."""
    dots = "…" if _has(font, "…") else "..."
    out: list[str] = []
    rest = text
    while rest and len(out) < lines:
        last = len(out) == lines - 1
        if font.getlength(rest) <= width:
            out.append(rest)
            return out
        tail = dots if last else ""
        n = 1
        # measured with the ellipsis attached: kerning makes a joined line longer than its parts
        while n < len(rest) and font.getlength(rest[: n + 1] + tail) <= width:
            n += 1
        space = rest.rfind(" ", 0, n + 1)
        cut = space if space > n // 2 else n
        while cut > 1 and font.getlength(rest[:cut].rstrip() + tail) > width:
            cut -= 1
        out.append(rest[:cut].rstrip() + tail)
        rest = rest[cut:].lstrip()
    return out


def thumbnail(image: Image.Image, side: int) -> Image.Image:
    """The whole picture on a white square of ``side`` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), CARD)
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def _rounded(side: int, radius: int) -> Image.Image:
    """Mask of a rounded square, drawn four times larger so that its edge is smooth."""
    mask = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, side * 4 - 1, side * 4 - 1), radius * 4, fill=255)
    return mask.resize((side, side), Image.Resampling.LANCZOS)


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Cell | tuple[Image.Image | None, str, bool | None]]]], out: str | Path
) -> Path:
    """Draw rows of photos and write them as a PNG.

    Args:
        rows: ``(label, cells)``. A first cell that is the query (``query``, or no mark where others have one)
            stands apart; results carry their rank, a green frame when right and a red one when wrong.
        out: the PNG; its folder is made.

    Returns:
        The path. Rows past 16,000 pixels of height and cells past 12 are not drawn, and the sheet says so.
    """
    cells = [(label, [c if isinstance(c, Cell) else Cell(*c) for c in row]) for label, row in rows]
    row_height = LABEL + THUMB + GAP // 2 + LINES * LINE_HEIGHT + 2 * GAP
    most_rows = (MOST_SIDE - 2 * MARGIN - LABEL) // row_height
    shown = [(label, row[:MOST_COLUMNS]) for label, row in cells[:most_rows]]
    columns = max([len(row) for _, row in shown] + [3])
    extra = GAP * 2 if any(_starts_with_query(row) for _, row in shown) else 0
    hidden = len(cells) - len(shown)
    width = 2 * MARGIN + columns * THUMB + (columns - 1) * GAP + extra
    height = 2 * MARGIN + max(len(shown), 1) * row_height + (LABEL if hidden else 0)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if not shown:
        draw.text((MARGIN, MARGIN), "nothing to show", font=load_font(16), fill=SOFT)
    mask, inner = _rounded(THUMB, RADIUS), _rounded(THUMB - 2 * FRAME, RADIUS - FRAME)
    for i, (label, row) in enumerate(shown):
        top = MARGIN + i * row_height
        font = load_font(17)
        for line in wrap(drawable(label, font, f"query {i + 1}"), font, width - 2 * MARGIN, 1):
            draw.text((MARGIN, top), line, font=font, fill=INK)
        query = _starts_with_query(row)
        for j, cell in enumerate(row):
            left = MARGIN + j * (THUMB + GAP) + (extra if query and j else 0)
            rank = None if query and j == 0 else j + (0 if query else 1)
            _draw_cell(sheet, draw, cell, (left, top + LABEL), rank, mask, inner)
    if hidden:
        draw.text((MARGIN, height - MARGIN - LABEL), f"and {hidden} more rows", font=load_font(16), fill=SOFT)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, buffer.getvalue())
    return path


def _starts_with_query(row: Sequence[Cell]) -> bool:
    if not row:
        return False
    return row[0].query or (row[0].mark is None and any(cell.mark is not None for cell in row[1:]))


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: Cell,
    at: tuple[int, int],
    rank: int | None,
    mask: Image.Image,
    inner: Image.Image,
) -> None:
    left, top = at
    if cell.mark is None:
        frame = None
        photo, place, shape = cell.image, at, mask
    else:
        frame = RIGHT if cell.mark else WRONG
        sheet.paste(Image.new("RGB", (THUMB, THUMB), frame), at, mask)
        photo, place, shape = cell.image, (left + FRAME, top + FRAME), inner
    if photo is None:
        square = Image.new("RGB", shape.size, "#e4e2dc")
        ImageDraw.Draw(square).text(
            (shape.size[0] // 2, shape.size[1] // 2), "no photo", font=load_font(15), fill=SOFT, anchor="mm"
        )
    else:
        square = thumbnail(photo, shape.size[0])
    sheet.paste(square, place, shape)
    if rank is not None:
        badge = _badge(str(rank), frame or INK)
        sheet.paste(badge, (left + 8, top + 8), badge)
    font = load_font(14)
    y = top + THUMB + GAP // 2
    for line in wrap(drawable(cell.caption, font, cell.fallback), font, THUMB, LINES):
        draw.text((left, y), line, font=font, fill=SOFT if cell.mark is None else INK)
        y += LINE_HEIGHT


def _badge(text: str, colour: str) -> Image.Image:
    """A round rank number on a transparent ground."""
    side = 26
    wide = side + 9 * max(len(text) - 2, 0)
    badge = Image.new("RGBA", (wide * 4, side * 4), (0, 0, 0, 0))
    ImageDraw.Draw(badge).rounded_rectangle((0, 0, wide * 4 - 1, side * 4 - 1), side * 2, fill=colour)
    badge = badge.resize((wide, side), Image.Resampling.LANCZOS)
    ImageDraw.Draw(badge).text((wide / 2, side / 2), text, font=load_font(14), fill="white", anchor="mm")
    return badge
