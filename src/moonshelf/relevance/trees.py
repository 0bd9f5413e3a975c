"""Gradient-boosted trees by LightGBM (Ke et al., NIPS 2017), kept as its text file. The one adapter of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from moonshelf.errors import InputError

ROUNDS = 1000
PATIENCE = 60
_MANY = 10_000
_SMALL = 60  # least rows of a leaf; a fortieth of the rows in a small shop


class Trees:
    """Trained trees: ``predict([n, F]) -> [n]`` float64. Feature names are kept in the order of training."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster

    @property
    def names(self) -> list[str]:
        """Names of the features, in order."""
        return [str(name) for name in self._booster.feature_name()]

    @property
    def count(self) -> int:
        """Number of trees."""
        return int(self._booster.num_trees())

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Raw scores ``[n]`` float64 of feature rows ``[n, F]``."""
        if not len(rows):
            return np.empty(0)
        # one thread: a filter's 200 rows take 2 ms, and starting threads beside torch's takes longer
        return np.asarray(self._booster.predict(rows, num_threads=1 if len(rows) < 2000 else 0))

    def gains(self) -> dict[str, float]:
        """Share of the loss that each feature took away in training, largest first."""
        gain = self._booster.feature_importance("gain")
        shares = gain / max(float(gain.sum()), 1e-12)
        return dict(sorted(zip(self.names, shares.tolist(), strict=True), key=lambda x: -x[1]))

    def save(self, path: Path) -> None:
        """Write LightGBM's text format."""
        path.write_text(self._booster.model_to_string())

    @classmethod
    def load(cls, path: Path) -> Trees:
        """Read what ``save`` wrote.

        Raises:
            InputError: the file is missing or damaged.
        """
        lightgbm = library()
        try:
            return cls(lightgbm.Booster(model_str=path.read_text()))
        except (OSError, UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
            raise InputError(
                "the trees cannot be read",
                where=str(path),
                mend="train again with: moonshelf relevance train",
            ) from error


def train_trees(
    rows: np.ndarray,
    grade: np.ndarray,
    names: list[str],
    *,
    held: tuple[np.ndarray, np.ndarray],
    seed: int,
    rounds: int = ROUNDS,
) -> Trees:
    """Least squares on grades, stopped when 60 more trees do not help the held-out rows.

    Args:
        rows: ``[n, F]`` float32, NaN where a feature cannot be told.
        grade: ``[n]``.
        held: rows and grades of queries that are not in ``rows``.

    The settings were chosen by cross-validation over training queries (docs/relevance.md).
    """
    lightgbm = library()
    settings = {
        "objective": "regression",
        "learning_rate": 0.03,
        "num_leaves": 31,
        "min_data_in_leaf": min(_SMALL, max(2, len(rows) // 40)),
        "feature_fraction": 0.3,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "seed": seed,
        "deterministic": True,
        # threads meet once a leaf: on few rows waiting costs more than the work, most of all beside torch's threads
        "num_threads": 0 if len(rows) >= _MANY else 1,
        "force_row_wise": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(rows, grade, feature_name=names, params={"verbose": -1})
    booster = lightgbm.train(
        settings,
        data,
        rounds,
        valid_sets=[lightgbm.Dataset(*held, reference=data)],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    # what comes after the best round is dropped, so that the file holds what predicts
    return Trees(lightgbm.Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration)))


def library() -> Any:
    """The module ``lightgbm``, imported late.

    Raises:
        InputError: it is not installed, or OpenMP, which it loads, is not.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise InputError(
            "the relevance model needs lightgbm", mend="pip install 'moonshelf[relevance]'"
        ) from error
    except OSError as error:
        raise InputError(
            f"lightgbm is installed but cannot be loaded: {error}",
            mend="install OpenMP (libgomp1 on Debian, libomp on macOS)",
        ) from error
    return lightgbm
