"""Checkpoints: whole or not at all, the one before as a reserve."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonshelf.errors import InputError
from moonshelf.training.checkpoint import (
    BEFORE,
    FILE,
    Checkpoint,
    drop_checkpoints,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)


def at_step(step: int) -> Checkpoint:
    return Checkpoint(step, "k", {"w": torch.full((64,), float(step))}, {}, {})


def test_torn_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, "k") is None
    save_checkpoint(Checkpoint(3, "k", {"w": torch.ones(4)}, {}, {}), tmp_path)
    found = load_checkpoint(tmp_path, "k")
    assert found is not None and found.step == 3 and torch.equal(found.model["w"], torch.ones(4))
    with pytest.raises(InputError, match="other settings"):
        load_checkpoint(tmp_path, "another")
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(tmp_path, "k")


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(Checkpoint(3, "k", {"w": torch.ones(4)}, {}, {}), tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="disk is full"):
        save_checkpoint(Checkpoint(4, "k", {"w": torch.zeros(4)}, {}, {}), tmp_path)
    found = load_checkpoint(tmp_path, "k")
    assert found is not None and found.step == 3
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(cut=st.floats(0, 1), flip=st.booleans())
def test_the_one_before_is_used_when_the_last_is_damaged(tmp_path: Path, cut: float, flip: bool) -> None:
    """Cut anywhere, or one byte changed anywhere: never a state that was not written."""
    drop_checkpoints(tmp_path)
    for step in (2, 4, 6):
        save_checkpoint(at_step(step), tmp_path)
    whole = bytearray((tmp_path / FILE).read_bytes())
    at = min(int(cut * len(whole)), len(whole) - 1)
    if flip:
        whole[at] ^= 0xFF
    (tmp_path / FILE).write_bytes(whole if flip else whole[:at])
    found = load_checkpoint(tmp_path, "k")
    assert found is not None and found.step == 4
    assert torch.equal(found.model["w"], torch.full((64,), float(found.step)))


def test_a_kill_between_the_two_renames_leaves_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(at_step(2), tmp_path)
    (tmp_path / FILE).rename(tmp_path / BEFORE)
    assert has_checkpoint(tmp_path)
    found = load_checkpoint(tmp_path, "k")
    assert found is not None and found.step == 2
    drop_checkpoints(tmp_path)
    assert not has_checkpoint(tmp_path) and load_checkpoint(tmp_path, "k") is None


def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one(tmp_path: Path) -> None:
    for step in (2, 4):
        save_checkpoint(at_step(step), tmp_path)
    torn = (tmp_path / FILE).read_bytes()[:-40]
    for _ in range(2):  # the second run after it is torn, too
        (tmp_path / FILE).write_bytes(torn)
        found = load_checkpoint(tmp_path, "k")
        assert found is not None and found.step == 2
    save_checkpoint(at_step(3), tmp_path)
    (tmp_path / FILE).write_bytes(torn)
    found = load_checkpoint(tmp_path, "k")
    assert found is not None and found.step == 2
    drop_checkpoints(tmp_path)
    assert not any(tmp_path.iterdir())
