"""The ranking stage: from a shop and its vectors to a click model in a folder, and back."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.ranking.batches import ClickBatches
from moonshelf.ranking.calibrate import Calibration, fit_calibration
from moonshelf.ranking.config import RankConfig
from moonshelf.ranking.content import Content
from moonshelf.ranking.features import ROW_SIZES, Features, Popularity, build_features, row_columns
from moonshelf.ranking.history import QUERY, History
from moonshelf.ranking.models.click_model import NEEDS_CONTENT, POSITIONS, ClickModel, Sizes
from moonshelf.ranking.parts import moments, parts_of
from moonshelf.ranking.rows import Rows
from moonshelf.ranking.store import FORMAT, Stored, load_ranker, rebound, save_ranker
from moonshelf.ranking.train import STAGE, score, train_clicks
from moonshelf.shop.shop import Shop
from moonshelf.workspace import atomic_folder, digest, read_manifest, write_manifest


@dataclass(frozen=True)
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

    @cached_property
    def popularity(self) -> Popularity:
        """The log by product, sorted once for all questions."""
        return Popularity.of(self.history)

    def batches(self, rows: Rows, content: Content | None = None, asked: str | None = None) -> ClickBatches:
        """Rows with everything that the model reads; ``content`` and ``asked`` of a query that is in no history."""
        columns = row_columns(self.shop, self.history, rows, asked, self.popularity)
        return ClickBatches(
            rows, self.history, self.features, content or self.content, row_columns=columns,
            longest=self.config.model.longest,
        )  # fmt: skip

    def raw(
        self, rows: Rows, *, placed: bool, content: Content | None = None, asked: str | None = None
    ) -> np.ndarray:
        """``[N]`` the model's own probabilities of the first label, which order rows; ``placed`` as in
        ``ClickModel.forward``.
        """
        return score(self.model, self.batches(rows, content, asked), placed=placed)[:, 0]

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """``[N]`` float32 probabilities that hold, of what :meth:`raw` gives; where many were equal, ties appear."""
        return raw if self.calibration is None else self.calibration.apply(raw).astype(np.float32)


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
    if config.model.adapter + config.model.debias > 0 and not wants_content(config):
        raise InputError(
            "ranking.model.adapter and ranking.model.debias move product vectors, and these settings read none",
            mend="set ranking.model.mode=both, or leave them out",
        )
    content = content if wants_content(config) else None
    folder, begun = work / "ranking", time.monotonic()
    encoder = "" if content is None else content.version
    inputs = {
        "shop": shop.fingerprint,
        "encoder": encoder,
        "dim": content.dim if content else 0,
        "vectors": "" if content is None else content.mark(),
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
    at = moments(shop, history, config)
    parts = parts_of(shop, history, config, seed, at)
    sizes = Sizes(
        len(history.items) + len(history.queries), len(history.users), tuple(c.size for c in features.item),
        tuple(c.size for c in features.user), ROW_SIZES, 0 if content is None else content.dim, len(history.items),
        features.group,
    )  # fmt: skip
    model = ClickModel(config.model, sizes, seed)
    if model.taste is not None:
        acts = history.what[(history.kind < QUERY) & (history.time < at[0])]
        model.taste.fit(features.item_table, acts, None if content is None else content.fetch)
    ranker = Ranker(shop, history, features, content, model, config)
    if parts["train"].made and config.calibrate != "none":
        say(
            f"{STAGE}: not calibrated: how often drawn negatives occur is our choice, so scores order and no more"
        )
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
        "queries have vectors": content is not None and content.asks, "at": list(at),
        "fingerprint": shop.fingerprint,
        "looks by place": _looks(model, parts["train"]),
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
    """The calibration that the settings ask for, fitted on val; None where val does not allow one, or is made."""
    if ranker.config.calibrate == "none" or val.made:
        return None
    label = val.clicked(ranker.model.config.labels[0])
    try:
        return fit_calibration(ranker.config.calibrate, ranker.raw(val, placed=True), label)
    except InputError as error:
        say(f"{STAGE}: not calibrated: {error}")
        return None


def _looks(model: ClickModel, train: Rows) -> list[float] | None:
    """The learned share of looks of the places that training rows have, beside the first; None where there is none."""
    last = int(train.position.max(initial=0))
    if model.examination is None or last < 2:
        return None
    return model.examination.curve(min(last, POSITIONS))


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
    if own is not None and own.asks and not stored.about["queries have vectors"]:
        say(f"{STAGE}: this model learned without vectors of queries, so it is given none")
        own = own.without_queries()
    elif own is not None and not own.asks and stored.about["queries have vectors"] and history.queries:
        raise InputError(
            "this click model learned with vectors of past queries, and the encoder to make them was not found",
            where=str(path),
            mend="add --encoder PATH",
        )
    return Ranker(shop, history, features, own, rebound(stored, history), stored.config, calibration)


def candidate_rows(
    history: History, user: int, items: np.ndarray, moment: int | np.ndarray, query: int = -1
) -> Rows:
    """Rows to be scored: one user, one moment (or one a product), some products, perhaps a query; labels are unknown
    (False).
    """
    n = len(items)
    users = np.full(n, user, dtype=np.int32)
    times = np.broadcast_to(np.asarray(moment, dtype=np.int64), (n,)).copy()
    return Rows(
        users, items.astype(np.int32), np.full(n, query, dtype=np.int32), times, history.until(users, times),
        np.zeros((n, 3), dtype=bool), np.zeros(n, dtype=np.int16), np.full(n, np.nan, dtype=np.float32),
        np.zeros(n, dtype=np.int64), np.ones(n, dtype=np.float32),
    )  # fmt: skip


def after(history: History) -> int:
    """A moment after everything in a history, in microseconds."""
    return int(history.time.max(initial=0)) + 1
