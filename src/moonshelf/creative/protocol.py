"""The evaluation protocol of Creative4U (2508.12628): ten questions about two creatives, asked and read strictly.

The paper's wording is not published: the questions are paraphrased (methods: our reading), and those for texts are our
design. An answer is

    <think>
    1. identical: no
    2. similar: no
    3. queries: B - its words come closer to the searches
    ...
    10. choice: B
    </think>
    <answer>B</answer>

The first two are answered yes or no, 3 to 9 by A, B or equal, the last by A or B and as in ``<answer>``. What follows
" - " is the reason, in one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal


class YesNo(StrEnum):
    """Answers of questions 1 and 2."""

    YES = "yes"
    NO = "no"


class Better(StrEnum):
    """Answers of questions 3 to 9."""

    A = "A"
    EQUAL = "equal"
    B = "B"


class Choice(StrEnum):
    """The answer of question 10."""

    A = "A"
    B = "B"


Answer = YesNo | Better | Choice
Kind = Literal["text", "image"]


@dataclass(frozen=True, slots=True)
class Question:
    """One of the ten: its key in an answer, how it is asked of pictures and of texts, what may be answered."""

    number: int
    key: str
    image: str
    text: str
    answers: type[YesNo] | type[Better] | type[Choice] = Better

    def asked(self, kind: Kind) -> str:
        """The wording for this kind of creative."""
        return self.image if kind == "image" else self.text


QUESTIONS: tuple[Question, ...] = (
    Question(1, "identical", "Are the two pictures identical?", "Are the two texts identical?", YesNo),
    Question(2, "similar", "Are they too similar to be judged?", "Are they too similar to be judged?", YesNo),
    Question(
        3, "queries", "Which fits the searches better, in words, elements and style?",
        "Which fits the searches better?",
    ),
    Question(4, "title", "Which fits the product's title better?", "Which fits the title better?"),
    Question(
        5, "copy", "Whose words on the picture are better: information, selling points, call to action?",
        "Whose content is better: information, curiosity, a reason to read on?",
    ),
    Question(6, "people", "Whose persons and props are better?", "Which speaks to people better?"),
    Question(7, "layout", "Whose layout is better: order, borders, clutter?", "Whose form is better: length, marks?"),
    Question(
        8, "subject", "Whose product is shown better: position, size, angle, completeness?",
        "Whose subject is more concrete: numbers, names, things?",
    ),
    Question(
        9, "background", "Whose background is better: colour, scene, looks?",
        "Whose tone is better: feeling, negativity, emphasis?",
    ),
    Question(10, "choice", "Which one would be clicked more?", "Which one would be clicked more?", Choice),
)  # fmt: skip
KEYS = tuple(q.key for q in QUESTIONS)
COMPARED = KEYS[2:9]  # answered by A, B or equal
MARK = " - "
_LINE = re.compile(r"(\d{1,2})\. ([a-z]+): ([A-Za-z]+)(?: - (\S.*))?")
_WHOLE = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_TAGS = re.compile(r"</?(?:think|answer)>")


class BadAnswer(ValueError):
    """An answer that breaks the format; ``str`` is the reason, short enough to be counted by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ten answers by key, with reasons for some.

    Raises:
        BadAnswer: an answer is missing, unknown or of the wrong kind, or a reason is not one plain line.
    """

    answers: Mapping[str, Answer]
    reasons: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if tuple(self.answers) != KEYS:
            raise BadAnswer("not the ten questions in their order")
        for question in QUESTIONS:
            if not isinstance(self.answers[question.key], question.answers):
                raise BadAnswer(f"{question.key} is answered by another kind of answer")
        for key, reason in self.reasons.items():
            if key not in KEYS:
                raise BadAnswer("a reason for no question")
            if not reason or reason != " ".join(reason.split()) or _TAGS.search(reason):
                raise BadAnswer("a reason is not one plain line")

    @property
    def choice(self) -> Choice:
        """The answer of the last question."""
        answer = self.answers["choice"]
        assert isinstance(answer, Choice)
        return answer

    def swapped(self) -> Verdict:
        """The same verdict with A and B exchanged, without reasons (their words name the sides)."""
        turned = {"A": "B", "B": "A"}
        return Verdict({k: type(v)(turned.get(v.value, v.value)) for k, v in self.answers.items()})


def write_verdict(verdict: Verdict) -> str:
    """The verdict in the format of the module; ``read_verdict`` reads it back."""
    lines = []
    for q in QUESTIONS:
        reason = verdict.reasons.get(q.key)
        lines.append(
            f"{q.number}. {q.key}: {verdict.answers[q.key].value}" + (f"{MARK}{reason}" if reason else "")
        )
    return "<think>\n" + "\n".join(lines) + f"\n</think>\n<answer>{verdict.choice.value}</answer>"


def split_answer(text: str) -> tuple[str, Choice]:
    """What stands between the think tags, and the choice: each tag once, in order, nothing around them.

    Raises:
        BadAnswer: with the reason.
    """
    found = _WHOLE.fullmatch(text)
    if found is None or len(_TAGS.findall(text)) != 4:
        raise BadAnswer("the tags are missing, out of order or doubled")
    try:
        return found[1], Choice(found[2].strip())
    except ValueError:
        raise BadAnswer("the choice is neither A nor B") from None


def read_choice(text: str) -> Choice | None:
    """The choice of an answer whose tags are right, whatever was thought; None where they are not."""
    try:
        return split_answer(text)[1]
    except BadAnswer:
        return None


def read_lines(thought: str) -> Verdict:
    """The ten lines of a thought.

    Raises:
        BadAnswer: with the reason.
    """
    lines = [line.strip() for line in thought.strip().splitlines()]
    if len(lines) != len(QUESTIONS):
        raise BadAnswer("not ten lines")
    answers: dict[str, Answer] = {}
    reasons: dict[str, str] = {}
    for question, line in zip(QUESTIONS, lines, strict=True):
        found = _LINE.fullmatch(line)
        if found is None:
            raise BadAnswer("a line is not 'number. key: answer'")
        if found[1] != str(question.number) or found[2] != question.key:
            raise BadAnswer("the questions are out of order")
        try:
            answers[question.key] = question.answers(found[3])
        except ValueError:
            raise BadAnswer(f"{question.key} has an unknown answer") from None
        if found[4]:
            reasons[question.key] = " ".join(found[4].split())
    return Verdict(answers, reasons)


def read_verdict(text: str) -> Verdict:
    """A whole answer, strictly.

    Raises:
        BadAnswer: with the reason; also where the last line and ``<answer>`` disagree, or identical creatives were
            compared all the same.
    """
    thought, choice = split_answer(text)
    verdict = read_lines(thought)
    if verdict.choice is not choice:
        raise BadAnswer("the last line and the answer disagree")
    if verdict.answers["identical"] is YesNo.YES and any(
        verdict.answers[k] is not Better.EQUAL for k in COMPARED
    ):
        raise BadAnswer("identical creatives were compared")
    return verdict


def agreement(verdict: Verdict, reference: Verdict) -> float:
    """Share of questions 3 to 9 that are answered as in the reference."""
    return sum(verdict.answers[k] is reference.answers[k] for k in COMPARED) / len(COMPARED)


SYSTEM = (
    "You compare two advertising creatives of one product and say which one more people will click. Answer the ten "
    "questions in their order, one a line, as 'number. key: answer - reason', between <think> and </think>; questions "
    "1 and 2 by yes or no, 3 to 9 by A, B or equal, 10 by A or B. Then write A or B between <answer> and </answer>."
)


def prompt(
    kind: Kind, *, title: str = "", queries: Sequence[str] = (), a: str = "", b: str = "", category: str = ""
) -> list[dict[str, Any]]:
    """Chat messages that ask for a verdict.

    Facts stand in one JSON object, so that a title or a creative cannot pose as an instruction's end or as an answer.

    Args:
        kind: pictures or texts; with ``image`` the message has two parts ``{"type": "image"}``, A's first: the caller
            passes the pictures beside it, in this order.
        a, b: the texts of the creatives (for pictures: their words, if known).
    """
    facts: dict[str, Any] = {"title": title, "category": category, "searches": list(queries)}
    facts |= {"A": a, "B": b} if kind == "text" else {"words on A": a, "words on B": b}
    given = json.dumps({k: v for k, v in facts.items() if v}, ensure_ascii=False).replace("<", "\\u003c")
    asked = "\n".join(f"{q.number}. {q.key}: {q.asked(kind)}" for q in QUESTIONS)
    words = {"type": "text", "text": f"{given}\n\n{asked}"}
    pictures: list[dict[str, Any]] = []
    if kind == "image":
        for side in "AB":
            pictures += [{"type": "text", "text": f"Creative {side}:"}, {"type": "image"}]
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [*pictures, words]},
    ]
