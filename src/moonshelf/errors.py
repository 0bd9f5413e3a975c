"""The one exception for bad input: a single line that says what, where and how to mend it."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave cannot be used.

    ``str(error)`` is one line, ``what (where): mend``; the command line prints it and exits with 1.

    Args:
        what: what is wrong, in words of the domain ("the table has no column product_id").
        where: file, row or setting it was found in.
        mend: what the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        line = what + (f" ({where})" if where else "") + (f": {mend}" if mend else "")
        super().__init__(" ".join(line.split()))


class TooLittleData(InputError):
    """The input is fine, but there is too little of it for one stage; ``run`` leaves that stage out and goes on."""
