"""A small messy shop with photos, and a work folder beside it, as a run leaves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from workfolder import write_messy, write_work

from moonshelf import progress
from moonshelf.shop.shop import Shop, open_shop


@pytest.fixture(scope="session")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The messy shop, opened."""
    top = tmp_path_factory.mktemp("report")
    with progress.quiet():
        return open_shop(write_messy(top / "raw <shop>"), cache=top / "prepared")


@pytest.fixture(scope="session")
def work(messy: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole work folder of the messy shop; tests must not change it."""
    return write_work(tmp_path_factory.mktemp("work"), messy)


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], Shop]:
    """A shop that says in its README that it is made."""

    def make() -> Shop:
        raw = write_messy(tmp_path / "made", products=4, searches=3)
        (raw / "README.txt").write_text("This shop is made, not real.\n")
        return open_shop(raw, cache=tmp_path / "made-prepared")

    return make
