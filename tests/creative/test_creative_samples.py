"""What a model is shown: true sentences, both orders, traces that can be looked up, hints that were not peeped at."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from creative_log import make_log

from moonshelf.creative.chooser import Chooser
from moonshelf.creative.facts import holds, read_fact
from moonshelf.creative.learn import Material, gather, learn
from moonshelf.creative.pairs import PairRules, Pairs
from moonshelf.creative.protocol import QUESTIONS, read_verdict
from moonshelf.creative.rewards import truth
from moonshelf.creative.samples import chances_of, crossed, make_samples, opinion, told_facts
from moonshelf.encoder import CompactEncoder
from moonshelf.shop.shop import open_shop


@pytest.fixture(scope="module")
def learned(
    tmp_path_factory: pytest.TempPathFactory, _untrained: CompactEncoder
) -> tuple[Material, Chooser, Pairs]:
    folder = tmp_path_factory.mktemp("samples") / "shop"
    folder.mkdir()
    make_log(60).drop("number").write_parquet(folder / "creatives.parquet")
    material = gather(open_shop(folder, require_products=False), _untrained, splits=("train", "val"))
    chooser, pairs = learn(material, _untrained, PairRules(impressions=0))
    return material, chooser, pairs


def test_both_orders_say_the_same_of_the_pair(learned: tuple[Material, Chooser, Pairs]) -> None:
    material, chooser, pairs = learned
    chances = np.linspace(0.1, 0.9, len(pairs))
    samples = make_samples(material, chooser, pairs, chances, brief=True)
    assert len(samples) == 2 * len(pairs) and [s.swapped for s in samples[:4]] == [False, True, False, True]
    for one, other in zip(samples[::2], samples[1::2], strict=True):
        assert one.pair == other.pair and {one.winner, other.winner} == {"A", "B"}
        assert np.array_equal(one.a, other.b) and np.array_equal(one.b, other.a)
        if one.reference is not None and other.reference is not None:
            assert dict(one.reference.swapped().answers) == dict(other.reference.answers)
    text = samples[0].messages[1]["content"][-1]["text"]
    known = json.loads(text.splitlines()[1])
    assert known["selector"] == "B 90%" and samples[0].messages[1]["content"][0]["type"] == "text"


def test_an_opinion_is_the_same_in_both_orders() -> None:
    assert [opinion(p) for p in (0.28, 0.72, 0.5, 0.504, 0.496, 0.506)] == [
        "B 72%", "A 72%", "even", "even", "even", "A 51%"
    ]  # fmt: skip
    turned = {"A": "B", "B": "A", "e": "e"}
    for p in np.linspace(0.001, 0.999, 41):
        one, other = opinion(float(p)), opinion(1 - float(p))
        assert one[1:] == other[1:] and turned[one[0]] == other[0]


def test_traces_are_true_and_can_be_looked_up(learned: tuple[Material, Chooser, Pairs]) -> None:
    material, chooser, pairs = learned
    samples = make_samples(material, chooser, pairs, None, brief=False)
    checked = 0
    for s in samples:
        text = s.messages[1]["content"][-1]["text"]
        assert all(q.text in text for q in QUESTIONS) and "selector" not in text
        if not s.answer:
            continue
        verdict = read_verdict(s.answer)
        assert verdict.choice.value == s.winner
        known = json.loads(text.splitlines()[1])["measured"]
        assert all(reason in known for reason in verdict.reasons.values())
        if verdict.reasons:
            assert truth(s.answer, s.a, s.b) == 1.0
            checked += 1
    assert checked > len(pairs)


def test_told_facts_are_true_and_loudest_first(learned: tuple[Material, Chooser, Pairs]) -> None:
    material, chooser, _ = learned
    a, b = material.seen.measures[0], material.seen.measures[3]
    told = told_facts(a, b, chooser.teacher, 4)
    assert 0 < len(told) <= 4
    for sentence in told:
        found = read_fact(sentence)
        assert found is not None and found.side == "A" and holds(found, a, b)
    assert told_facts(a, a, chooser.teacher) == []


def test_hints_come_from_selectors_that_did_not_see_the_test(
    learned: tuple[Material, Chooser, Pairs],
) -> None:
    """Clicks of one training test are turned round: the hint about it stays what it was."""
    material, chooser, pairs = learned
    scores = crossed(material, chooser, folds=3, seed=0)
    assert scores.shape == (len(material.whole),)
    frame = material.whole.frame
    group = frame.filter(pl.col("split") == "train")["group"][0]
    turned = frame.with_columns(
        pl.when(pl.col("group") == group)
        .then(pl.col("impressions") // 2 - pl.col("clicks"))
        .otherwise(pl.col("clicks"))
        .alias("clicks")
    )
    from dataclasses import replace

    other = replace(material, whole=replace(material.whole, frame=turned))
    again, at = crossed(other, chooser, folds=3, seed=0), (frame["group"] == group).to_numpy()
    # spreads of effects are taken over all, so scores may shrink together; their order inside the test stays
    assert np.array_equal(np.argsort(scores[at]), np.argsort(again[at]))
    assert not np.allclose(scores[~at], again[~at])
    places = material.places(pairs)
    chances = chances_of(chooser, scores, places)
    assert ((chances > 0.5) == (scores[places[0]] > scores[places[1]])).all()


def test_a_brief_prompt_is_a_fraction_and_holds_no_tags_of_a_creative() -> None:
    """A brief prompt is a fraction of the whole one."""
    from moonshelf.creative.pairs import CreativePair
    from moonshelf.creative.samples import messages
    from moonshelf.types import Creative

    a, b = Creative("a", 10, 1, text="one <answer>A</answer>"), Creative("b", 10, 2, text="two")
    pair = CreativePair(a, b, "g", "train", "a title", "", (), -1.0, 1.0, "B")
    brief, whole = (str(messages("text", pair, [], None, brief=flag)) for flag in (True, False))
    assert 2 * len(brief) < len(whole) and "<answer>A</answer>" not in brief


def test_conceding_traces_are_learned_when_asked_for(learned: tuple[Material, Chooser, Pairs]) -> None:
    """A pair whose measures speak for the loser has a trace that says so; without them measures are never wrong."""
    material, chooser, pairs = learned
    at, seen = material.places(pairs), material.seen.measures
    spoken = np.array([chooser.teacher.evidence(seen[i], seen[j]).sum() for i, j in zip(*at, strict=True)])
    against = (spoken > 0) != (pairs.frame["winner"] == "A").to_numpy()
    strict = make_samples(material, chooser, pairs, None, brief=True, both=False)
    whole = make_samples(material, chooser, pairs, None, brief=True, both=False, concede=True)
    assert not any(s.answer for s, wrong in zip(strict, against, strict=True) if wrong)
    conceding = [s for s, wrong in zip(whole, against, strict=True) if wrong and s.answer]
    assert conceding, "no pair of the log is decided against its measures"
    for s in conceding:
        verdict = read_verdict(s.answer)
        assert verdict.choice.value == s.winner and (not verdict.reasons or truth(s.answer, s.a, s.b) == 1.0)
