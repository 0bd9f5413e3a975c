"""Creatives as the command line calls them: a selector trained, measured on a split, and asked."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from moonshelf.creative.backbones import read_with
from moonshelf.creative.choose import check_encoder
from moonshelf.creative.chooser import FILE, STAGE, Chooser, find_chooser, load_chooser
from moonshelf.creative.learn import Material, gather, judged, learn, pair_rules
from moonshelf.creative.measures import NAMES, VERSION
from moonshelf.creative.pairs import PairRules, Pairs, build_pairs, one_line
from moonshelf.encoder import CompactEncoder, load_encoder
from moonshelf.errors import InputError, TooLittleData
from moonshelf.evaluation import selection
from moonshelf.evaluation.selection import Judged
from moonshelf.pipeline import device
from moonshelf.progress import duration, say
from moonshelf.reasoning import has_reasoner, judge_by_words, some_pairs
from moonshelf.shop.shop import Shop
from moonshelf.types import Interval
from moonshelf.workspace import atomic_folder, code_version, digest, machine, read_manifest, write_manifest


def train_creative(
    shop: Shop, work: Path, encoder: CompactEncoder, rules: PairRules, *, seed: int = 0, language: str = ""
) -> Path:
    """Train the selector into ``work/creative``; nothing is done where one of the same inputs is there.

    Args:
        language: ``smol`` reads texts with a frozen language model, too.

    Raises:
        InputError, TooLittleData: no creatives, or too few.
    """
    folder, begun = work / STAGE, time.monotonic()
    reader = read_with(language, device())
    inputs = {"shop": shop.fingerprint, "encoder": encoder.version, "measures": digest([VERSION, *NAMES])}
    if reader is not None:
        inputs["language"] = reader.version
    done = read_manifest(folder)
    if done is not None and done.get("key") == digest([STAGE, inputs, dataclasses.asdict(rules), seed]):
        say(f"creative: done already ({folder})")
        return folder
    material = gather(shop, encoder, cache=work / "creative-seen", splits=("train", "val"), language=reader)
    if language and not material.language:
        say("creative: these creatives are pictures; the language model reads texts alone and is not used")
    chooser, pairs = learn(material, encoder, rules, seed=seed)
    say(f"creative: {one_line(pairs.report)}")
    with atomic_folder(folder, marks=(FILE,)) as out:
        chooser.save(out)
        pairs.save(out / "pairs")
        write_manifest(
            out,
            stage=STAGE,
            inputs=inputs,
            config=dataclasses.asdict(rules),
            seed=seed,
            seconds=time.monotonic() - begun,
            metrics={"pairs": dict(pairs.report), "creatives": chooser.about["creatives"]},
        )
    told = chooser.fast.about
    say(
        f"creative: reads {' + '.join(told['blocks'])} of {told['train']:,} creatives, in "
        f"{duration(time.monotonic() - begun)}"
    )
    return folder


@dataclass(frozen=True, slots=True)
class CreativeResult:
    """How well creatives are told apart.

    Attributes:
        systems: answers by name, the one that is reported last.
        pairs: what was asked, with its counts.
        kind: of the creatives.
        split: that they are of.
        seed: of the intervals.
        provenance: on what, with what.
        written: of a reasoner, by its name: how well formed and how true its answers are, and what they cost.
    """

    systems: dict[str, Judged]
    pairs: Pairs
    kind: str
    split: str
    seed: int
    provenance: dict[str, Any]
    written: dict[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The name of what is reported."""
        return list(self.systems)[-1]

    @property
    def _drawn(self) -> str:
        kept = self.pairs.report.get("kept", len(self.pairs))
        return "" if kept == len(self.pairs) else f"; {len(self.pairs)} of them drawn by lot"

    def to_json(self) -> dict[str, Any]:
        """One object for ``--json``."""
        found = self.systems[self.ours]
        frame = self.pairs.frame

        def plain(metrics: dict[str, Interval]) -> dict[str, Any]:
            return {str(name): interval.as_dict() for name, interval in metrics.items()}

        return {
            "metrics": plain(selection.selection_metrics(found, seed=self.seed)),
            "system": self.ours,
            "baselines": {
                name: plain(selection.selection_metrics(other, seed=self.seed))
                for name, other in self.systems.items()
                if name != self.ours
            },
            "difference": {
                name: selection.difference(found, other, seed=self.seed).as_dict()
                for name, other in self.systems.items()
                if name != self.ours
            },
            "by_category": plain(selection.by_bucket(found, frame["category"].to_list(), seed=self.seed)),
            "by_gap": plain(
                selection.by_bucket(found, selection.gap_buckets(frame["gap"].to_numpy()), seed=self.seed)
            ),
            "protocol": {
                "split": self.split, "kind": self.kind, "pairs": len(self.pairs), "tests": frame["group"].n_unique(),
                "intervals_over": "tests", "rules": dataclasses.asdict(self.pairs.rules), "left_out": self.pairs.report,
            },
            "written": self.written,
            "provenance": self.provenance,
        }  # fmt: skip

    def __str__(self) -> str:
        lines = [
            f"split {self.split}: {one_line(self.pairs.report)}{self._drawn}",
            f"asked in both orders; 95% intervals over {self.pairs.frame['group'].n_unique()} tests",
            selection.table(self.systems, seed=self.seed, against=self.ours),
        ]
        if self.pairs.frame["group"].n_unique() < selection.FEW:
            lines.append("so few tests: the intervals say little")
        gaps = selection.gap_buckets(self.pairs.frame["gap"].to_numpy())
        for gap, found in selection.by_bucket(self.systems[self.ours], gaps, seed=self.seed).items():
            lines.append(f"gap {gap:<14} {found}  n = {found.n}")
        for name, told in self.written.items():
            lines.append(
                f"{name}: {told['read']:.1%} of {told['answers']:,} answers keep the format, "
                f"{told['reasons_true']:.1%} of their reasons are true, {told['tokens']:.0f} tokens and "
                f"{told['seconds']:.2f} s an answer, at most {told['gigabytes']:.1f} GB of memory in all"
            )
        return "\n".join(lines)


def evaluate_creative(
    shop: Shop, path: str | Path, encoder: CompactEncoder, *, split: str = "test", seed: int = 0, words: bool = True,
    zero_shot: bool = False, limit: int = 0,
) -> CreativeResult:  # fmt: skip
    """Ask a selector about the pairs of a split, in both orders, beside its baselines.

    Args:
        words: ask its reasoner, if there is one; what it says is reported then.
        zero_shot: and its backbone as it came.
        limit: at most so many pairs, drawn by lot; 0: all.

    Raises:
        InputError, TooLittleData: no selector, another encoder or kind, or no pairs in the split.
    """
    chooser = load_chooser(path)
    check_encoder(chooser, encoder)
    asked = words and has_reasoner(path)
    if zero_shot and not asked:
        raise InputError(
            "no reasoner is asked, so none can be asked as it came", mend="leave --zero-shot out"
        )
    language = read_with(chooser.language, device())
    material = gather(shop, encoder, splits=(split,), among=chooser.headlines, language=language)
    pairs = some_pairs(split_pairs(material, chooser, split, seed), limit, seed)
    systems, written = judged(chooser, material, pairs), dict[str, Any]()
    if asked:
        by_words, written = judge_by_words(path, chooser, material, pairs, shop, zero_shot=zero_shot)
        systems |= by_words
    trained = (read_manifest(find_chooser(path)) or {}).get("inputs", {}).get("shop")
    if trained == shop.fingerprint and split != "test":
        say(f"creative: {split} was learned from or chosen on; test tells how good the selector is")
    provenance = {
        "shop": shop.fingerprint, "trained_on": trained, "encoder": encoder.version, "seed": seed,
        "code": code_version(), "machine": machine(),
    }  # fmt: skip
    return CreativeResult(systems, pairs, material.kind, split, seed, provenance, written)


def split_pairs(material: Material, chooser: Chooser, split: str, seed: int) -> Pairs:
    """The pairs of a split by the chooser's rules."""
    frame = material.logged.frame.filter(pl.col("split") == split)
    if not len(frame):
        raise TooLittleData(f"there are no creatives in split {split}", mend="choose another with --split")
    return build_pairs(
        replace(material.logged, frame=frame), pair_rules(material.kind, chooser.rules), seed=seed
    )


def encoder_for(path: str | Path, given: str | None, chooser: Chooser | None = None) -> CompactEncoder:
    """The encoder of a selector: the one named, or of the work folder, or ``compact``, whichever has its version.

    Raises:
        InputError: none of them has it.
    """
    if given is not None:
        return load_encoder(given, device())
    root = Path(path)
    tried: list[str | Path] = [root, root.parent, "compact"]
    for candidate in tried:
        try:
            encoder = load_encoder(candidate, device())
        except InputError:
            continue
        if chooser is None or encoder.version == chooser.encoder:
            return encoder
    assert chooser is not None
    raise InputError(
        f"the encoder {chooser.encoder} that the selector reads was not found",
        where=str(path),
        mend="name it with --encoder PATH",
    )


def accuracy_line(result: CreativeResult) -> str:
    """What a summary prints of it."""
    found = selection.selection_metrics(result.systems[result.ours], seed=result.seed)
    return f"{'creatives, pairs right':<32} {found['accuracy']}  n = {len(result.pairs)}"
