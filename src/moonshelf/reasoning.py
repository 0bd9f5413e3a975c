"""The reasoner of creatives as the command line calls it: SFT and GRPO on a shop's pairs, kept beside the selector."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moonshelf.config import as_dict
from moonshelf.creative.backbones import load_backbone, read_with
from moonshelf.creative.choose import Compared, Selection, check_encoder
from moonshelf.creative.chooser import REASONER, Chooser, find_chooser, load_chooser
from moonshelf.creative.config import CreativeConfig
from moonshelf.creative.facts import holds, read_fact, write_fact
from moonshelf.creative.learn import Material, gather
from moonshelf.creative.measures import Brief, see
from moonshelf.creative.pairs import Pairs, load_pairs
from moonshelf.creative.protocol import COMPARED, BadAnswer, Better, read_verdict
from moonshelf.creative.reasoner import (
    FILE,
    Answer,
    ReasonConfig,
    Reasoner,
    ask,
    both_orders,
    load_reasoner,
    with_lora,
)
from moonshelf.creative.samples import Sample, chances_of, crossed, make_samples, question
from moonshelf.creative.tournament import CLOSE, stand
from moonshelf.creative.tuning import LOG, grpo, sft
from moonshelf.encoder import CompactEncoder
from moonshelf.evaluation.selection import Judged
from moonshelf.pipeline import device
from moonshelf.progress import duration, say
from moonshelf.shop.shop import Shop
from moonshelf.workspace import atomic_folder, digest, peak_memory, read_manifest, write_manifest

SFT, GRPO = "sft", "grpo"


Teach = Callable[[list[Sample]], tuple[list[Sample], dict[str, int]]]


@dataclass(frozen=True, slots=True)
class Teaching:
    """A teacher other than the measured one.

    Attributes:
        name: tells it from others: model, address, prompt.
        write: gives samples with traces, and how many were kept and rejected.
    """

    name: str
    write: Teach


def train_reasoner(
    shop: Shop, work: Path, encoder: CompactEncoder, name: str, config: CreativeConfig, *, seed: int = 0,
    teaching: Teaching | None = None,
) -> Path:  # fmt: skip
    """Train a backbone into ``work/creative-reasoner``: ``sft/`` and ``grpo/`` hold a LoRA each.

    The selector in ``work/creative`` gives pairs, teacher and hints. A run that was cut off goes on; nothing is done
    where one of the same inputs is there, and SFT is not done again where only settings of GRPO changed.

    Args:
        name: of the backbone.
        teaching: who writes the traces in place of the measured teacher.

    Raises:
        InputError, TooLittleData: packages, weights or pairs are missing.
    """
    chooser, begun = load_chooser(work), time.monotonic()
    folder, unfinished = reasoner_folder(work), work / f".{REASONER}.unfinished"
    inputs = {
        "selector": _selector(work),
        "backbone": name,
        "teacher": teaching.name if teaching else "measured",
    }
    settings = {part: as_dict(getattr(config, part)) for part in ("reason", SFT, GRPO)}
    key = digest([REASONER, inputs, settings, seed])
    done = read_manifest(folder)
    if done is not None and done.get("key") == key:
        say(f"creative reasoner: done already ({folder})")
        return folder
    backbone = load_backbone(name, device=device(), seed=seed)
    language = read_with(chooser.language, device())
    cache = work / "creative-seen"
    material = gather(shop, encoder, cache=cache, splits=("train", "val"), language=language)
    pairs = load_pairs(find_chooser(work) / "pairs").part("train")
    chances = None
    if config.reason.hint:
        chances = chances_of(chooser, crossed(material, chooser, seed=seed), material.places(pairs))
    samples = _samples(material, chooser, pairs, chances, backbone.brief, config.reason, shop)
    rejected: dict[str, int] = {}
    if teaching is not None:  # it does not know the format: its questions are the whole ones
        whole = _samples(material, chooser, pairs, chances, False, config.reason, shop)
        taught, rejected = teaching.write(whole)
        samples = [
            replace(s, answer=t.answer, reference=t.reference) for s, t in zip(samples, taught, strict=True)
        ]
        rejected.pop("kept", None)
    most = config.reason.most_tokens
    long = sum(len(backbone.tokenizer(s.answer)["input_ids"]) > most for s in samples if s.answer)
    if long:
        say(
            f"creative reasoner: {long:,} traces are longer than {most} tokens; answers like them are cut before they "
            "choose: raise reason.most_tokens (and grpo.most_tokens)"
        )
    kept = sum(1 for s in samples if s.answer)
    why = ", ".join(f"{n:,} {reason}" for reason, n in rejected.items())
    say(
        f"creative reasoner: {kept:,} of {len(samples):,} questions have a trace; of the others "
        + (why or "nothing that is measured differs, or it speaks against the label")
    )
    told: dict[str, Any] = {"questions": len(samples), "traces": kept, "rejected": rejected}
    place = unfinished / digest([inputs, settings["reason"], settings[SFT], seed])
    kept_sft = place / "kept-sft"
    if done is not None and not (kept_sft / FILE).is_file() and _same_sft(done, inputs, settings, seed):
        (place / SFT).mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / f"{SFT}.jsonl", place / SFT / LOG)
        with atomic_folder(kept_sft, marks=(FILE,)) as out:
            shutil.copytree(folder / SFT, out, dirs_exist_ok=True)
    if (kept_sft / FILE).is_file():
        say("creative reasoner: SFT is done already")
        reasoner = load_reasoner(kept_sft, trainable=True, backbone=backbone)
    else:
        reasoner = with_lora(backbone, config.reason, seed=seed)
        reasoner.about = {"stage": SFT, **sft(reasoner, samples, place / SFT, config.sft, seed=seed)}
        with atomic_folder(kept_sft, marks=(FILE,)) as out:
            reasoner.save(out)
    told[SFT] = reasoner.about
    if config.grpo.steps:
        told[GRPO] = grpo(reasoner, samples, place / key / GRPO, config.grpo, seed=seed)
    with atomic_folder(folder, marks=("manifest.json",)) as out:
        shutil.copytree(kept_sft, out / SFT)
        stages = [SFT]
        if config.grpo.steps:
            (out / GRPO).mkdir()
            reasoner.about = {"stage": GRPO, "steps": told[GRPO]["steps"]}
            reasoner.save(out / GRPO)
            stages.append(GRPO)
        for stage in stages:
            shutil.copy2((place if stage == SFT else place / key) / stage / LOG, out / f"{stage}.jsonl")
        seconds = time.monotonic() - begun
        write_manifest(
            out, stage=REASONER, inputs=inputs, config=settings, seed=seed, seconds=seconds, metrics=told
        )
    shutil.rmtree(unfinished, ignore_errors=True)
    say(f"creative reasoner: trained in {duration(time.monotonic() - begun)}")
    return folder


def _same_sft(done: dict[str, Any], inputs: dict[str, str], settings: dict[str, Any], seed: int) -> bool:
    """Whether a finished reasoner's SFT is the one asked for."""
    config = done.get("config", {})
    return bool(
        done.get("inputs") == inputs
        and done.get("seed") == seed
        and all(config.get(part) == settings[part] for part in ("reason", SFT))
    )


def reasoner_folder(path: str | Path) -> Path:
    """Where the reasoner of a selector lies: beside its folder."""
    root = Path(path).resolve()
    return (root if root.name != "creative" else root.parent) / f"creative-{REASONER}"


def has_reasoner(path: str | Path) -> bool:
    """Whether there is one of this very selector; one of another is said and not taken."""
    folder = reasoner_folder(path)
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    if manifest["inputs"]["selector"] != _selector(path):
        say(f"creative: the reasoner in {folder} was trained with another selector and is not asked")
        return False
    return True


def _selector(path: str | Path) -> str:
    return str((read_manifest(find_chooser(path)) or {}).get("key", ""))


def _samples(
    material: Material, chooser: Chooser, pairs: Pairs, chances: np.ndarray | None, brief: bool, config: ReasonConfig,
    shop: Shop | None,
) -> list[Sample]:  # fmt: skip
    picture = shop.images.decode if material.kind == "image" and shop is not None else None
    return make_samples(
        material,
        chooser,
        pairs,
        chances,
        brief=brief,
        picture=picture,
        facts=config.facts,
        concede=config.concede,
    )


def questions(
    material: Material, chooser: Chooser, pairs: Pairs, reasoner: Reasoner, shop: Shop | None
) -> list[Sample]:
    """Both orders of pairs that no selector was fitted on."""
    chances = None
    if reasoner.config.hint:
        scores = chooser.fast.score(material.seen, material.texts)
        chances = chances_of(chooser, scores, material.places(pairs))
    return _samples(material, chooser, pairs, chances, reasoner.backbone.brief, reasoner.config, shop)


def choose_by_words(
    path: str | Path, chooser: Chooser, encoder: CompactEncoder, creatives: Sequence[Brief], names: Sequence[str],
    *, close: float = CLOSE, reasoner: Reasoner | None = None,
) -> Selection:  # fmt: skip
    """Choose by what the reasoner writes of every pair, in both orders (Bradley-Terry over their mean).

    Reasons that are false of their pair, or state nothing that can be checked, are not repeated.

    Args:
        path: of the selector. reasoner: its reasoner, if it is loaded already.

    Raises:
        InputError: another encoder; the reasoner cannot be loaded.

    Cost: ``N (N - 1)`` answers.
    """
    check_encoder(chooser, encoder)
    folder = reasoner_folder(path)
    stage = GRPO if (folder / GRPO / FILE).is_file() else SFT
    reasoner = reasoner or load_reasoner(folder / stage, device=device())
    language = read_with(chooser.language, device())
    seen = see(encoder, creatives, among=chooser.headlines, language=language)
    f = chooser.fast.score(seen, [c.text or "" for c in creatives])
    asked = [(i, j) for i in range(len(creatives)) for j in range(len(creatives)) if i != j]
    samples = []
    for i, j in asked:
        chance = float(chooser.fast.chance(f[i : i + 1], f[j : j + 1])[0]) if reasoner.config.hint else None
        samples.append(
            question(
                chooser.kind, creatives[i], creatives[j], seen.measures[i], seen.measures[j], chance, chooser.teacher,
                brief=reasoner.backbone.brief, facts=reasoner.config.facts,
            )
        )  # fmt: skip
    begun = time.monotonic()
    answers = dict(zip(asked, ask(reasoner, samples), strict=True))
    spent = time.monotonic() - begun
    say(f"creative: {len(asked)} answers in {spent:.1f} s, at most {peak_memory():.1f} GB of memory in all")
    wins = np.full((len(creatives), len(creatives)), np.nan)
    for (i, j), answer in answers.items():
        wins[i, j] = answer.chance
    standing = stand(wins, close=close)
    if standing.flips:
        say(f"creative: {standing.flips:.0%} of the pairs are judged otherwise in the other order")
    best = int(standing.order[0])
    compared = []
    for other in standing.order[1:].tolist():
        chance = float(1 / (1 + np.exp(standing.strength[other] - standing.strength[best])))
        told, reasons, agrees = _of_both(answers, best, other, seen.measures)
        compared.append(Compared(other, chance, told, reasons, agrees, "words"))
    first = creatives[0]
    shares = chooser.measures.shares(seen)
    return Selection(tuple(names), standing, tuple(compared), first.title, first.queries, shares)


def _of_both(
    answers: dict[tuple[int, int], Answer], best: int, other: int, measures: np.ndarray
) -> tuple[dict[str, Better], dict[str, str], bool]:
    """What was written of two, A being the best one: of the order in which it was chosen, and whether it was in any."""
    found: tuple[dict[str, Better], dict[str, str], bool] = ({}, {}, False)
    for turned in (False, True):
        i, j = (other, best) if turned else (best, other)
        answer = answers[i, j]
        told, reasons = _read(answer, measures[i], measures[j])
        if not told:
            continue
        if turned:
            flip = {Better.A: Better.B, Better.B: Better.A}
            told = {key: flip.get(value, value) for key, value in told.items()}
            reasons = {key: _turned(reason) for key, reason in reasons.items()}
        agrees = answer.chance < 0.5 if turned else answer.chance > 0.5
        if agrees:
            return told, reasons, True
        found = found if found[0] else (told, reasons, False)
    return found


def _turned(reason: str) -> str:
    """The same fact with A and B exchanged."""
    told = read_fact(reason)
    assert told is not None  # it was read before
    return write_fact(replace(told, side="B" if told.side == "A" else "A"))


def _read(answer: Answer, a: np.ndarray, b: np.ndarray) -> tuple[dict[str, Better], dict[str, str]]:
    """Answers to questions 3 to 9, and the reasons among them that are true; empty where it cannot be read."""
    try:
        verdict = read_verdict(answer.text)
    except BadAnswer:
        return {}, {}
    found = {key: read_fact(reason) for key, reason in verdict.reasons.items()}
    true = {key for key, told in found.items() if told is not None and holds(told, a, b)}
    answers = {key: Better(verdict.answers[key].value) for key in COMPARED}
    return answers, {key: reason for key, reason in verdict.reasons.items() if key in true}


def judge_by_words(
    path: str | Path,
    chooser: Chooser,
    material: Material,
    pairs: Pairs,
    shop: Shop,
    *,
    zero_shot: bool = False,
) -> tuple[dict[str, Judged], dict[str, Any]]:
    """What the reasoner says of pairs after each stage, asked in both orders, and how it writes.

    Args:
        zero_shot: ask the bare backbone, too.

    Returns:
        Answers by name, the last stage last; and of each how many answers were read, reasons were true, tokens and
        seconds an answer took.
    """
    folder = reasoner_folder(path)
    stages = [stage for stage in (SFT, GRPO) if (folder / stage / FILE).is_file()]
    found: dict[str, Judged] = {}
    told: dict[str, Any] = {}
    won, group = (pairs.frame["winner"] == "A").to_numpy(), pairs.frame["group"].to_list()

    def record(name: str, reasoner: Reasoner) -> None:
        samples = questions(material, chooser, pairs, reasoner, shop)
        begun = time.monotonic()
        answers = ask(reasoner, samples)
        first, second = both_orders(samples, answers)
        found[name] = Judged(first, second, won, group)
        told[name] = written(samples, answers, time.monotonic() - begun)

    name = str((read_manifest(folder) or {})["inputs"]["backbone"])
    if zero_shot:
        bare = load_backbone(name, device=device())
        config = load_reasoner(folder / stages[0], backbone=load_backbone(name, device=device())).config
        record(f"{name}, zero-shot", Reasoner(bare, bare.model, config))
    for stage in stages:
        title = {SFT: f"{name}, SFT", GRPO: f"{name}, SFT + GRPO"}[stage]
        record(title, load_reasoner(folder / stage, device=device()))
    return found, told


def written(samples: list[Sample], answers: list[Answer], seconds: float) -> dict[str, float]:
    """How well formed and how true answers are, and what they cost."""
    from moonshelf.creative import rewards

    true = [rewards.truth(a.text, s.a, s.b) for s, a in zip(samples, answers, strict=True)]
    return {
        "answers": len(answers),
        "read": float(np.mean([rewards.well_formed(a.text) == 1 for a in answers])),
        "reasons_true": float(np.mean(true)),
        "tokens": float(np.mean([a.tokens for a in answers])),
        "seconds": seconds / max(len(answers), 1),
        "gigabytes": peak_memory(),
    }  # fmt: skip


def some_pairs(pairs: Pairs, most: int, seed: int) -> Pairs:
    """At most so many pairs, drawn by lot, in their order."""
    if not most or len(pairs) <= most:
        return pairs
    at = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:most])
    return replace(pairs, frame=pairs.frame[pl.Series(at)])
