"""The ranking stage: from a shop and its vectors to a click model in a folder, and back."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.calibrate import Calibration, fit_calibration
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.content import Content
from moonshelf.ranking.features import ROW_SIZES, Features, build_features, row_columns
from moonshelf.ranking.history import History
from moonshelf.ranking.models.click_model import NEEDS_CONTENT, ClickModel, Sizes
from moonshelf.ranking.parts import parts_of
from moonshelf.ranking.rows import Rows
from moonshelf.ranking.store import FORMAT, Stored, load_ranker, rebound, save_ranker
from moonshelf.ranking.train import STAGE, score, train_clicks
from moonshelf.shop.shop import Shop
from moonshelf.workspace import atomic_folder, digest, read_manifest, write_manifest


@dataclass(frozen=True, slots=True)
class Ranker:
    """A click model bound to a shop: scores any rows of its history.

    Attributes:
        model: over the numbers of ``history``.
        calibration: of the first label; None leaves the model's own probabilities.
    """

    shop: Shop
    history: History
    features: Features
    content: Content | None
    model: ClickModel
    config: RankConfig
    calibration: Calibration | None = None

    def batches(self, rows: Rows, content: Content | None = None, asked: str | None = None) -> ClickBatches:
        """Rows with everything that the model reads; ``content`` and ``asked`` of a query that is in no history."""
        return ClickBatches(
            rows, self.history, self.features, content or self.content,
            row_columns=row_columns(self.shop, self.history, rows, asked), longest=self.config.model.longest,
        )  # fmt: skip

    def score(
        self, rows: Rows, *, placed: bool, content: Content | None = None, asked: str | None = None
    ) -> np.ndarray:
        """``[N]`` probabilities of the first label, calibrated; ``placed`` as in ``ClickModel.forward``."""
        found = score(self.model, self.batches(rows, content, asked), placed=placed)[:, 0]
        if self.calibration is None:
            return found
        return self.calibration.apply(found).astype(np.float32)


def wants_content(config: RankConfig) -> bool:
    """Whether the settings read content vectors."""
    return config.model.interest in NEEDS_CONTENT or config.model.mode != "id"


def train_ranker(
    shop: Shop,
    history: History,
    content: Content | None,
    work: Path,
    config: RankConfig,
    *,
    seed: int = 0,
    resume: bool = True,
) -> Path:
    """Train a click model and write ``work/ranking``; skipped when a model of the same data and settings is there.

    Args:
        content: vectors of the shop's products; None only where the settings read none.

    Raises:
        InputError: the settings read vectors and there are none.
        TooLittleData: see ``parts_of`` and ``train_clicks``.
    """
    if wants_content(config) and content is None:
        raise InputError(
            f"ranking.model.interest={config.model.interest} reads product vectors, and no shelf is named",
            mend="add --shelf DIR, or set ranking.model.interest=din and ranking.model.mode=id",
        )
    content = content if wants_content(config) else None
    folder, begun = work / "ranking", time.monotonic()
    encoder = "" if content is None else content.version
    asks = "" if content is None else content.asks
    inputs = {
        "shop": shop.fingerprint,
        "encoder": encoder,
        "dim": content.dim if content else 0,
        "queries": asks,
        "format": FORMAT,
    }
    key = digest([STAGE, inputs, asdict(config), seed])
    done = read_manifest(folder)
    if done is not None and done["key"] == key:
        say(f"{STAGE}: done already ({folder})")
        return folder
    features = build_features(shop, history)
    for name, share in features.told().items():
        say(f"{STAGE}: {share:.1%} of the values of {name} share their number with another")
    parts = parts_of(shop, history, config, seed)
    sizes = Sizes(
        len(history.items) + len(history.queries), len(history.users), tuple(c.size for c in features.item),
        tuple(c.size for c in features.user), ROW_SIZES, 0 if content is None else content.dim, len(history.items),
    )  # fmt: skip
    model = ClickModel(config.model, sizes, seed)
    ranker = Ranker(shop, history, features, content, model, config)
    run = work / "ranking-run"
    if not resume or not (run / "key").is_file() or (run / "key").read_text() != key:
        shutil.rmtree(run, ignore_errors=True)  # of other data or settings
        run.mkdir(parents=True)
        (run / "key").write_text(key)
    trained = train_clicks(
        model, ranker.batches(parts["train"]), ranker.batches(parts["val"]), config.train, run,
        seed=seed, mark=key,
    )  # fmt: skip
    calibration = _calibrated(ranker, parts["val"])
    about = {
        "shop": shop.name, "seed": seed, "val": trained.best, "epochs": trained.history,
        "rows": {name: len(rows) for name, rows in parts.items()}, "made": parts["train"].made,
        "looks by place": model.examination.curve() if model.examination is not None else None,
    }  # fmt: skip
    names = {"items": history.items, "queries": history.queries, "users": history.users}
    plain = None if calibration is None else calibration.as_dict()
    with atomic_folder(folder, ("ranking.json",)) as out:
        save_ranker(Stored(model, config, features.spec(), names, encoder, plain, about), out)
        (out / "log.jsonl").write_bytes((run / "log.jsonl").read_bytes())
        write_manifest(
            out, stage=STAGE, inputs=inputs, config=asdict(config), seed=seed,
            seconds=time.monotonic() - begun, metrics=trained.best,
        )  # fmt: skip
    shutil.rmtree(run)
    return folder


def _calibrated(ranker: Ranker, val: Rows) -> Calibration | None:
    """The calibration that the settings ask for, fitted on val; None where val does not allow one."""
    if ranker.config.calibrate == "none":
        return None
    label = val.clicked(ranker.model.config.labels[0])
    try:
        return fit_calibration(ranker.config.calibrate, ranker.score(val, placed=True), label)
    except InputError as error:
        say(f"{STAGE}: not calibrated: {error}")
        return None


def open_ranker(path: str | Path, shop: Shop, history: History, content: Content | None) -> Ranker:
    """A stored click model over a shop, which may have other products and users than the one it was trained on.

    Raises:
        InputError: see ``load_ranker``; the vectors are of another encoder version than the model's, or missing.
    """
    stored = load_ranker(path)
    if stored.encoder and content is None:
        raise InputError(
            f"this click model reads vectors of encoder {stored.encoder}, and no shelf is named",
            where=str(path),
            mend="add --shelf DIR",
        )
    if stored.encoder and content is not None and content.version != stored.encoder:
        raise InputError(
            f"these vectors are of encoder {content.version}, the click model was trained with {stored.encoder}",
            where=str(path),
            mend="embed the shop with that encoder, or train the click model again",
        )
    features = build_features(shop, history, like=stored.features)
    calibration = None if stored.calibration is None else Calibration.from_dict(stored.calibration)
    own = content if stored.encoder else None
    return Ranker(shop, history, features, own, rebound(stored, history), stored.config, calibration)


def candidate_rows(history: History, user: int, items: np.ndarray, moment: int, query: int = -1) -> Rows:
    """Rows to be scored: one user, one moment, some products, perhaps a query; labels are unknown (False)."""
    n = len(items)
    users = np.full(n, user, dtype=np.int32)
    times = np.full(n, moment, dtype=np.int64)
    return Rows(
        users, items.astype(np.int32), np.full(n, query, dtype=np.int32), times, history.until(users, times),
        np.zeros((n, 3), dtype=bool), np.zeros(n, dtype=np.int16), np.full(n, np.nan, dtype=np.float32),
        np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.float32),
    )  # fmt: skip


def after(history: History) -> int:
    """A moment after everything in a history, in microseconds."""
    return int(history.time.max(initial=0)) + 1
