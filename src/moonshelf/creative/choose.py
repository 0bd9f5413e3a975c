"""The best of N creatives, with its probability, the written comparison, and what other searches would change.

``f`` of the fast selector orders them; the verdict is withheld where the best beats the next with less than ``close``.
The comparison of the best with each other one is the measured teacher's: its sentences are true of the pair, whatever
the selector read in vectors, and where they speak for the other one that is said. Our design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moonshelf.creative.chooser import Chooser
from moonshelf.creative.facts import fact, write_fact
from moonshelf.creative.logs import words_key
from moonshelf.creative.measures import Brief, Seen, see
from moonshelf.creative.place import cutout_of
from moonshelf.creative.protocol import COMPARED, QUESTIONS, Better
from moonshelf.creative.teacher import Trace
from moonshelf.creative.tournament import CLOSE, Standing, from_scores
from moonshelf.encoder import CompactEncoder
from moonshelf.encoder.language import Language
from moonshelf.errors import InputError
from moonshelf.progress import say
from moonshelf.shop.decode import read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True, slots=True)
class Compared:
    """The best beside another one.

    Attributes:
        other: its number.
        chance: that the best beats it.
        answers: of the protocol's questions 3 to 9, ``A`` is the best one, ``B`` the other; empty where nothing that
            is measured differs.
        reasons: true sentences for some of them.
        agrees: whether what is measured (or what was written, where a reasoner was asked) speaks for the best.
        by: what gave the answers: ``measures`` or ``words``.
        main: the main reason as a true sentence (``teacher.main_of``); "" where it cannot be said of both.
    """

    other: int
    chance: float
    answers: dict[str, Better]
    reasons: dict[str, str]
    agrees: bool
    by: str = "measures"
    main: str = ""

    @property
    def caveat(self) -> str:
        """What must be said of its answers; "" where nothing must."""
        written = self.by == "words"
        if not self.answers:
            if written:
                return "what was written of the two cannot be read"
            return "nothing that is measured differs; the selector goes by vectors"
        if not self.agrees:
            if written:
                return "in both orders what was written speaks for B; the sum over all pairs speaks for A"
            return "what is measured speaks for B; the selector goes by vectors"
        return "" if self.reasons else "no reason was written that is true of the two"


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcome.

    Attributes:
        names: of the creatives, as given.
        standing: who is how strong; ``verdict`` None where it is too close.
        compared: the best with each other one, best first.
        title, queries: what they were judged for.
        shares: ``[N, measures]``: what each measure adds to a creative's log click rate.
    """

    names: tuple[str, ...]
    standing: Standing
    compared: tuple[Compared, ...]
    title: str
    queries: tuple[str, ...]
    shares: np.ndarray

    @property
    def best(self) -> int:
        """Number of the strongest one, close or not."""
        return int(self.standing.order[0])

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        s = self.standing
        return {
            "title": self.title,
            "queries": list(self.queries),
            "verdict": None if s.verdict is None else self.names[s.verdict],
            "over_next": s.over_next,
            "creatives": [
                {"creative": self.names[i], "place": at + 1, "probability_best": float(s.best[i])}
                for at, i in enumerate(s.order.tolist())
            ],
            "compared": [
                {
                    "with": self.names[c.other], "chance": c.chance, "reasons": c.reasons,
                    "answers": {key: answer.value for key, answer in c.answers.items()}, "measures_agree": c.agrees,
                    "main": c.main,
                }
                for c in self.compared
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        s, best = self.standing, self.names[self.best]
        asked = (
            f" for searches {', '.join(repr(q) for q in dict.fromkeys(self.queries))}" if self.queries else ""
        )
        if s.verdict is None:
            lines = [f"too close to call{asked}: {best} is ahead of the next with {s.over_next:.0%}"]
        else:
            lines = [f"{best}{asked}, ahead of the next with {s.over_next:.0%}"]
        for at, i in enumerate(s.order.tolist()):
            lines.append(f"{at + 1:>3}  {s.best[i]:>5.0%}  {self.names[i]}")
        for c in self.compared[:1]:
            lines.append(f"why A, {best}, rather than B, {self.names[c.other]}:")
            lines += [f"  {key}: {c.answers[key].value} - {reason}" for key, reason in c.reasons.items()]
            if c.main and c.agrees:
                lines.append(f"  mainly: {c.main}")
            if c.caveat:
                lines.append(f"  {c.caveat}")
        return "\n".join(lines)


def read_creatives(
    given: Sequence[str],
    chooser: Chooser,
    title: str = "",
    queries: Sequence[str] = (),
    *,
    words: Sequence[str] = (),
    photo: str | None = None,
) -> list[Brief]:
    """Creatives of a command line: files of pictures, or texts, as the selector's kind is.

    Args:
        words: on the pictures, in their order; none, or one each ("" for a picture without).
        photo: file of the product's own photo, on plain ground.

    Raises:
        InputError: fewer than two, the same one twice (texts: whatever their marks), a file that is no picture, or the
            other kind.
    """
    if len(given) < 2:
        raise InputError("one creative is no choice", mend="give two or more")
    keys = [_key(one, chooser.kind) for one in given]
    again = next((g for i, g in enumerate(given) if keys[i] in keys[:i]), None)
    if again is not None:
        raise InputError("a creative is given twice", where=again, mend="give each once")
    if words and (chooser.kind == "text" or len(words) != len(given)):
        raise InputError(
            f"{len(words)} texts of words on {len(given)} creatives",
            mend="give the words of every picture, in order",
        )
    if photo is not None and chooser.kind == "text":
        raise InputError(
            "the selector was trained on texts", where=photo, mend="leave the product's photo out"
        )
    cutout = None if photo is None else cutout_of(read_image(photo))
    if photo is not None and cutout is None:
        say(
            f"creative: the product cannot be cut from {photo}: where it stands in the pictures is not measured"
        )
    found: list[Brief] = []
    for at, one in enumerate(given):
        named = Path(one).suffix.lower() in SUFFIXES
        if chooser.kind == "text":
            if named and _is_file(one):
                raise InputError(
                    "the selector was trained on texts, and this is a picture", where=one, mend="give texts"
                )
            if not one.strip():
                raise InputError("an empty text is no creative", mend="leave it out")
            found.append(Brief(one, None, title, tuple(queries)))
            continue
        if not named and not _is_file(one):
            raise InputError(
                "the selector was trained on pictures, and this is no file of a picture",
                where=one,
                mend=f"give files ending in {', '.join(SUFFIXES[:4])}",
            )
        picture = read_image(one)
        said = words[at] if words else None
        found.append(
            Brief(said, lambda picture=picture: picture, title, tuple(queries), lambda: cutout)  # type: ignore[misc]
        )
    return found


def _key(one: str, kind: str) -> str:
    """Equal for creatives that are the same: a file, or a text whatever its marks and capitals."""
    if any("\ud800" <= c <= "\udfff" for c in one):
        raise InputError("a creative is no UTF-8 text", where=ascii(one[:80]), mend="write it in UTF-8")
    if kind == "text":
        return words_key(one)
    return str(Path(one).resolve()) if _is_file(one) else one


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # a long text is no name of a file
        return False


def select(
    chooser: Chooser,
    encoder: CompactEncoder,
    creatives: Sequence[Brief],
    names: Sequence[str],
    *,
    close: float = CLOSE,
    seen: Seen | None = None,
    language: Language | None = None,
) -> Selection:
    """Choose.

    Args:
        creatives: two or more, for one title and the same queries.
        names: of them, for the answer.
        close: see :func:`from_scores`.
        seen: of the creatives, if they were seen before.
        language: the language model that the selector reads texts with, where it does.

    Raises:
        InputError: another encoder than the one that the selector was trained with.

    Cost: that of :func:`see`; the choice itself is under a millisecond a creative.
    """
    check_encoder(chooser, encoder)
    if seen is None:
        seen = see(encoder, creatives, among=chooser.headlines, language=language)
    f = chooser.fast.score(seen, [c.text or "" for c in creatives])
    standing = from_scores(f, chooser.fast.scale, close=close)
    best, teacher = int(standing.order[0]), chooser.teacher
    compared = []
    for other in standing.order[1:].tolist():
        chance = float(chooser.fast.chance(f[best : best + 1], f[other : other + 1])[0])
        a, b = seen.measures[best], seen.measures[other]
        trace = teacher.write(a, b, "A", contradicting=True)
        if isinstance(trace, Trace):
            answers = {key: Better(trace.verdict.answers[key].value) for key in COMPARED}
            main = fact(trace.main, "A", a, b)
            compared.append(
                Compared(
                    other, chance, answers, dict(trace.verdict.reasons), trace.evidence > 0,
                    main="" if main is None else write_fact(main),
                )
            )  # fmt: skip
        else:
            compared.append(Compared(other, chance, {}, {}, False))
    first = creatives[0]
    return Selection(
        tuple(names), standing, tuple(compared), first.title, first.queries, chooser.measures.shares(seen)
    )


def check_encoder(chooser: Chooser, encoder: CompactEncoder) -> None:
    """Refuse vectors of another encoder.

    Raises:
        InputError: with both versions.
    """
    if encoder.version != chooser.encoder:
        raise InputError(
            f"the selector reads vectors of encoder {chooser.encoder}, this one is {encoder.version}",
            mend="name that encoder with --encoder, or train the selector again",
        )


def asked(key: str, kind: str) -> str:
    """The wording of a question by its key."""
    question = next(q for q in QUESTIONS if q.key == key)
    return question.image if kind == "image" else question.text
