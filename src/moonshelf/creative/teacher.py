"""The measured teacher: given a pair and its winner it writes the protocol's answers, each reason a true sentence.

It needs no network. What a measure is worth comes from the log: ``weights`` of a selector that was fitted on measures
alone, and how they bend (``features.curves``). Its evidence for A is ``e_m = g_m(a_m) - g_m(b_m)``, in log click rate,
g_m being a straight or a broken line. A question is answered by the sum of the
evidence of its measures: A or B from ``LEAST`` on, else equal; its reason is the measure that speaks loudest for the
answer, said as a checkable sentence (``facts``). The label is the choice. A trace whose evidence as a whole speaks
against the label is rejected and counted, as are pairs of which nothing can be said. Our design (Creative4U 2508.12628
does not say who wrote its reasoning).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from moonshelf.creative.facts import ASPECTS, INDEX, PHRASES, Fact, Side, fact, holds, read_fact, write_fact
from moonshelf.creative.fast import FastSelector
from moonshelf.creative.features import curves, filled
from moonshelf.creative.measures import NAMES
from moonshelf.creative.protocol import COMPARED, Answer, Better, Choice, Verdict, YesNo, write_verdict
from moonshelf.errors import InputError

LEAST = 0.01  # of log click rate: less evidence than this answers "equal"


@dataclass(frozen=True, slots=True)
class Trace:
    """A written comparison.

    Attributes:
        text: the answer in the protocol's format.
        facts: the reasons as facts, by question.
        main: the measure that speaks loudest in the aspect (``facts.ASPECTS``) that speaks loudest for the winner,
            said or not.
        evidence: of all measures for the winner, in log click rate.
    """

    text: str
    verdict: Verdict
    facts: dict[str, Fact]
    main: str
    evidence: float


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why there is no trace of a pair."""

    why: str


@dataclass(frozen=True, slots=True)
class Teacher:
    """See the module.

    Attributes:
        weights: ``[len(NAMES)]`` log click rate a unit of each measure.
        bends: ``[len(NAMES) x len(KNOTS)]``, how much steeper beyond each knot; None: straight lines.
        knots: where; see ``features.knots_of``.
        means: ``[len(NAMES)]`` what counts for a measure that is not there; None: 0.
    """

    weights: np.ndarray
    bends: np.ndarray | None = None
    knots: np.ndarray | None = None
    means: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.weights.shape != (len(NAMES),) or not np.isfinite(self.weights).all():
            raise ValueError(f"weights of shape {self.weights.shape}, not ({len(NAMES)},), or not finite")

    def evidence(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """``[len(NAMES)]`` of each measure for A, in log click rate."""
        if self.means is not None:
            a, b = filled(a, self.means), filled(b, self.means)
        found: np.ndarray = self.weights * (a - b)
        if self.bends is not None and self.knots is not None:
            both = curves(np.stack((a, b)), self.knots) * self.bends
            bent = both.reshape(2, len(NAMES), -1).sum(2)
            found = found + bent[0] - bent[1]
        return found

    def write(
        self, a: np.ndarray, b: np.ndarray, winner: Side, *, contradicting: bool = False
    ) -> Trace | Rejected:
        """One comparison.

        Args:
            a, b: measures of the creatives.
            winner: the label; it is the choice, whatever the evidence.
            contradicting: keep traces whose evidence speaks for the loser: their reasons stay true, and concede.
        """
        evidence = self.evidence(a, b)
        sign = 1.0 if winner == "A" else -1.0
        total = float(evidence.sum())
        answers: dict[str, Answer] = {"identical": YesNo.NO, "similar": YesNo.NO}
        reasons: dict[str, str] = {}
        found: dict[str, Fact] = {}
        for question in COMPARED:
            answers[question], told = self._answer(question, evidence, a, b)
            if told is not None:
                found[question], reasons[question] = told, write_fact(told)
        answers["choice"] = Choice(winner)
        if not found:
            return Rejected("nothing that is measured differs")
        if sign * total <= 0 and not contradicting:
            return Rejected("the measures speak for the other one")
        verdict = Verdict(answers, reasons)
        return Trace(write_verdict(verdict), verdict, found, main_of(sign * evidence), sign * total)

    def _answer(
        self, question: str, evidence: np.ndarray, a: np.ndarray, b: np.ndarray
    ) -> tuple[Better, Fact | None]:
        own = [name for name, phrase in PHRASES.items() if phrase.question == question]
        total = sum(float(evidence[INDEX[name]]) for name in own)
        if abs(total) < LEAST:
            return Better.EQUAL, None
        side: Side = "A" if total > 0 else "B"
        loud = sorted(own, key=lambda name: -float(evidence[INDEX[name]]) * (1 if side == "A" else -1))
        for name in loud:
            if evidence[INDEX[name]] * (1 if side == "A" else -1) <= 0:
                break
            told = fact(name, side, a, b)
            if told is not None:
                return Better(side), told
        return Better.EQUAL, None


def main_of(evidence: np.ndarray) -> str:
    """The measure that names the main reason for the creative that the evidence ``[len(NAMES)]`` is for.

    The aspect of the largest sum, and in it the loudest measure: that a ground is quiet is told by five measures, and
    each alone may be fainter than the one that tells of the size.
    """
    totals = {
        aspect: sum(float(evidence[INDEX[name]]) for name in names) for aspect, names in ASPECTS.items()
    }
    aspect = max(totals, key=lambda a: totals[a])
    return max(ASPECTS[aspect], key=lambda name: float(evidence[INDEX[name]]))


def teacher_of(selector: FastSelector) -> Teacher:
    """The teacher whose weights are those of a selector fitted on measures alone.

    Raises:
        InputError: the selector reads other blocks, too: what they explain would be missing from its measures.
    """
    if not {"measures"} <= set(selector.weights) <= {"measures", "curves"}:
        raise InputError(
            "the teacher needs a selector of measures alone",
            mend="fit it with fit_additive, or with mixes=[('measures',)]",
        )
    bends, known = selector.weights.get("curves"), selector.standards
    return Teacher(
        selector.weights["measures"],
        bends,
        None if bends is None else known["curves"][0],
        known["present"][0] if "present" in known else None,
    )


def teach(
    teacher: Teacher, a: np.ndarray, b: np.ndarray, winners: Iterable[Side], *, contradicting: bool = False
) -> tuple[list[Trace | None], dict[str, int]]:
    """Traces of P pairs (``a``, ``b``: ``[P, len(NAMES)]``), None where rejected, and how many were by reason."""
    out: list[Trace | None] = []
    why: Counter[str] = Counter()
    for one, other, winner in zip(a, b, winners, strict=True):
        trace = teacher.write(one, other, winner, contradicting=contradicting)
        out.append(trace if isinstance(trace, Trace) else None)
        why["kept" if isinstance(trace, Trace) else trace.why] += 1
    return out, dict(why)


def truthful(verdict: Verdict, a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    """Of a verdict's reasons: how many are true of the pair, how many false, how many cannot be checked."""
    true = false = unread = 0
    for reason in verdict.reasons.values():
        told = read_fact(reason)
        if told is None:
            unread += 1
        elif holds(told, a, b):
            true += 1
        else:
            false += 1
    return true, false, unread
