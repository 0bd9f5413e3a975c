"""What ``creative train`` leaves behind: the fast selector, what it is measured against, and how pairs were made.

A folder with

    chooser.json          kind, rules, settings
    fast/                 the selector
    measures/             the same of measures alone: the teacher's weights
    logistic/             the field's baseline; missing where there was nothing to fit it on
    pairs/                the pairs of the log, with what was left out
    reasoner/             a language model, where one was trained
    manifest.json
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moonshelf.creative.fast import FastSelector, load_fast
from moonshelf.creative.pairs import PairRules
from moonshelf.creative.protocol import Kind
from moonshelf.creative.teacher import Teacher, teacher_of
from moonshelf.errors import InputError
from moonshelf.workspace import write_json

STAGE, FORMAT = "creative", 1
FILE = "chooser.json"
REASONER = "reasoner"


@dataclass(frozen=True, slots=True)
class Chooser:
    """See the module.

    Attributes:
        kind: ``image`` where creatives are pictures, ``text`` where they are words.
        fast: the selector.
        measures: of measures alone.
        logistic: on vector differences of significant pairs, None where there were none.
        rules: which pairs of the log were kept.
        encoder: version of the encoder that vectors come from.
        about: what it was trained on.
        headlines: texts that those of creatives are compared with.
        language: version of the language model that texts are read with; "": none.
    """

    kind: Kind
    fast: FastSelector
    measures: FastSelector
    logistic: FastSelector | None
    rules: PairRules
    encoder: str
    about: dict[str, Any] = field(default_factory=dict)
    headlines: tuple[str, ...] = ()
    language: str = ""

    @property
    def teacher(self) -> Teacher:
        """Writes comparisons by what is measured."""
        return teacher_of(self.measures)

    def save(self, folder: Path) -> None:
        """Write into an existing folder."""
        for name, selector in (
            ("fast", self.fast), ("measures", self.measures), ("logistic", self.logistic)
        ):  # fmt: skip
            if selector is not None:
                (folder / name).mkdir()
                selector.save(folder / name)
        told = {
            "format": FORMAT, "kind": self.kind, "rules": dataclasses.asdict(self.rules), "encoder": self.encoder,
            "about": self.about, "headlines": list(self.headlines), "language": self.language,
        }  # fmt: skip
        write_json(folder / FILE, told)


def find_chooser(path: str | Path) -> Path:
    """The folder that holds ``chooser.json``: the path itself, or ``creative/`` in a work folder.

    Raises:
        InputError: there is none.
    """
    for folder in (Path(path), Path(path) / STAGE):
        if (folder / FILE).is_file():
            return folder
    raise InputError(
        "there is no selector of creatives here",
        where=str(path),
        mend="give a work folder after moonshelf creative train, or its folder creative",
    )


def load_chooser(path: str | Path) -> Chooser:
    """Read what :meth:`Chooser.save` wrote.

    Raises:
        InputError: nothing is there, a damaged file, or settings that this version does not know.
    """
    folder = find_chooser(path)
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if told["format"] != FORMAT or told["kind"] not in ("image", "text"):
            raise ValueError("its format is another one than this version's")
        rules = PairRules(**told["rules"])
        kind, encoder, about = told["kind"], str(told["encoder"]), dict(told["about"])
        headlines, language = tuple(str(t) for t in told["headlines"]), str(told.get("language", ""))
    except (KeyError, TypeError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the selector of creatives cannot be read: {reason}", where=str(folder), mend="train it again"
        ) from error
    logistic = load_fast(folder / "logistic") if (folder / "logistic").is_dir() else None
    return Chooser(
        kind, load_fast(folder / "fast"), load_fast(folder / "measures"), logistic, rules, encoder, about,
        headlines, language,
    )  # fmt: skip
