"""Progress with rate and time left: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

_quiet = False
_PLAIN_EVERY_S = 15.0  # in a log file a line every few seconds is noise
_LIVE_EVERY_S = 0.1


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence every progress line inside the block (tests, library use)."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def say(text: str) -> None:
    """Print one line for the person watching, on stderr so that stdout stays machine-readable."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """``75.3`` -> ``"1m15s"``; whole seconds, hours when needed."""
    s = round(seconds)
    if s < 60:
        return f"{s}s"
    if s < 3600:
        return f"{s // 60}m{s % 60:02d}s"
    return f"{s // 3600}h{s % 3600 // 60:02d}m"


class Progress:
    """Counts work done; use as a context manager.

    Args:
        total: units of work, or None when it is not known.
        label: what is being done, e.g. ``"embed"``.
        unit: name of a unit, for the rate.
        done: units that were finished by an earlier run (resume); not counted in the rate.
    """

    def __init__(self, total: int | None, label: str, unit: str = "", done: int = 0) -> None:
        self.total, self.label, self.unit, self.done = total, label, unit, done
        self._first = done
        self._note = ""
        self._stream: TextIO = sys.stderr
        self._live = self._stream.isatty()
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count ``n`` more units; ``note`` (a loss, a recall) is shown behind the rate."""
        self.done += n
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown >= (_LIVE_EVERY_S if self._live else _PLAIN_EVERY_S):
            self._shown = now
            self._show(now)

    def line(self, now: float | None = None) -> str:
        """The text that is shown: count, rate, time left."""
        spent = max((time.monotonic() if now is None else now) - self._start, 1e-9)
        rate = (self.done - self._first) / spent
        of = f"/{self.total}" if self.total is not None else ""
        left = ""
        if self.total is not None and rate > 0 and self.done < self.total:
            left = f", {duration((self.total - self.done) / rate)} left"
        unit = f" {self.unit}" if self.unit else ""
        note = f"  {self._note}" if self._note else ""
        return f"{self.label}: {self.done}{of}{unit} ({rate:.3g}/s{left}){note}"

    def _show(self, now: float, end: bool = False) -> None:
        if _quiet:
            return
        text = self.line(now)
        if self._live:
            self._stream.write("\r\x1b[K" + text + ("\n" if end else ""))
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show(time.monotonic(), end=True)
