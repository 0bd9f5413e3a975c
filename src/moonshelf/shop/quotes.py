"""A quote that is opened and never closed: readers take the rest of a CSV file for one value, and say nothing."""

from __future__ import annotations

import re
from pathlib import Path

from moonshelf.errors import InputError

_BLOCK = 1 << 20
_VALUE = rb'(?:"[^"]*(?:""[^"]*)*"|[^",\r\n][^,\r\n]*|)'
_WHOLE = re.compile(_VALUE + rb"(?:," + _VALUE + rb")*\r?\n?")
"""A line whose values all end in it, as nearly all lines are."""


def check_quotes(path: Path) -> None:
    """Refuse a CSV file that ends inside a quoted value.

    Raises:
        InputError: with the line in which that value begins.

    Cost: a pass over the bytes; files with quotes take a second one, line by line (about 1 s a million lines).
    """
    with path.open("rb") as handle:
        quoted = any(b'"' in block for block in iter(lambda: handle.read(_BLOCK), b""))
    opened = _unclosed(path) if quoted else 0
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
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not inside and (b'"' not in line or _WHOLE.fullmatch(line)):
                continue
            at = 0
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
