"""What a reasoning model is shown of a pair, and what it should write: grounded prompts, traces, both orders.

A small model cannot count commas, and a large one should not guess where numbers are known: what was measured of the
pair is given as sentences (``facts``, those that weigh most in the log), beside what the fast selector holds of it. The
model weighs them, says which count, and chooses. Hints for pairs to learn from come from selectors that have not seen
their tests (``crossed``), or the model would learn to trust a selector that knows the answer. Our design.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from moonshelf.creative.chooser import Chooser
from moonshelf.creative.facts import INDEX, PHRASES, fact, write_fact
from moonshelf.creative.fast import FastSelector, sigmoid
from moonshelf.creative.fit import fit_fast
from moonshelf.creative.learn import Material
from moonshelf.creative.measures import Brief
from moonshelf.creative.pairs import CreativePair, Pairs
from moonshelf.creative.protocol import Kind, Verdict, prompt, write_verdict
from moonshelf.creative.teacher import Teacher, Trace
from moonshelf.types import Creative

FACTS = 10  # sentences that a prompt holds at most
FOLDS = 5
BRIEF = (
    "Two advertising creatives, A and B. Answer the ten questions between <think> and </think>, then write A or B "
    "between <answer> and </answer>: which one will more people click?"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One question to the model.

    Attributes:
        messages: the chat.
        images: A's and B's pictures; none of texts.
        answer: what should be written, "" where there is no trace of it.
        reference: the verdict of it.
        winner: ``A`` or ``B``.
        pair: number of the pair. swapped: whether it is asked in the other order.
        a, b: measures of the creatives as they stand here.
    """

    messages: list[dict[str, Any]]
    images: tuple[Image.Image, ...]
    answer: str
    reference: Verdict | None
    winner: str
    pair: int
    swapped: bool
    a: np.ndarray
    b: np.ndarray


def told_facts(a: np.ndarray, b: np.ndarray, teacher: Teacher, most: int = FACTS) -> list[str]:
    """Sentences about A against B, those of the most evidence (either way) first."""
    evidence = teacher.evidence(a, b)
    loud = sorted((name for name in PHRASES if evidence[INDEX[name]]), key=lambda n: -abs(evidence[INDEX[n]]))
    told = (fact(name, "A", a, b) for name in loud)
    return [write_fact(t) for t in told if t is not None][:most]


def opinion(chance: float) -> str:
    """The fast selector's probability that A wins, as a prompt says it: ``B 72%`` for .28.

    The letter comes first because a small model copies a letter after eight hundred examples, and had not learned by
    then on which side of 50 a number lies (docs/LOG.md, E53).
    """
    sure = max(chance, 1 - chance)
    return f"{'A' if chance > 0.5 else 'B'} {sure:.0%}" if round(100 * sure) > 50 else "even"


def messages(
    kind: Kind, pair: CreativePair, facts: Sequence[str], chance: float | None, *, brief: bool
) -> list[dict[str, Any]]:
    """The chat about a pair as it stands.

    Args:
        facts: sentences that are true of it.
        chance: the fast selector's probability that A wins; None says nothing of it.
        brief: without the ten questions' wordings, for models that are trained on the format.
    """
    told = prompt(
        kind, title=pair.title, category=pair.category, queries=pair.queries, a=pair.a.text or "", b=pair.b.text or ""
    )  # fmt: skip
    known: dict[str, Any] = {"measured": list(facts)} if facts else {}
    if chance is not None:
        known["selector"] = opinion(chance)
    last = told[-1]["content"][-1]
    given, _, asked = last["text"].partition("\n\n")
    more = json.dumps(known, ensure_ascii=False).replace("<", "\\u003c") if known else ""
    if brief:
        told[0]["content"][0]["text"] = BRIEF
        last["text"] = "\n".join(part for part in (given, more) if part)
    else:
        last["text"] = "\n".join(part for part in (given, more) if part) + "\n\n" + asked
    return told


def make_samples(
    material: Material,
    chooser: Chooser,
    pairs: Pairs,
    chances: np.ndarray | None,
    *,
    brief: bool,
    both: bool = True,
    picture: Callable[[str], Image.Image] | None = None,
    facts: int = FACTS,
    concede: bool = False,
) -> list[Sample]:
    """Samples of pairs, each in both orders, the two after one another.

    Args:
        material: creatives of the pairs. chooser: whose teacher writes the traces.
        chances: ``[P]`` of the fast selector that A wins, or None.
        both: False asks in the stored order alone.
        picture: gives a picture by its id, for creatives that are pictures.
        facts: sentences in a prompt.
        concede: with traces of pairs whose measures speak for the loser, too: their reasons are true and concede it.
            Without them a model learns that measures are never wrong, and stops weighing the selector's hint.
    """
    at = material.places(pairs)
    teacher, measures = chooser.teacher, material.seen.measures
    out: list[Sample] = []
    for number, pair in enumerate(pairs):
        a, b = measures[at[0][number]], measures[at[1][number]]
        chance = None if chances is None else float(chances[number])
        shown = () if picture is None else tuple(picture(c.image_id or "") for c in (pair.a, pair.b))
        one = _sample(material.kind, pair, a, b, chance, teacher, number, brief, shown, facts, concede)
        out.append(one)
        if both:
            turned = _sample(
                material.kind, pair.swapped(), b, a, None if chance is None else 1 - chance, teacher, number, brief,
                shown[::-1], facts, concede,
            )  # fmt: skip
            out.append(replace(turned, swapped=True))
    return out


def _sample(
    kind: Kind, pair: CreativePair, a: np.ndarray, b: np.ndarray, chance: float | None, teacher: Teacher, number: int,
    brief: bool, images: tuple[Image.Image, ...], most: int, concede: bool,
) -> Sample:  # fmt: skip
    facts = told_facts(a, b, teacher, most)
    trace = teacher.write(a, b, pair.winner, contradicting=concede)
    answer, reference = "", None
    if isinstance(trace, Trace):
        # reasons as the prompt says them, of A against B: they can be looked up there
        reasons = {key: fact(told.measure, "A", a, b) for key, told in trace.facts.items()}
        said = {key: write_fact(told) for key, told in reasons.items() if told is not None}
        reference = Verdict(
            trace.verdict.answers, {key: words for key, words in said.items() if words in facts}
        )
        answer = write_verdict(reference)
    return Sample(
        messages(kind, pair, facts, chance, brief=brief), images, answer, reference, pair.winner, number, False, a, b
    )  # fmt: skip


def question(
    kind: Kind, one: Brief, other: Brief, a: np.ndarray, b: np.ndarray, chance: float | None, teacher: Teacher, *,
    brief: bool, facts: int = FACTS,
) -> Sample:  # fmt: skip
    """A sample about two creatives of which no counts are known (its ``winner`` and ``answer`` say nothing).

    Args:
        a, b: their measures. chance: of the fast selector, or None. teacher: whose weights say which facts count.
    """
    x, y = (Creative(name, 1, 0, text=c.text, queries=c.queries) for name, c in (("a", one), ("b", other)))
    pair = CreativePair(x, y, "", "test", one.title, "", one.queries, 1.0, 0.0, "A")
    told = told_facts(a, b, teacher, facts)
    images = tuple(c.image() for c in (one, other) if c.image is not None)
    chat = messages(kind, pair, told, chance, brief=brief)
    return Sample(chat, images, "", None, "A", 0, False, a, b)


def crossed(material: Material, chooser: Chooser, *, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """``[N]`` scores f of ``material.whole``, each by a selector that was fitted without its test.

    Blocks and penalty are those of the chooser's selector. Creatives that are not of train are scored by the selector
    of all of train.

    Cost: ``folds + 1`` fits.
    """
    about = chooser.fast.about
    given: dict[str, Any] = {
        "mixes": [about["blocks"]], "penalties": [about["penalty"]], "seed": seed, "encoder": chooser.encoder,
        "refit": False,
    }  # fmt: skip
    frame = material.whole.frame
    split, group = frame["split"].to_numpy(), frame["group"].to_numpy()
    names = np.unique(group[split == "train"])
    fold = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % folds, strict=True))
    of = np.array([fold[g] if s == "train" else -1 for g, s in zip(group, split, strict=True)])
    texts = material.texts
    out = np.zeros(len(frame))
    for number in range(-1, folds):
        learn = (split == "val") | ((split == "train") & (of != number))
        model: FastSelector = fit_fast(
            replace(material.whole, frame=frame.filter(learn)), material.seen.take(learn), **given
        )
        at = np.flatnonzero(of == number)
        out[at] = model.score(material.seen.take(at), [texts[i] for i in at])
    return out


def chances_of(chooser: Chooser, scores: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """``[P]`` probabilities that A wins, of scores of creatives."""
    return sigmoid(chooser.fast.scale * (scores[at[0]] - scores[at[1]]))
