"""A quote that is opened and never closed: readers take the rest of a CSV file for one value, and say nothing."""

from __future__ import annotations

from pathlib import Path

from moonshelf.errors import InputError

_BLOCK = 1 << 20


def check_quotes(path: Path) -> None:
    """Refuse a CSV file that ends inside a quoted value.

    Raises:
        InputError: with the line in which that value begins.

    Cost: the quotes are counted (a pass over the bytes); only an odd number makes a second, slower pass.
    """
    odd = False
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            odd ^= bool(block.count(b'"') % 2)
    opened = _unclosed(path) if odd else 0
    if opened:
        raise InputError(
            f"a quote opened in line {opened} is never closed, so every row after it would be lost",
            where=str(path),
            mend='close it, or double it ("") where it belongs to the text',
        )


def _unclosed(path: Path) -> int:
    """The line of the opening quote, 0 when all are closed; quotes inside unquoted values are text (RFC 4180)."""
    inside, opened = False, 0
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            at = 0
            if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                at = 3
            while at < len(line):
                if inside:
                    end = line.find(b'"', at)
                    if end < 0:
                        break
                    if line[end + 1 : end + 2] == b'"':  # a doubled quote is text
                        at = end + 2
                        continue
                    inside, at = False, end + 1
                elif line[at : at + 1] == b'"':
                    inside, opened, at = True, number, at + 1
                    continue
                comma = line.find(b",", at)
                if comma < 0:
                    break
                at = comma + 1
    return opened if inside else 0
