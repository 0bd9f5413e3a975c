"""Click models on disk: weights without pickle, and the names behind their numbers, so that another shop can read
them.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from moonshelf.errors import InputError
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.debias import DebiasConfig
from moonshelf.ranking.history import History
from moonshelf.ranking.models.click_model import ClickConfig, ClickModel, Sizes
from moonshelf.ranking.models.cube import CubeConfig
from moonshelf.ranking.train import ClickTrainConfig
from moonshelf.workspace import atomic_write, write_frame, write_json

CONFIG_FILE, WEIGHTS_FILE = "ranking.json", "model.safetensors"
FORMAT = 6  # of the columns that a model reads; raised whenever rows get other ones
_NAMES = ("items", "queries", "users")


@dataclass(frozen=True, slots=True)
class Stored:
    """A click model and what its numbers mean.

    Attributes:
        features: ``Features.spec`` it was trained with.
        names: ids of products, queries and users, in the order of its tables.
        encoder: version of the encoder whose vectors it reads, empty without content.
        calibration: plain object of the calibration step, or None.
        about: shop, seed, metrics.
    """

    model: ClickModel
    config: RankConfig
    features: dict[str, Any]
    names: dict[str, tuple[str, ...]]
    encoder: str
    calibration: dict[str, Any] | None = None
    about: dict[str, Any] = dataclasses.field(default_factory=dict)


def save_ranker(stored: Stored, folder: Path) -> None:
    """Write a model into an existing folder."""
    state = {name: value.detach().cpu().contiguous() for name, value in stored.model.state_dict().items()}
    atomic_write(folder / WEIGHTS_FILE, save(state))
    for name in _NAMES:
        write_frame(
            pl.DataFrame({"id": stored.names[name]}, schema={"id": pl.String}), folder / f"{name}.parquet"
        )
    told = {
        "format": FORMAT,
        "config": dataclasses.asdict(stored.config),
        "sizes": dataclasses.asdict(stored.model.sizes),
        "features": stored.features,
        "encoder": stored.encoder,
        "calibration": stored.calibration,
        "about": stored.about,
    }
    write_json(folder / CONFIG_FILE, told)


def find_ranker(path: str | Path) -> Path:
    """The folder that holds ``ranking.json``: the path itself, or ``ranking/`` in a work folder.

    Raises:
        InputError: there is none.
    """
    for folder in (Path(path), Path(path) / "ranking"):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise InputError(
        "there is no click model here",
        where=str(path),
        mend="give a work folder after moonshelf rank train, or its folder ranking",
    )


def load_ranker(path: str | Path) -> Stored:
    """Read what :func:`save_ranker` wrote.

    Raises:
        InputError: nothing is there, a damaged file, or settings this version does not know.
    """
    folder = find_ranker(path)
    try:
        told = json.loads((folder / CONFIG_FILE).read_text())
        if told["format"] != FORMAT:
            raise ValueError(f"its rows have format {told['format']}, this version's have {FORMAT}")
        config = _config(told["config"])
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told["sizes"].items()}
        sizes = Sizes(**plain)
        model = ClickModel(config.model, sizes)
        names = {name: tuple(pl.read_parquet(folder / f"{name}.parquet")["id"].to_list()) for name in _NAMES}
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        stored = Stored(
            model.eval(), config, told["features"], names, told["encoder"], told["calibration"], told["about"]
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the click model cannot be read: {reason}", where=str(folder), mend="train it again"
        ) from error
    except pl.exceptions.PolarsError as error:
        raise InputError(
            "the click model's names cannot be read", where=str(folder), mend="train it again"
        ) from error
    return stored


def _config(plain: dict[str, Any]) -> RankConfig:
    model, train = dict(plain["model"]), dict(plain["train"])
    model["cube"] = CubeConfig(**{**model["cube"], "branches": tuple(model["cube"]["branches"])})
    model["hidden"], model["labels"] = tuple(model["hidden"]), tuple(model["labels"])
    train["debias"] = DebiasConfig(**train["debias"])
    rest = {k: v for k, v in plain.items() if k not in ("model", "train", "acts")}
    return RankConfig(
        model=ClickConfig(**model), train=ClickTrainConfig(**train), acts=tuple(plain["acts"]), **rest
    )


@torch.no_grad()
def rebound(stored: Stored, history: History) -> ClickModel:
    """The model over the numbers of another history: ids that it knows keep their rows, others get the unknown's.

    One row behind the queries is kept for a query that is in no history (unknown, too).

    Cost: one pass over the tables.
    """
    model = stored.model
    old_items, old_queries = len(stored.names["items"]), len(stored.names["queries"])
    things = _rows(history.items, stored.names["items"], 1)
    queries = _rows(history.queries, stored.names["queries"], 1 + old_items)
    place = torch.cat((torch.zeros(1, dtype=torch.int64), things, queries, torch.zeros(1, dtype=torch.int64)))
    users = torch.cat((torch.zeros(1, dtype=torch.int64), _rows(history.users, stored.names["users"], 1)))
    sizes = dataclasses.replace(
        model.sizes, things=len(place) - 1, users=len(users) - 1, products=len(history.items)
    )
    assert model.sizes.things >= old_items + old_queries
    made = ClickModel(stored.config.model, sizes)
    state = model.state_dict()
    state["things.weight"] = state["things.weight"][place]
    state["users.weight"] = state["users.weight"][users]
    made.load_state_dict(state)
    return made.eval()


def _rows(now: tuple[str, ...], then: tuple[str, ...], first: int) -> torch.Tensor:
    place = pl.DataFrame({"id": then}, schema={"id": pl.String}).with_row_index("row", offset=first)
    found = pl.DataFrame({"id": now}, schema={"id": pl.String}).join(
        place, on="id", how="left", maintain_order="left"
    )
    return torch.from_numpy(found["row"].cast(pl.Int64).fill_null(0).to_numpy().copy())
