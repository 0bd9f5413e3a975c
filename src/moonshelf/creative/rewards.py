"""Rewards of a written verdict: small pure functions, one number an answer each (Creative4U 2508.12628 names none).

    right        1 where the choice is the winner
    format       1 where the ten lines and the two tags are read strictly; 1/4 for the tags alone
    protocol     share of questions 3 to 9 answered as the reference does; 0 where it cannot be read
    truth        share of the reasons that are true of the pair; a false one and one of no known form count alike
    length       0 up to ``most`` tokens, then falling by 1 each ``most`` more
    consistent   share of the answers to the other order that name the same creative (a group holds both orders)

All but ``length`` lie in 0..1; what a training run weighs them with is :data:`WEIGHTS`. Our design.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moonshelf.creative.protocol import BadAnswer, Verdict, agreement, read_choice, read_verdict
from moonshelf.creative.teacher import truthful

WEIGHTS: dict[str, float] = {
    "right": 1.0, "format": 0.2, "protocol": 0.1, "truth": 0.2, "length": 0.1, "consistent": 0.2
}  # fmt: skip


def right(text: str, winner: str) -> float:
    """Whether the choice is the winner."""
    choice = read_choice(text)
    return float(choice is not None and choice.value == winner)


def well_formed(text: str) -> float:
    """How much of the format is kept."""
    if _verdict(text) is not None:
        return 1.0
    return 0.25 if read_choice(text) is not None else 0.0


def protocol_agreement(text: str, reference: Verdict | None) -> float:
    """Agreement with a reference; 0 without one."""
    verdict = _verdict(text)
    return 0.0 if verdict is None or reference is None else agreement(verdict, reference)


def truth(text: str, a: np.ndarray, b: np.ndarray) -> float:
    """Share of reasons that are true of creatives with these measures; 0 without any reason."""
    verdict = _verdict(text)
    if verdict is None or not verdict.reasons:
        return 0.0
    told, false, unread = truthful(verdict, a, b)
    return told / (told + false + unread)


def brevity(tokens: int, most: int) -> float:
    """0 or less."""
    return -max(0, tokens - most) / most


def consistency(texts: Sequence[str], pair: Sequence[int], swapped: Sequence[bool]) -> list[float]:
    """For each answer: the share of the answers to the other order of its pair that name the same creative.

    Args:
        texts: answers of one batch. pair: what each is about. swapped: which order it was asked in.

    Returns:
        1/2 where the other order is not in the batch or nobody chose there; 0 where the answer itself is no choice.
    """
    first: list[bool | None] = []  # whether the pair's first creative was chosen, in either order
    for text, turned in zip(texts, swapped, strict=True):
        choice = read_choice(text)
        first.append(None if choice is None else (choice.value == "A") != turned)
    out = []
    for at, own in enumerate(first):
        others = [
            f
            for i, f in enumerate(first)
            if pair[i] == pair[at] and swapped[i] != swapped[at] and f is not None
        ]
        if own is None:
            out.append(0.0)
        else:
            out.append(sum(f == own for f in others) / len(others) if others else 0.5)
    return out


def _verdict(text: str) -> Verdict | None:
    try:
        return read_verdict(text)
    except BadAnswer:
        return None
