"""Errors, settings, artefact folders, progress and the doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import torch

from moonshelf import doctor, workspace
from moonshelf.config import config_hash, override
from moonshelf.errors import InputError
from moonshelf.progress import Progress, duration
from moonshelf.recipes import RECIPES, check_settings, recipe


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int = 3
    kind: Literal["a", "b"] = "a"
    on: bool = False
    widths: tuple[int, ...] = (4, 2)
    name: str | None = None


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    seed: int = 0
    shares: dict[str, float] = field(default_factory=lambda: {"near": 1.0, "far": 0.5})


def test_an_error_is_one_line() -> None:
    assert str(InputError("no column\n x", where="a.csv", mend="add it")) == "no column x (a.csv): add it"


def test_overrides_are_typed_and_hashed() -> None:
    settings = [
        "inner.rate=1e-3",
        "inner.kind=b",
        "inner.on=yes",
        "inner.widths=8,4",
        "seed=7",
        "inner.name=none",
    ]
    changed = override(Outer(), settings)
    assert changed == Outer(Inner(rate=1e-3, kind="b", on=True, widths=(8, 4), name=None), seed=7)
    assert config_hash(changed) != config_hash(Outer())
    assert override(Outer(), ["shares.far=2"]).shares == {"near": 1.0, "far": 2.0} != Outer().shares
    assert config_hash(override(Outer(), [])) == config_hash(Outer())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("inner.rat=1", "known here: rate"),
        ("inner=1", "group of settings"),
        ("seed.x=1", "has no parts"),
        ("seed", "without a value"),
        ("seed=many", "of type int"),
        ("inner.kind=c", "one of a, b"),
        ("inner.on=perhaps", "of type bool"),
        ("shares.wide=1", "has near, far"),
        ("shares.far=much", "of type float"),
        ("shares=1", "shares.near"),
    ],
)
def test_bad_settings_are_refused(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        override(Outer(), [setting])


def test_recipes_differ_and_take_every_setting() -> None:
    hashes = {config_hash(recipe(name)) for name in RECIPES}
    assert len(hashes) == len(RECIPES)
    assert override(recipe("laptop"), ["posttrain.loop.epochs=2.5"]).posttrain.loop.epochs == 2.5
    with pytest.raises(InputError, match="one of laptop"):
        recipe("desktop")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "stage"
    with workspace.atomic_folder(target) as out:
        (out / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError), workspace.atomic_folder(target) as out:
        (out / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["stage"]
    with workspace.atomic_folder(target) as out:
        (out / "b").write_text("3")
    assert [p.name for p in target.iterdir()] == ["b"]


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="disk is full"), workspace.atomic_folder(tmp_path / "x") as out:
        (out / "a").write_text("1")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(
        self: Path, *args: object, **options: object
    ) -> None:  # permissions do not bind root, so the call is stood in for
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(InputError, match="cannot write here"), workspace.atomic_folder(tmp_path / "x"):
        raise AssertionError("the block must not be entered")
    assert not list(tmp_path.iterdir())


def test_manifests_identify_their_work(tmp_path: Path) -> None:
    a = workspace.write_manifest(tmp_path, stage="s", inputs={"x": 1}, config={"b": 1, "a": 2}, seed=0)
    b = workspace.write_manifest(tmp_path, stage="s", inputs={"x": 1}, config={"a": 2, "b": 1}, seed=0)
    c = workspace.write_manifest(tmp_path, stage="s", inputs={"x": 1}, config={"a": 2, "b": 1}, seed=1)
    assert a["key"] == b["key"] != c["key"]
    assert workspace.read_manifest(tmp_path) == json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="manifest cannot be read"):
        workspace.read_manifest(tmp_path)


def test_progress_tells_rate_and_time_left() -> None:
    with Progress(10, "embed", "photos", done=2) as progress:
        progress.advance(4, "loss 1.0")
        line = progress.line(progress._start + 2.0)
    assert line == "embed: 6/10 photos (2/s, 2s left)  loss 1.0"
    assert [duration(s) for s in (5, 75, 3700)] == ["5s", "1m15s", "1h01m"]


def test_the_doctor_finds_nothing_wrong_here() -> None:
    findings = doctor.examine()
    assert {"torch", "weights", "disk"} <= {f.what for f in findings}
    assert not [
        str(f) for f in findings if f.level == "problem" and f.what in ("weights", "torchvision", "torch")
    ]


def test_the_doctor_names_a_broken_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, info = tmp_path / "torchvision", tmp_path / "torchvision-0.28.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    problems = [f for f in doctor.examine() if f.level == "problem"]
    assert [f.what for f in problems] == ["torchvision"]
    assert "nms does not exist" in problems[0].seen
    assert "pip uninstall torchvision" in problems[0].mend


def test_the_doctor_names_gigabytes_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "nvidia_cublas_cu12-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cublas-cu12\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "_gpu_present", lambda: False)
    [problem] = [f for f in doctor.examine() if f.what == "CUDA wheels"]
    assert problem.level == "problem" and "whl/cpu" in problem.mend
    monkeypatch.setattr(doctor, "_gpu_present", lambda: True)  # a driver without a torch that can use it
    found = {f.what: f for f in doctor.examine()}
    assert "CUDA wheels" not in found and "CUDA build" in found["GPU"].mend


def test_what_was_there_comes_back_when_the_last_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / workspace.MANIFEST).write_text("{}")
    rename = Path.rename

    def broken(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="Input/output"), workspace.atomic_folder(tmp_path / "made") as folder:
        (folder / workspace.MANIFEST).write_text("{}")
    assert [p.name for p in tmp_path.iterdir()] == ["made"] and (
        tmp_path / "made" / workspace.MANIFEST
    ).is_file()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoder.width=128", "encoder.widths=128,64"),
        ("posttrain.loop.max_steps=-5", "posttrain.loop.max_steps cannot be negative"),
        ("pretrain.optim.warmup=-3", "pretrain.optim.warmup cannot be -3"),
        ("posttrain2.batch=0", "posttrain2.batch cannot be 0"),
        ("posttrain.optim.head_lr=-1", "posttrain.optim.head_lr"),
        ("encoder.heads=3", "3 heads"),
        ("posttrain.replay_batch=0", "posttrain.replay_batch cannot be 0"),
        ("posttrain.memory=-1", "posttrain.memory cannot be negative"),
        ("pretrain.view_size=0", "pretrain.view_size cannot be 0"),
        ("evaluation.test_queries=-1", "evaluation.test_queries cannot be negative"),
        ("posttrain.label_smoothing=1.5", "between 0 and 1"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_work(setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_settings(override(recipe("smoke"), [setting]))


def test_every_recipe_passes_its_own_check() -> None:
    for make in RECIPES.values():
        check_settings(make())


def test_a_strangers_folder_is_never_replaced(tmp_path: Path) -> None:
    mine = tmp_path / "encoder"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="something else"), workspace.atomic_folder(mine, ("encoder.json",)):
        pass
    assert (mine / "thesis.txt").read_text() == "years of work"
    (mine / "encoder.json").write_text("{}")
    with workspace.atomic_folder(mine, ("encoder.json",)) as out:
        (out / "encoder.json").write_text("{}")
    assert not (mine / "thesis.txt").exists()


def test_what_a_killed_process_left_is_cleared_up(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()  # its number belongs to nobody now
    half, aside = tmp_path / f".shelf.{child.pid}.partial", tmp_path / f".shelf.{child.pid}.old"
    for folder in (half, aside):
        folder.mkdir()
        (folder / "file").write_text(folder.suffix)
    with pytest.raises(RuntimeError), workspace.atomic_folder(tmp_path / "shelf"):
        assert (tmp_path / "shelf" / "file").read_text() == ".old"  # killed between the renames: it is back
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["shelf"]
