"""The log of a training run: one JSON object a line, and TensorBoard's format when its package is there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import TracebackType
from typing import Any

FILE = "log.jsonl"


class RunLog:
    """Appends records to ``log.jsonl``; on resume, records after the resumed step are dropped first.

    Args:
        folder: where the files go.
        resumed_step: step the run goes on from; 0 starts a new log.
        name: prefix of the TensorBoard tags.
    """

    def __init__(self, folder: Path, resumed_step: int, name: str) -> None:
        self.path = folder / FILE
        self._name = name
        kept = [r for r in read_log(folder) if r["step"] <= resumed_step] if resumed_step else []
        self.path.write_text("".join(json.dumps(r) + "\n" for r in kept))
        self._file = self.path.open("a")
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)

    @property
    def tensorboard(self) -> bool:
        """Whether TensorBoard files are written."""
        return self._board is not None

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Add one record: ``kind`` is ``"train"`` or ``"val"``."""
        record = {"step": step, "kind": kind} | {k: round(float(v), 6) for k, v in values.items()}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(f"{self._name}/{kind}/{key}", value, step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All records of a run's log; a last line that was cut by a crash is ignored."""
    path = folder / FILE
    records: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return records
