"""The house keeps its shape: a room imports only from rooms above it, files stay small, traps stay out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "moonshelf"
ORDER = [
    "errors", "progress", "types", "workspace", "arrays", "config", "remote",
    "shop", "augment", "encoder", "training", "shelf", "evaluation",
    "retrieval", "relevance", "ranking", "creative", "studies", "report", "serving",
    "recipes", "pipeline", "measuring", "grading", "applying", "reasoning", "choosing", "doctor", "commands",
    "cli_shop", "cli_augment", "cli_creative", "cli_evaluate", "cli_rank", "cli_relevance", "cli",
]  # fmt: skip
FORBIDDEN = {"torchvision", "timm", "open_clip", "lightly", "torchcodec", "pickle5"}
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            if node.module == "moonshelf":
                names |= {f"moonshelf.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_upwards_only(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return
    own = ORDER.index(room(path))
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "moonshelf" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= own, f"{path} imports {name}, which is below it"
        assert parts[0] not in FORBIDDEN, f"{path} imports {name}"


def test_every_room_is_known() -> None:
    assert {room(p) for p in FILES} - {"__init__"} <= set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_optional_libraries_are_imported_late() -> None:
    optional = {
        "faiss",
        "transformers",
        "ray",
        "fastapi",
        "qdrant_client",
        "tensorboard",
        "openai",
        "lightgbm",
        "trl",
        "peft",
        "datasets",
    }
    for path in FILES:
        if path == SOURCE / "encoder" / "smol.py":  # derives from their classes; it is itself imported late
            continue
        top = ast.parse(path.read_text()).body
        for node in top:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & optional, (
                f"{path} imports an optional library at the top"
            )


def test_no_two_test_files_have_one_name() -> None:
    """They are imported by name: with two of one name the whole run stops before its first test."""
    names = [
        path.name
        for path in Path(__file__).parent.rglob("*.py")
        if path.name not in ("conftest.py", "__init__.py")
    ]
    assert sorted(names) == sorted(set(names))
